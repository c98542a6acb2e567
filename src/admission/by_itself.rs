//! Each document by itself: a fault of this program, or of a library, over one costs that one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::policy::{Reason, Refusal};
use crate::telemetry::metrics;

/// Judges one document. A panic over it is a refusal of that document, which the log names by `what`, and the metric
/// `sekuire_panics_total` counts.
///
/// # Errors
/// Those of `judge`; [`Reason::Malformed`] after a panic.
pub fn by_itself<T>(what: &str, judge: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    // nothing of what it worked on is looked at again
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let error = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        metrics().panicked("documents");
        tracing::error!(path = what, error, "this program failed over a document, which is refused");
        let message = "sekuire itself failed over this document, and refuses it (its log says more): please report that, and \
                       publish the rules in another form";
        Err(Refusal { reason: Reason::Malformed, message: message.to_owned(), retry_at: None })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_over_one_document_is_a_refusal_of_that_one_and_counted() {
        let judge = |document: &u32| {
            by_itself("policies/a.json", || match document {
                2 => panic!("{document} is too much"),
                _ => Ok(*document),
            })
        };
        let judged: Vec<Option<u32>> = [1, 2, 3].iter().map(|document| judge(document).ok()).collect();
        assert_eq!(judged, [Some(1), None, Some(3)]);
        assert_eq!(judge(&2).unwrap_err().reason, Reason::Malformed);
    }
}
