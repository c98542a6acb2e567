//! `sekuire crds`: the CustomResourceDefinitions.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::api::crds;

/// Print the CustomResourceDefinitions, or write one file a kind.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  sekuire crds | kubectl apply --server-side -f -\n  sekuire crds --dir crds")]
pub struct Crds {
    /// Write one file for each kind into this folder, instead of printing all of them.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const HEADER: &str = "# Generated from src/api by `sekuire crds --dir crds` (make generate). Do not edit.\n";

impl Crds {
    /// Prints or writes the definitions.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn run(&self) -> anyhow::Result<()> {
        let mut all = String::new();
        for (name, crd) in crds::all()? {
            let yaml = serde_yaml::to_string(&crd)?;
            match &self.dir {
                None => all.push_str(&format!("---\n{yaml}")),
                Some(dir) => {
                    let path = dir.join(name);
                    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
                    std::fs::write(&path, format!("{HEADER}{yaml}"))
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        super::emit(&all)
    }
}
