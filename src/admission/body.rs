//! Bodies of requests, and of answers: what they cost while they come and go.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::task::AbortHandle;

use super::places::Place;

/// What room is made for before anything has come.
const FIRST_BYTES: usize = 16 * 1024;
/// Answers up to here, as good as all that admit, cost no more than the request that is open for them. Others are handed over in
/// pieces of this size: what is handed over waits in its connection, for whoever takes a byte of it and no more.
const PIECE: usize = 1024;

/// Why a body cannot be read.
pub(super) enum Broken {
    /// It is larger than what is read.
    TooLarge,
    /// The connection, or the client, has given up.
    Lost(hyper::Error),
}

/// Reads a body of at most `most` bytes into one piece.
///
/// Frames are copied as they come, and not collected: a chunk of one byte keeps dozens of them alive, and whoever sends 3 MiB
/// in such chunks would have them cost a hundred.
pub(super) async fn read(mut body: Incoming, declared: Option<u64>, most: usize) -> Result<Bytes, Broken> {
    let declared = declared.and_then(|length| usize::try_from(length).ok());
    if declared.is_some_and(|length| length > most) {
        return Err(Broken::TooLarge);
    }
    let room = declared.unwrap_or(most);
    let mut read = Vec::with_capacity(room.min(FIRST_BYTES));
    while let Some(frame) = body.frame().await {
        // trailers say nothing
        let Ok(data) = frame.map_err(Broken::Lost)?.into_data() else { continue };
        let length = read.len() + data.len();
        if length > most {
            return Err(Broken::TooLarge);
        }
        if length > read.capacity() {
            // doubled, and no more than what may still come
            let wanted = (read.capacity() * 2).min(room).max(length);
            read.reserve_exact(wanted - read.len());
        }
        read.extend_from_slice(&data);
    }
    Ok(Bytes::from(read))
}

/// The body of an answer. One that is not small keeps the place of its request until it is taken, for as long as a request may
/// take to arrive: then it is dropped. Else whoever asks and never reads could have answers pile up that nobody counts.
pub struct Answered(Held);

enum Held {
    Free(Bytes),
    Placed(Arc<Mutex<Option<(Bytes, Place)>>>, AbortHandle),
}

/// The client has not taken its answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not taken in time")]
pub struct Untaken;

impl Answered {
    /// An answer that holds the place of its request for so long.
    pub(super) fn holding(answer: Bytes, place: Place, within: Duration) -> Answered {
        if answer.len() <= PIECE {
            return Answered(Held::Free(answer));
        }
        let held = Arc::new(Mutex::new(Some((answer, place))));
        let late = Arc::clone(&held);
        let task = tokio::spawn(async move {
            tokio::time::sleep(within).await;
            drop(take(&late));
        });
        Answered(Held::Placed(held, task.abort_handle()))
    }
}

fn take(held: &Mutex<Option<(Bytes, Place)>>) -> Option<(Bytes, Place)> {
    held.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl From<Bytes> for Answered {
    fn from(answer: Bytes) -> Answered {
        Answered(Held::Free(answer))
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if let Held::Placed(_, task) = &self.0 {
            task.abort();
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Untaken;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Untaken>>> {
        let piece = match &mut self.get_mut().0 {
            Held::Free(rest) => std::mem::take(rest),
            Held::Placed(held, _) => match &mut *held.lock().unwrap_or_else(PoisonError::into_inner) {
                // copied, since a part of it would keep all of it
                Some((rest, _)) => Bytes::copy_from_slice(&rest.split_to(rest.len().min(PIECE))),
                None => return Poll::Ready(Some(Err(Untaken))),
            },
        };
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.length() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, |length| SizeHint::with_exact(length as u64))
    }
}

impl Answered {
    /// What is left of it; none if it was dropped.
    fn length(&self) -> Option<usize> {
        match &self.0 {
            Held::Free(rest) => Some(rest.len()),
            Held::Placed(held, _) => {
                let held = held.lock().unwrap_or_else(PoisonError::into_inner);
                held.as_ref().map(|(rest, _)| rest.len())
            }
        }
    }
}
