//! In: a request at a service's HTTP listener. Out: its body, short enough and in time, or why not.
//! Never: a connection or a drain held up by a slow sender; a sender who is cut off without an answer.

use std::time::Duration;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::Request;
use futures::TryStreamExt as _;

use crate::Shutdown;

/// Once the service stops: what is on its way arrives, the rest is not waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes of one request that are read, whatever is made of them: who is still sending does not read what is answered.
const READ_ON: usize = 64 << 20;

/// What a listener takes in.
#[derive(Debug, Clone, Copy)]
pub struct BodyBounds {
    pub bytes: usize,
    /// How long a body may take to come in whole.
    pub wait: Duration,
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("it is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("not all of it came within {} s", .wait.as_secs_f32())]
    TooSlow { wait: Duration },
    #[error("the service stops, and not all of it was there")]
    Stopping,
    #[error("the connection ended in the middle of it")]
    Cut {
        #[source]
        source: axum::Error,
    },
}

/// The whole body of a request.
pub async fn read(request: Request, bounds: BodyBounds, shutdown: &Shutdown) -> Result<Bytes, Unread> {
    let stopping = async {
        shutdown.requested().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        read = tokio::time::timeout(bounds.wait, collect(request, bounds.bytes)) => {
            read.map_err(|_| Unread::TooSlow { wait: bounds.wait })?
        }
        () = stopping => Err(Unread::Stopping),
    }
}

async fn collect(request: Request, limit: usize) -> Result<Bytes, Unread> {
    let expected = usize::try_from(request.body().size_hint().lower()).unwrap_or(limit).min(limit);
    let mut chunks = request.into_body().into_data_stream();
    let mut kept = Vec::with_capacity(expected);
    let mut length = 0usize;
    while let Some(chunk) = chunks.try_next().await.map_err(|source| Unread::Cut { source })? {
        length = length.saturating_add(chunk.len());
        if length <= limit {
            kept.extend_from_slice(&chunk);
        } else if length > READ_ON {
            break;
        }
    }
    if length > limit { Err(Unread::TooLong { limit }) } else { Ok(kept.into()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::body::Body;
    use futures::{StreamExt as _, stream};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(60);

    /// Chunks, and whether the sender then stalls.
    fn request(chunks: &[&'static str], stalls: bool) -> Request {
        let sent = stream::iter(chunks.to_vec()).map(Ok::<_, axum::Error>);
        let rest = if stalls { stream::pending().left_stream() } else { stream::empty().right_stream() };
        Request::new(Body::from_stream(sent.chain(rest)))
    }

    async fn check(request: Request, wait: Duration, shutdown: &Shutdown, expected: Result<&str, &str>) {
        let read = read(request, BodyBounds { bytes: 10, wait }, shutdown).await;
        let read = read.map(|bytes| String::from_utf8(bytes.into()).unwrap()).map_err(|unread| unread.to_string());
        assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[tokio::test]
    async fn a_body_is_short_enough_and_in_time_or_told_why_not() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        check(request(&[], false), LATE, &shutdown, Ok("")).await;
        check(request(&["01234", "56789"], false), LATE, &shutdown, Ok("0123456789")).await;
        check(request(&["01234", "56789", "0"], false), LATE, &shutdown, Err("it is longer than 10 bytes")).await;
        check(request(&["01234"], true), SOON, &shutdown, Err("not all of it came within 0.05 s")).await;
        let cut = stream::iter([Ok("01234"), Err(axum::Error::new("reset"))]);
        let cut = Request::new(Body::from_stream(cut));
        check(cut, LATE, &shutdown, Err("the connection ended in the middle of it")).await;
    }

    #[tokio::test]
    async fn a_service_that_stops_takes_what_is_there_and_waits_for_no_rest() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        shutdown.request();
        check(request(&["01234"], false), LATE, &shutdown, Ok("01234")).await;
        check(request(&["01234"], true), LATE, &shutdown, Err("the service stops, and not all of it was there")).await;
    }

    #[tokio::test]
    async fn who_sends_too_much_is_heard_to_the_end_but_not_for_ever() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let endless = stream::repeat(Bytes::from_static(&[b'x'; 1 << 16])).map(Ok::<_, axum::Error>);
        check(Request::new(Body::from_stream(endless)), LATE, &shutdown, Err("it is longer than 10 bytes")).await;
    }
}
