//! How long the API server may take. A server that loses power after it has acknowledged a request never answers it, and
//! nothing else would ever say so: not the connection, on which there is nothing left to be acknowledged.

use std::time::Duration;

use kube::{Client, Config, Error};

/// How long a request may take, body included. Whoever gives up drops the connection with it, so that the next attempt is
/// made on another.
pub const LONGEST: Duration = Duration::from_secs(30);
/// A connection that brings nothing for longer is closed, whoever waits for it and does not look at the clock. The most silent
/// ones are of watches, which have a bookmark about once a minute.
const SILENCE: Duration = Duration::from_secs(150);

/// The client of a replica.
///
/// # Errors
/// The configuration has certificates or keys that cannot be used.
pub fn client(mut config: Config) -> Result<Client, Error> {
    // counted from when a request is sent, and not from when its connection was used last
    (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
    Client::try_from(config)
}

/// A request that is given up when it is not answered.
///
/// # Errors
/// Its own, and that it took too long.
pub async fn in_time<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    within(LONGEST, request).await
}

/// The same where it must be known sooner.
///
/// # Errors
/// Those of [`in_time`].
pub async fn within<T>(limit: Duration, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, request).await.unwrap_or_else(|_late| Err(late()))
}

/// That a request took too long.
pub fn late() -> Error {
    Error::Service("no answer in time".into())
}
