//! The image, as it is packed without a Docker daemon: reproducible, small, and exactly what the Dockerfile says.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::cluster::{Ran, command::run};

const DOCKERFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile");

/// A folder as the build stage of the Dockerfile leaves it, with a small program.
fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("image/root");
    fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
    fs::create_dir_all(root.join("tmp")).unwrap();
    fs::create_dir_all(folder.path().join("image/data")).unwrap();
    fs::write(root.join("sekuire"), b"\x7fELF and more").unwrap();
    fs::set_permissions(root.join("sekuire"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join("etc/ssl/certs/ca-certificates.crt"), "CAs").unwrap();
    symlink("sekuire", root.join("link")).unwrap();
    folder
}

async fn pack(dockerfile: &Path, stage: &Path, out: &Path, more: &[&str]) -> Ran {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/image/pack.py"));
    command.arg(dockerfile).arg(out).args(["--name", "localhost/sekuire-policy-controller:1"]);
    command.arg("--from").arg(format!("build={}", stage.display())).args(more);
    run(command, b"").await
}

async fn packed(stage: &Path) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("image.tar");
    pack(Path::new(DOCKERFILE), stage, &out, &["--arg", "VERSION=9.9.9", "--arg", "REVISION=abc"]).await.ok();
    (folder, out)
}

async fn tar(args: &[&str], folder: &Path) -> String {
    let mut command = Command::new("tar");
    command.args(args).current_dir(folder).env("TZ", "UTC");
    run(command, b"").await.ok()
}

#[tokio::test]
async fn two_packings_are_the_same_bytes_whenever_and_wherever_the_files_were_made() {
    let (first, second) = (stage(), stage());
    let long_ago = fs::File::options().write(true).open(second.path().join("image/root/sekuire")).unwrap();
    long_ago.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let ((_a, a), (_b, b)) = (packed(first.path()).await, packed(second.path()).await);
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap());
}

#[tokio::test]
async fn the_image_runs_the_controller_as_nobody_in_particular_and_has_no_shell() {
    let stage = stage();
    let (folder, out) = packed(stage.path()).await;
    tar(&["-xf", &out.display().to_string()], folder.path()).await;
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap() };
    let docker = &read("manifest.json")[0];
    assert_eq!(docker["RepoTags"][0], "localhost/sekuire-policy-controller:1");
    let config = read(docker["Config"].as_str().unwrap());
    assert_eq!((&config["architecture"], &config["os"]), (&"amd64".into(), &"linux".into()));
    let config = &config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/sekuire"]));
    assert_eq!(config["Cmd"], serde_json::json!(["controller"]));
    assert!(config["Env"].as_array().unwrap().contains(&"SEKUIRE_REVISION=abc".into()), "{config}");
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(
        (label("version"), label("revision"), label("licenses")),
        ("9.9.9".into(), "abc".into(), "Apache-2.0".into())
    );
    // both indexes name the same image
    let index = read("index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert_eq!(
        read(&digest)["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/"),
        docker["Layers"][0]
    );

    let layer = docker["Layers"][0].as_str().unwrap();
    let listed = tar(&["--numeric-owner", "-tvzf", layer], folder.path()).await;
    let files: BTreeMap<String, String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[5].trim_end_matches('/').to_owned(), format!("{} {}", words[0], words[1]))
        })
        .collect();
    let expected = [
        ("etc", "drwxr-xr-x 0/0"),
        ("etc/ssl", "drwxr-xr-x 0/0"),
        ("etc/ssl/certs", "drwxr-xr-x 0/0"),
        ("etc/ssl/certs/ca-certificates.crt", "-rw-r--r-- 0/0"),
        ("link", "lrwxrwxrwx 0/0"),
        ("sekuire", "-rwxr-xr-x 0/0"),
        ("tmp", "drwxrwxrwt 0/0"),
        ("var", "drwxr-xr-x 0/0"),
        ("var/lib", "drwxr-xr-x 0/0"),
        ("var/lib/sekuire", "drwxr-xr-x 65532/65532"),
    ];
    assert_eq!(files, expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
}

#[tokio::test]
async fn a_dockerfile_that_says_more_than_the_packer_knows_is_refused() {
    let stage = stage();
    let out = stage.path().join("out.tar");
    for (text, why) in [
        ("FROM debian\nUSER 1\n", "must be `FROM scratch`"),
        ("FROM scratch\nRUN true\n", "RUN is not known here; accepted: ARG, LABEL"),
        ("FROM scratch\nCOPY /a /b\n", "expected --from=STAGE"),
        ("FROM scratch\nCOPY --from=other /a /b\n", "give --from STAGE=FOLDER"),
        ("FROM scratch\nCOPY --from=build --chmod=755 /a /b\n", "expected --from=STAGE [--chown=UID:GID]"),
        ("FROM scratch\nLABEL a=${NOWHERE}\n", "$NOWHERE is no ARG of the last stage"),
    ] {
        let dockerfile = stage.path().join("Dockerfile");
        fs::write(&dockerfile, text).unwrap();
        let refused = pack(&dockerfile, stage.path(), &out, &[]).await.refused();
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn an_image_above_the_limit_is_refused() {
    let stage = stage();
    let noise: Vec<u8> =
        (0..600_000u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..2].to_vec()).collect();
    fs::write(stage.path().join("image/root/noise"), noise).unwrap();
    let out = stage.path().join("out.tar");
    let refused = pack(Path::new(DOCKERFILE), stage.path(), &out, &["--limit", "1"]).await.refused();
    assert!(refused.contains("the limit is 1 MiB"), "{refused}");
}

#[test]
fn the_dockerfile_has_the_version_of_the_package_and_its_toolchain_is_recent_enough() {
    let dockerfile = fs::read_to_string(DOCKERFILE).unwrap();
    assert!(dockerfile.contains(concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"), "\n")));
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let toolchain = dockerfile.split("/rust:").nth(1).unwrap().split('-').next().unwrap();
    assert!(version(toolchain) >= version(env!("CARGO_PKG_RUST_VERSION")), "{toolchain}");
}
