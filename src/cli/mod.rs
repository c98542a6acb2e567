//! The command line. One file a command group; the library does the work.
pub mod crds;
use clap::Parser;
#[derive(Parser)]
enum Cli {
    Crds(crds::Crds),
}
/// x
pub fn run() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Crds(c) => c.run(),
    }
}
