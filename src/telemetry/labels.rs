//! The closed sets of values that labels have.

/// What became of an admission request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It complies, or nothing of it is judged.
    Allowed,
    /// It breaks a rule. Whether it is refused for that is for the [`Mode`] to say.
    Denied,
    /// It could not be judged, and is refused.
    Error,
}

impl Decided {
    pub(super) const ALL: [Decided; 3] = [Decided::Allowed, Decided::Denied, Decided::Error];

    /// As the label `decision` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Decided::Allowed => "allowed",
            Decided::Denied => "denied",
            Decided::Error => "error",
        }
    }
}

/// What a decision does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What is denied is refused.
    Enforce,
    /// What is denied is admitted, and the user warned.
    Warn,
    /// What is denied is admitted, and counted.
    Audit,
    /// What is denied is admitted, because enforcement was stopped in the whole cluster.
    BreakGlass,
}

impl Mode {
    pub(super) const ALL: [Mode; 4] = [Mode::Enforce, Mode::Warn, Mode::Audit, Mode::BreakGlass];

    /// As the label `mode` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Warn => "warn",
            Mode::Audit => "audit",
            Mode::BreakGlass => "break-glass",
        }
    }
}

/// What became of a request to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Genuine: a look was asked for.
    Accepted,
    /// Genuine, and asks for nothing.
    Ping,
    /// Genuine, and one too many.
    RateLimited,
    /// Genuine, and the look could not be asked for in time.
    Unavailable,
    /// Not proven, or for no receiver.
    Refused,
    /// Not readable: too large, too slow, broken off.
    Unreadable,
}

impl Hook {
    pub(super) const ALL: [Hook; 6] =
        [Hook::Accepted, Hook::Ping, Hook::RateLimited, Hook::Unavailable, Hook::Refused, Hook::Unreadable];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Hook::Accepted => "accepted",
            Hook::Ping => "ping",
            Hook::RateLimited => "rate_limited",
            Hook::Unavailable => "unavailable",
            Hook::Refused => "refused",
            Hook::Unreadable => "unreadable",
        }
    }
}

/// How a Git process failed; faults that it reports in good order are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildFailure {
    /// It took too long, and was killed.
    Timeout,
    /// It met a limit: memory, processor time, size.
    Limit,
    /// It was the largest of several that together took too much memory, and was killed.
    Crowded,
    /// Anything else: a crash, nonsense.
    Crash,
    /// It tried what reading a repository never takes, and was stopped.
    Forbidden,
}

impl ChildFailure {
    pub(super) const ALL: [ChildFailure; 5] = [
        ChildFailure::Timeout,
        ChildFailure::Limit,
        ChildFailure::Crowded,
        ChildFailure::Crash,
        ChildFailure::Forbidden,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            ChildFailure::Timeout => "timeout",
            ChildFailure::Limit => "limit",
            ChildFailure::Crowded => "crowded",
            ChildFailure::Crash => "crash",
            ChildFailure::Forbidden => "forbidden",
        }
    }
}
