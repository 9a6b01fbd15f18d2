//! One connection: requests in, answers out, in order, one at a time. A slow handler is backpressure on its client.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::dispatch::{Malformed, answer};
use super::frame::{FrameError, read_frame};
use crate::broker::Broker;

/// Serves until the peer leaves or sends what is not Kafka.
pub(super) async fn serve(mut socket: TcpStream, peer: SocketAddr, connection: u64, broker: Arc<Broker>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "answers may be delayed");
    }
    match requests(&mut socket, peer, connection, &broker).await {
        Ok(()) => {}
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
    while let Some(frame) = read_frame(socket, limit).await.map_err(Closed::Frame)? {
        if let Some(response) = answer(broker, frame, peer, connection).await.map_err(Closed::Malformed)? {
            socket.write_all(&response).await.map_err(Closed::Write)?;
        }
    }
    Ok(())
}
