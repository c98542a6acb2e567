/* The first process of every pod: it holds the pod's namespaces, and collects what nobody else does. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) {
  (void)signal;
  _exit(0);
}

static void collect(int signal) {
  (void)signal;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  sigaction(SIGINT, &(struct sigaction){.sa_handler = end}, NULL);
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
  sigaction(SIGCHLD, &(struct sigaction){.sa_handler = collect, .sa_flags = SA_NOCLDSTOP}, NULL);
  for (;;) pause();
}
