//! Servers as companies have them: nginx before `git http-backend`, OpenSSH, and a proxy. Each is of Debian's package, on
//! 127.0.0.1, in a folder of its own, and ends with the test.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use sekuire_policy::git::ClientCertificate;
use tempfile::TempDir;

use crate::cluster::guard::{self, Process};
use crate::cluster::leaks;
use crate::cluster::ports::Port;

/// What a program of Debian's packages is not there for; `None`: it is there.
pub(crate) fn missing() -> Option<String> {
    ["nginx", "fcgiwrap", "sshd", "ssh-keygen", "tinyproxy"].iter().find(|name| find(name).is_none()).map(|name| {
        format!("needs {name}: apt-get install --no-install-recommends nginx-light fcgiwrap openssh-server tinyproxy")
    })
}

fn find(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

fn start(name: &str, args: &[&str], log: &Path) -> Process {
    Process::start(&find(name).unwrap(), args, &[], log)
}

fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("sekuire-server-").tempdir().unwrap();
    guard::remove_at_end(folder.path());
    folder
}

/// Waits until something listens.
fn wait(what: &str, log: &Path, listens: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !listens() {
        assert!(Instant::now() < deadline, "{what} does not start: {}", fs::read_to_string(log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn generate() -> KeyPair {
    let key = KeyPair::generate().unwrap();
    leaks::secret("a key of a server or client", key.serialize_pem());
    key
}

/// A private certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "private authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, generate()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = generate();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// What a client shows.
    pub(crate) fn client(&self) -> ClientCertificate {
        let (chain, key) = self.sign("controller", ExtendedKeyUsagePurpose::ClientAuth);
        ClientCertificate { chain, key: key.into() }
    }
}

/// nginx with TLS before `git http-backend`. The repositories of a folder are served several times, by how one is to
/// authenticate: below `/open/`, `/basic/`, `/bearer/`, `/client/`; below `/moved/` it redirects to `/open/`, below
/// `/elsewhere/` to the same host at another port, below `/other/` to another name of it.
pub(crate) struct Web {
    folder: TempDir,
    port: Port,
    pub(crate) authority: Authority,
    /// Dropped first to last.
    _processes: [Process; 2],
}

impl Web {
    /// `elsewhere` is the port of `/elsewhere/` and `/other/`.
    pub(crate) fn start(root: &Path, token: &str, elsewhere: u16) -> Self {
        if token.len() >= 10 {
            leaks::secret("the token of a web server", token);
        }
        let (folder, port, authority) = (folder(), Port::reserve(), Authority::new());
        let at = |name: &str| folder.path().join(name);
        let (certificate, key) = authority.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        for (name, text) in [("ca.pem", authority.pem()), ("server.pem", certificate), ("server.key", key)] {
            fs::write(at(name), text).unwrap();
        }
        fs::write(at("users"), "").unwrap();
        let exec_path = Command::new("git").arg("--exec-path").output().unwrap().stdout;
        let config = NGINX
            .replace("@USER@", if is_root() { "user root;" } else { "" })
            .replace("@FOLDER@", &folder.path().display().to_string())
            .replace("@GIT_CORE@", String::from_utf8(exec_path).unwrap().trim())
            .replace("@ROOT@", &root.display().to_string())
            .replace("@ELSEWHERE@", &elsewhere.to_string())
            .replace("@PORT@", &port.number().to_string())
            .replace("@TOKEN@", token);
        fs::write(at("nginx.conf"), config).unwrap();
        let socket = at("fcgi.sock");
        let wrap = start("fcgiwrap", &["-c", "2", "-s", &format!("unix:{}", socket.display())], &at("fcgiwrap.log"));
        wait("fcgiwrap", &at("fcgiwrap.log"), || UnixStream::connect(&socket).is_ok());
        let prefix = folder.path().display().to_string();
        let nginx = start("nginx", &["-p", &prefix, "-c", "nginx.conf", "-e", "error.log"], &at("error.log"));
        wait("nginx", &at("error.log"), || TcpStream::connect(("127.0.0.1", port.number())).is_ok());
        Self { folder, port, authority, _processes: [nginx, wrap] }
    }

    /// The one user and password that are accepted from now on.
    pub(crate) fn accept(&self, username: &str, password: &str) {
        leaks::secret("a password of a web server", password);
        // nginx reads it at every request
        let path = self.folder.path().join("users");
        fs::write(path.with_extension("new"), format!("{username}:{{PLAIN}}{password}\n")).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.port.number())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// A line for each request: the request, the status, and the header `Authorization`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

const NGINX: &str = r#"
@USER@
daemon off;
worker_processes 1;
pid @FOLDER@/pid;
events {}
http {
  log_format requests '$request $status $http_authorization';
  access_log @FOLDER@/access.log requests;
  client_body_temp_path @FOLDER@/body;
  proxy_temp_path @FOLDER@/proxy;
  fastcgi_temp_path @FOLDER@/fastcgi;
  uwsgi_temp_path @FOLDER@/uwsgi;
  scgi_temp_path @FOLDER@/scgi;
  server {
    listen 127.0.0.1:@PORT@ ssl;
    ssl_certificate @FOLDER@/server.pem;
    ssl_certificate_key @FOLDER@/server.key;
    ssl_client_certificate @FOLDER@/ca.pem;
    ssl_verify_client optional;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param GIT_PROJECT_ROOT @ROOT@;
    fastcgi_param GIT_HTTP_EXPORT_ALL 1;
    fastcgi_param SCRIPT_FILENAME @GIT_CORE@/git-http-backend;
    fastcgi_param PATH_INFO $repository;
    set $repository "";
    location ~ ^/open(/.*)$ {
      set $repository $1;
      fastcgi_pass unix:@FOLDER@/fcgi.sock;
    }
    location ~ ^/basic(/.*)$ {
      set $repository $1;
      auth_basic "policies";
      auth_basic_user_file @FOLDER@/users;
      fastcgi_pass unix:@FOLDER@/fcgi.sock;
    }
    location ~ ^/bearer(/.*)$ {
      set $repository $1;
      if ($http_authorization != "Bearer @TOKEN@") { return 401; }
      fastcgi_pass unix:@FOLDER@/fcgi.sock;
    }
    location ~ ^/client(/.*)$ {
      set $repository $1;
      if ($ssl_client_verify != SUCCESS) { return 403; }
      fastcgi_pass unix:@FOLDER@/fcgi.sock;
    }
    location ~ ^/moved(/.*)$ { return 301 https://$http_host/open$1$is_args$args; }
    location ~ ^/elsewhere(/.*)$ { return 302 https://localhost:@ELSEWHERE@/open$1$is_args$args; }
    location ~ ^/other(/.*)$ { return 302 https://127.0.0.1:@PORT@/open$1$is_args$args; }
    location ~ ^/echo/ { return 403 "$http_authorization"; }
  }
}
"#;

/// OpenSSH, which lets the user of this process log in with the keys that it made.
pub(crate) struct Ssh {
    folder: TempDir,
    port: Port,
    _process: Process,
}

impl Ssh {
    pub(crate) fn start() -> Self {
        let (folder, port) = (folder(), Port::reserve());
        if is_root() {
            fs::create_dir_all("/run/sshd").unwrap(); // sshd wants it, and a package that was only unpacked has none
        }
        fs::write(folder.path().join("authorized_keys"), "").unwrap();
        keygen(&folder.path().join("host_ed25519"), &["-t", "ed25519"], "");
        keygen(&folder.path().join("host_rsa"), &["-t", "rsa", "-b", "2048"], "");
        let config = SSHD
            .replace("@FOLDER@", &folder.path().display().to_string())
            .replace("@PORT@", &port.number().to_string());
        let (path, log) = (folder.path().join("sshd_config"), folder.path().join("log"));
        fs::write(&path, config).unwrap();
        let process = start("sshd", &["-D", "-e", "-f", &path.display().to_string()], &log);
        wait("sshd", &log, || TcpStream::connect(("127.0.0.1", port.number())).is_ok());
        Self { folder, port, _process: process }
    }

    /// Makes a key that may log in, and returns its private half.
    pub(crate) fn key(&self, name: &str, kind: &[&str], passphrase: &str) -> String {
        let path = self.folder.path().join(name);
        keygen(&path, kind, passphrase);
        let public = fs::read(path.with_extension("pub")).unwrap();
        let mut keys = fs::File::options().append(true).open(self.folder.path().join("authorized_keys")).unwrap();
        keys.write_all(&public).unwrap();
        fs::read_to_string(path).unwrap()
    }

    /// A line of known_hosts with the host key of a type.
    pub(crate) fn known_hosts(&self, kind: &str) -> String {
        let public = fs::read_to_string(self.folder.path().join(format!("host_{kind}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {public}", self.port.number())
    }

    pub(crate) fn url(&self, repository: &Path) -> String {
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port.number(), repository.display())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

const SSHD: &str = "
Port @PORT@
ListenAddress 127.0.0.1
HostKey @FOLDER@/host_ed25519
HostKey @FOLDER@/host_rsa
PidFile @FOLDER@/pid
AuthorizedKeysFile @FOLDER@/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel VERBOSE
";

/// Makes a key pair in `path` and `path.pub`.
pub(crate) fn keygen(path: &Path, kind: &[&str], passphrase: &str) {
    let output = Command::new("ssh-keygen").args(["-q", "-N", passphrase, "-f"]).arg(path).args(kind).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    leaks::secret("a key of ssh-keygen", fs::read_to_string(path).unwrap());
}

/// tinyproxy, which connects to any port for whoever knows the password.
pub(crate) struct Tinyproxy {
    folder: TempDir,
    port: Port,
    _process: Process,
}

impl Tinyproxy {
    pub(crate) fn start(username: &str, password: &str) -> Self {
        leaks::secret("the password of a proxy", password);
        let (folder, port) = (folder(), Port::reserve());
        let (path, log) = (folder.path().join("conf"), folder.path().join("log"));
        let config = format!(
            "Port {}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Connect\n\
             BasicAuth {username} {password}\n",
            port.number()
        );
        fs::write(&path, config).unwrap();
        let process = start("tinyproxy", &["-d", "-c", &path.display().to_string()], &log);
        wait("tinyproxy", &log, || TcpStream::connect(("127.0.0.1", port.number())).is_ok());
        Self { folder, port, _process: process }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}
