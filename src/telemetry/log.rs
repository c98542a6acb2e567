//! The log, on standard error: what is said, in which form, and how much of it.
//!
//! A message is constant, what differs stands in fields of one vocabulary: `docs/monitoring.md` lists both, and a test holds
//! the source against it.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::filter::{EnvFilter, FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use super::otlp::Otlp;
use super::trace;

/// How often the file with the filter is read.
const POLL: Duration = Duration::from_secs(2);
/// A longer file is no filter.
const MAX_FILTER_BYTES: u64 = 64 * 1024;

/// Form of the log.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How to log and trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Form of the log.
    pub format: Format,
    /// What to log.
    pub filter: String,
    /// A file that says so too, while it is there.
    pub filter_file: Option<PathBuf>,
    /// The collector of traces, as a base URL.
    pub otlp_endpoint: Option<String>,
    /// Name of this replica.
    pub identity: Option<String>,
}

/// What has to be kept going, and ended.
pub struct Telemetry {
    follower: Option<Follower>,
    otlp: Option<Otlp>,
}

/// Begins to log and to trace.
///
/// # Errors
/// A filter or an endpoint that is none.
pub fn start(options: Options) -> anyhow::Result<Telemetry> {
    let first = parse(&options.filter).map_err(|why| anyhow::anyhow!("--log {}: {why}", options.filter))?;
    let follower = options.filter_file.map(|path| (path, options.filter));
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let otlp = options.otlp_endpoint.filter(|endpoint| !endpoint.is_empty() && !disabled);
    let otlp = otlp.map(|endpoint| Otlp::new(&endpoint, options.identity.as_deref())).transpose()?;
    let (filter, handle) = reload::Layer::new(first);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match options.format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // spans are for the collector: a line has the same fields whether there is one or not
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let spans = otlp.as_ref().map(|otlp| {
        let ours = FilterFn::new(|metadata| metadata.is_span() && metadata.target() == trace::TARGET);
        otlp.layer().with_filter(ours)
    });
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).init();
    let follower = follower.map(|(path, flag)| {
        let mut follower = Follower { path, flag, handle, seen: None, fault: None };
        follower.look();
        follower
    });
    Ok(Telemetry { follower, otlp })
}

/// A filter as `--log` takes it, in one line or several.
///
/// # Errors
/// What is wrong, and what is accepted.
pub fn parse(text: &str) -> Result<EnvFilter, String> {
    let accepted = "give a level (error, warn, info, debug, trace, off), or target=level, with commas between them";
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(",");
    // a mistyped level would be taken for the name of a target, and silence everything else
    let mut levels = joined.split(',').map(str::trim).filter(|part| !part.is_empty()).map(level);
    if !joined.contains('[')
        && let Some(word) = levels.find(|level| level.is_empty() || level.parse::<LevelFilter>().is_err())
    {
        return Err(format!("{word:?} is no level; {accepted}"));
    }
    if joined.is_empty() {
        return Err(format!("it is empty; {accepted}"));
    }
    EnvFilter::try_new(format!("{joined},{}=off", trace::TARGET)).map_err(|error| format!("{error}; {accepted}"))
}

/// The level in a directive: all of it, or what follows on `=`.
fn level(directive: &str) -> &str {
    directive.split_once('=').map_or(directive, |(_, level)| level.trim())
}

/// Follows a file that says what to log. Its content is compared, not its times: the kubelet swaps a symlink to a folder.
struct Follower {
    path: PathBuf,
    /// What `--log` says, which counts while there is no file.
    flag: String,
    handle: reload::Handle<EnvFilter, Registry>,
    /// The content that was taken over or refused last; `None`: no file.
    seen: Option<String>,
    fault: Option<String>,
}

impl Telemetry {
    /// Follows the file with the filter, for ever, if there is one.
    pub fn follow(&mut self) {
        if let Some(mut follower) = self.follower.take() {
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(POLL).await;
                    follower.look();
                }
            });
        }
    }

    /// Sends the spans that are still here; a collector that does not answer is not waited for long.
    pub fn end(self) {
        if let Some(otlp) = self.otlp {
            otlp.end();
        }
    }
}

impl Follower {
    fn look(&mut self) {
        let fault = match read(&self.path) {
            Ok(content) if content == self.seen => return self.report(None),
            Ok(content) => {
                let filter = parse(content.as_deref().unwrap_or(&self.flag));
                self.seen.clone_from(&content);
                match filter {
                    Ok(filter) => return self.take(filter, content.as_deref()),
                    Err(why) => why,
                }
            }
            Err(error) => error.to_string(),
        };
        self.report(Some(fault));
    }

    fn take(&mut self, filter: EnvFilter, content: Option<&str>) {
        self.fault = None;
        let shown = content.unwrap_or(&self.flag).trim().to_owned();
        match self.handle.reload(filter) {
            Ok(()) => tracing::info!(path = %self.path.display(), filter = shown, "log filter changed"),
            Err(error) => tracing::warn!(%error, "log filter could not be changed"),
        }
    }

    /// Says a fault once. What was taken over last stays.
    fn report(&mut self, fault: Option<String>) {
        if fault.is_none() || fault == self.fault {
            return;
        }
        if let Some(error) = &fault {
            tracing::warn!(path = %self.path.display(), error, "log filter file cannot be used");
        }
        self.fault = fault;
    }
}

/// What the file holds; `None`: there is none. A few hundred bytes of a mounted file: it is read as it is.
fn read(path: &Path) -> std::io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_FILTER_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILTER_BYTES {
        return Err(std::io::Error::other(format!("larger than {MAX_FILTER_BYTES} bytes")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_directives_in_one_line_or_several() {
        for good in
            ["info", "warn\n", "info,sekuire_policy::git=debug", "info\nkube=trace\n", "off", "[span{a=1}]=debug"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_accepted() {
        for bad in ["inof", "", " \n", "info,sekuire_policy", "kube=loud", "kube=", "kube= ,info"] {
            let why = parse(bad).unwrap_err();
            assert!(why.contains("give a level"), "{bad}: {why}");
        }
    }

    #[test]
    fn spans_of_traces_are_no_part_of_the_log_whatever_the_filter_says() {
        let filter = parse("trace").unwrap().to_string();
        assert!(filter.contains("sekuire_trace=off"), "{filter}");
    }
}
