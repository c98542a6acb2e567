//! Where etcd, kube-apiserver, kubectl and kube-controller-manager are.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The folder of the programs: `KUBEBUILDER_ASSETS`, or what `build.sh` builds or finds in its cache.
pub(crate) fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/build.sh");
        let output = Command::new(&script).output().unwrap_or_else(|e| panic!("run {}: {e}", script.display()));
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {why}", script.display());
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// Whether there is a kube-controller-manager; envtest's folder of programs has none.
pub(crate) fn has_controller_manager() -> bool {
    programs().join("kube-controller-manager").exists()
}
