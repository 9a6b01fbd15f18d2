//! One connection: requests in, answers out, in order, one at a time. A slow handler is backpressure on its client.
//! A peer that vanished, or takes nothing of its answer, does not hold its place for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dispatch::{Malformed, answer};
use super::frame::{FrameError, read_frame};
use crate::broker::Broker;

/// An answer of which the peer takes nothing for this long is given up.
const STALLED: Duration = Duration::from_secs(60);

/// Serves until the peer leaves or sends what is not Kafka.
pub(super) async fn serve(mut socket: TcpStream, peer: SocketAddr, connection: u64, broker: Arc<Broker>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "answers may be delayed");
    }
    match requests(&mut socket, peer, connection, &broker).await {
        Ok(()) => {}
        Err(Closed::Idle) => tracing::debug!(%peer, "connection closed: nothing came for long"),
        Err(Closed::Frame(FrameError::Io(error)) | Closed::Write(error)) => {
            tracing::debug!(%peer, %error, "connection lost");
        }
        Err(Closed::Frame(error @ FrameError::TooLarge { .. })) => {
            tracing::warn!(code = "MESH-LOCALBUS-0009", %peer, %error, "connection closed");
        }
        Err(Closed::Malformed(error)) => tracing::warn!(%peer, %error, "connection closed"),
    }
}

/// Why a connection ended other than by its peer's wish.
enum Closed {
    Idle,
    Frame(FrameError),
    Malformed(Malformed),
    Write(std::io::Error),
}

async fn requests(
    socket: &mut TcpStream,
    peer: SocketAddr,
    connection: u64,
    broker: &Arc<Broker>,
) -> Result<(), Closed> {
    let limit = broker.config.max_request_bytes;
    let idle = broker.config.idle;
    while let Some(frame) =
        timeout(idle, read_frame(socket, limit)).await.map_err(|_| Closed::Idle)?.map_err(Closed::Frame)?
    {
        if let Some(response) = answer(broker, frame, peer, connection).await.map_err(Closed::Malformed)? {
            write_whole(socket, &response, idle.min(STALLED)).await.map_err(Closed::Write)?;
        }
    }
    Ok(())
}

async fn write_whole(socket: &mut TcpStream, mut response: &[u8], patience: Duration) -> std::io::Result<()> {
    while !response.is_empty() {
        let written = timeout(patience, socket.write(response)).await??;
        response = &response[written..];
    }
    Ok(())
}
