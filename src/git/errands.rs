//! What the parent does for a child while it works: see [`super::protocol::Ask`].

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;

use super::protocol::{Ask, Job, Work};
use super::reach::Reach;
use super::{GitError, process, room};

/// The longest question.
const QUESTION_BYTES: u64 = 8 << 10;

/// Far more than a fetch asks: once for each connection, and for every [`room::STEP`] bytes.
const QUESTIONS: usize = 10_000;

/// What one job may ask for.
pub(super) struct Errands {
    reach: Reach,
    data_dir: PathBuf,
    key: String,
    clones_bytes: u64,
}

impl Errands {
    pub(super) fn of(job: &Job, data_dir: PathBuf) -> Self {
        let reach = match &job.work {
            Work::Snapshot(request) => Reach::of(request),
            _ => Reach::default(),
        };
        Self { reach, data_dir, key: job.work.key().to_owned(), clones_bytes: job.limits.clones_bytes }
    }

    /// Does what is asked for until the child has ended.
    ///
    /// # Errors
    /// When a child asks for what no child asks for.
    pub(super) async fn run(&self, socket: &mut UnixStream) -> Result<(), GitError> {
        let mut line = Vec::new();
        for _ in 0..QUESTIONS {
            line.clear();
            let read =
                BufReader::with_capacity(1024, &mut *socket).take(QUESTION_BYTES).read_until(b'\n', &mut line).await;
            // a child that was killed may leave half a line, or a broken socket
            if !matches!(read, Ok(1..)) || line.last() != Some(&b'\n') {
                return if line.len() as u64 >= QUESTION_BYTES { Err(process::nonsense()) } else { Ok(()) };
            }
            let (answer, connection) = self.answer(&line).await?;
            let mut answer = serde_json::to_vec(&answer).map_err(|_| process::nonsense())?;
            answer.push(b'\n');
            if send(socket, &answer, connection).await.is_err() {
                return Ok(()); // it is gone
            }
        }
        Err(GitError::Forbidden("the Git process asked for more than any fetch needs, and was stopped".into()))
    }

    async fn answer(&self, line: &[u8]) -> Result<(Result<(), GitError>, Option<TcpStream>), GitError> {
        match serde_json::from_slice(line).map_err(|_| process::nonsense())? {
            Ask::Connect { host, port } => Ok(match self.reach.connect(&host, port).await? {
                Ok(stream) => (Ok(()), Some(stream)),
                Err(error) => (Err(error), None),
            }),
            Ask::Room => {
                let (data_dir, key, most) = (self.data_dir.clone(), self.key.clone(), self.clones_bytes);
                let made = tokio::task::spawn_blocking(move || room::make(&data_dir, &key, most)).await;
                let made = made.unwrap_or_else(|error| Err(GitError::Failed(format!("cannot make room: {error}"))));
                Ok((made, None))
            }
        }
    }
}

/// An answer, and an open file with its first bytes.
async fn send(socket: &UnixStream, mut answer: &[u8], mut connection: Option<TcpStream>) -> io::Result<()> {
    while !answer.is_empty() {
        socket.writable().await?;
        let sent = socket.try_io(Interest::WRITABLE, || {
            let files: Vec<_> = connection.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&files));
            }
            Ok(sendmsg(socket, &[IoSlice::new(answer)], &mut control, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Ok(count) => {
                answer = answer.get(count..).unwrap_or_default();
                connection = None;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
