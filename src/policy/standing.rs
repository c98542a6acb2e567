//! Which of two copies of one document is the better one.
//!
//! Copies share version and digest: they say the same, and differ in who signed them and when. Whoever writes to Git can bring
//! back any copy that was ever there; were the last one to count, they could exchange one that stays for one that is about to
//! end.

use jiff::Timestamp;

/// When a key counts: from then, until then (excluded).
pub(super) type Validity = (Option<Timestamp>, Option<Timestamp>);

/// What speaks for a copy: how long it holds, how many signatures count, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When keys and policy hold.
    pub(super) holds: Validity,
    /// The keys that have signed, each with its validity.
    pub(super) signers: Box<[Validity]>,
    /// When it was signed, as it says itself under its signature.
    pub(super) signed_at: Option<Timestamp>,
    /// Since when its key has been trusted, if that is known.
    pub(super) key_since: Option<Timestamp>,
}

impl Standing {
    /// Whether this copy is to take the place of the other one: it holds longer; or as long, and more of its signatures count;
    /// or as many, and it was signed later, or by a key that came later. So a rotation goes through, and nothing goes back.
    #[must_use]
    pub fn is_better_than(&self, other: &Standing, now: Timestamp) -> bool {
        self.rank(now) > other.rank(now)
    }

    /// How many of its signatures count now.
    #[must_use]
    pub fn signatures(&self, now: Timestamp) -> usize {
        self.signers.iter().filter(|validity| within(**validity, now)).count()
    }

    fn rank(&self, now: Timestamp) -> impl Ord {
        // what has no end ends last
        let until = (self.holds.1.is_none(), self.holds.1);
        (within(self.holds, now), until, self.signatures(now), self.signed_at, self.key_since)
    }
}

fn within((from, until): Validity, now: Timestamp) -> bool {
    from.is_none_or(|from| from <= now) && until.is_none_or(|until| now < until)
}
