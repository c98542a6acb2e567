//! The command line. One file a command group; the library does the work.
pub mod controller;
pub mod crds;
pub mod replica;
use clap::Parser;
#[derive(Parser)]
enum Cli {
    Crds(crds::Crds),
    Controller(Box<controller::Controller>),
}
/// x
pub fn run() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Crds(c) => c.run(),
        Cli::Controller(c) => c.run(),
    }
}
