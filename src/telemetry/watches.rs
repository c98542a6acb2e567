//! Whether the watches of the API server work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGaugeVec;

/// Watches by resource. Several may be of one resource, each of an object of its own: it is up while all of them are.
#[derive(Clone)]
pub(super) struct Watches {
    gauge: IntGaugeVec,
    /// How many of a resource there are, and how many of them are down.
    counts: Arc<Mutex<HashMap<String, (usize, usize)>>>,
}

impl Watches {
    pub(super) fn new(gauge: IntGaugeVec) -> Watches {
        Watches { gauge, counts: Arc::default() }
    }

    /// One more. It is down until it is said to be up.
    pub(super) fn begin(&self, resource: &str) -> WatchUp {
        self.change(resource, |(all, down)| (all + 1, down + 1));
        WatchUp { watches: self.clone(), resource: resource.to_owned(), up: false }
    }

    fn change(&self, resource: &str, change: impl FnOnce((usize, usize)) -> (usize, usize)) {
        // nothing under the lock can leave it half-written
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(resource.to_owned()).or_default();
        *count = change(*count);
        if count.0 == 0 {
            // a resource that nobody watches any more is neither
            drop(self.gauge.remove_label_values(&[resource]));
        } else {
            self.gauge.with_label_values(&[resource]).set((count.1 == 0).into());
        }
    }
}

/// One watch. It is gone when this is dropped.
pub struct WatchUp {
    watches: Watches,
    resource: String,
    up: bool,
}

impl WatchUp {
    /// Whether it works: its last list or watch did not fail.
    pub fn set(&mut self, up: bool) {
        if std::mem::replace(&mut self.up, up) != up {
            self.watches.change(&self.resource, |(all, down)| (all, if up { down - 1 } else { down + 1 }));
        }
    }
}

impl Drop for WatchUp {
    fn drop(&mut self) {
        self.set(true);
        self.watches.change(&self.resource, |(all, down)| (all - 1, down));
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    #[test]
    fn a_resource_is_up_while_all_of_its_watches_are_and_gone_with_the_last_of_them() {
        let gauge = IntGaugeVec::new(Opts::new("up", "help"), &["resource"]).unwrap();
        let watches = Watches::new(gauge.clone());
        let up = || gauge.with_label_values(&["secrets"]).get();
        let (mut a, mut b) = (watches.begin("secrets"), watches.begin("secrets"));
        assert_eq!(up(), 0, "nothing was listed yet");
        a.set(true);
        assert_eq!(up(), 0);
        b.set(true);
        b.set(true);
        assert_eq!(up(), 1);
        a.set(false);
        assert_eq!(up(), 0);
        drop(a);
        assert_eq!(up(), 1, "the one that failed is gone");
        drop(b);
        assert!(prometheus::core::Collector::collect(&gauge)[0].get_metric().is_empty());
    }
}
