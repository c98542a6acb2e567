//! A token bucket.

use std::time::{Duration, Instant};

/// Lets so many pass at once, and then one for each `every`.
#[derive(Debug)]
pub struct Bucket {
    most: u32,
    every: Duration,
    /// When it is full again, if nothing passes until then.
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(most: u32, every: Duration, now: Instant) -> Bucket {
        Bucket { most, every, full_at: now }
    }

    /// Takes one out.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.every;
        let missing = full_at - now;
        match missing.checked_sub(self.every * self.most).filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn so_many_pass_at_once_and_then_one_for_each_span() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, SECOND, start);
        (0..3).for_each(|_| assert_eq!(bucket.take(start), Ok(())));
        assert_eq!(bucket.take(start), Err(SECOND));
        assert_eq!(bucket.take(start + SECOND / 4), Err(SECOND * 3 / 4));
        assert_eq!(bucket.take(start + SECOND), Ok(()));
        assert_eq!(bucket.take(start + SECOND), Err(SECOND), "who was told to wait took nothing");
    }

    #[test]
    fn it_fills_up_to_its_size_and_no_further() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, SECOND, start);
        let later = start + SECOND * 1000;
        (0..2).for_each(|_| assert_eq!(bucket.take(later), Ok(())));
        assert_eq!(bucket.take(later), Err(SECOND));
    }
}
