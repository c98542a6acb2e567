//! Types commands, shows what they print, and says what was expected where it differs.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::process::Command;

use crate::cluster::{Cluster, Controller, Ran, User, command::run, controller::sekuire, git::clean_env};

/// Why the demo ends early.
#[derive(Debug)]
pub(crate) struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a command printed, standard output and error together.
pub(crate) struct Printed {
    command: String,
    text: String,
}

impl Printed {
    /// Fails unless `part` was printed.
    pub(crate) fn shows(&self, part: &str) -> Result<(), Broken> {
        if self.text.contains(part) {
            return Ok(());
        }
        Err(Broken(format!("expected `{part}` in what `{}` printed", self.command)))
    }

    /// Fails if `part` was printed.
    pub(crate) fn lacks(&self, part: &str) -> Result<(), Broken> {
        if self.text.contains(part) {
            return Err(Broken(format!("did not expect `{part}` in what `{}` printed", self.command)));
        }
        Ok(())
    }
}

/// A terminal of the platform team, in its clone of the policies.
pub(crate) struct Shell {
    folder: PathBuf,
    env: Vec<(String, String)>,
}

impl Shell {
    pub(crate) fn new(cluster: &Cluster, folder: PathBuf) -> Shell {
        let mut env = cluster.kubectl_env(User::ADMIN);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        env.extend(clean_env(i64::try_from(now).unwrap_or(0)).into_iter().map(|(n, v)| (n.to_owned(), v)));
        // only what the demo brings along, and git, sh and friends
        let own = sekuire();
        let own = own.parent().unwrap_or(Path::new("."));
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = [own.to_owned(), cluster.programs().to_owned()].into_iter().chain(env::split_paths(&path));
        let path = env::join_paths(folders).expect("no folder has a colon in its name");
        env.push(("PATH".to_owned(), path.to_string_lossy().into_owned()));
        env.push(("NO_COLOR".to_owned(), "1".to_owned()));
        Shell { folder, env }
    }

    /// The clone of the policies, in which all commands run.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A heading.
    pub(crate) fn say(&self, text: &str) {
        println!("\n# {text}");
    }

    /// Shows how the controller was started.
    pub(crate) fn started(&self, controller: &Controller) {
        self.say("The controller: it watches Git, and answers the API server's questions.");
        println!("$ {} &", controller.command_line());
    }

    /// Runs a command that has to succeed, and shows it and what it prints.
    pub(crate) async fn run(&self, command: &str) -> Result<Printed, Broken> {
        println!("$ {command}");
        let ran = self.ran(command).await;
        let printed = show(command, &ran);
        if ran.succeeded() {
            return Ok(printed);
        }
        Err(Broken(format!("expected `{command}` to succeed; it ended with {:?}", ran.code)))
    }

    /// Runs a command that has to fail, and shows it and what it prints.
    pub(crate) async fn refused(&self, command: &str) -> Result<Printed, Broken> {
        println!("$ {command}");
        let ran = self.ran(command).await;
        let printed = show(command, &ran);
        if ran.succeeded() {
            return Err(Broken(format!("expected `{command}` to be refused; it succeeded")));
        }
        Ok(printed)
    }

    /// Runs a command that has to succeed, and shows nothing. Returns its standard output.
    pub(crate) async fn quiet(&self, command: &str) -> Result<String, Broken> {
        let ran = self.ran(command).await;
        if ran.succeeded() { Ok(ran.stdout) } else { Err(Broken(ran.to_string())) }
    }

    /// Runs a command until it succeeds, and shows nothing: the webhook has a watch of its own.
    pub(crate) async fn until(&self, command: &str) -> Result<(), Broken> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let tried = self.quiet(command).await;
            if tried.is_ok() || Instant::now() > deadline {
                return tried.map(|_| ());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ran(&self, line: &str) -> Ran {
        let mut command = Command::new("sh");
        let env = self.env.iter().map(|(name, value)| (name, value));
        command.args(["-c", line]).current_dir(&self.folder).envs(env);
        run(command, &[]).await
    }
}

fn show(command: &str, ran: &Ran) -> Printed {
    let text = format!("{}{}", ran.stdout, ran.stderr);
    for line in text.lines() {
        println!("{line}");
    }
    Printed { command: command.to_owned(), text }
}
