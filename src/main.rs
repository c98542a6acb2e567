//! Dispatch only.
fn main() -> anyhow::Result<()> {
    sekuire_policy::cli::run()
}
