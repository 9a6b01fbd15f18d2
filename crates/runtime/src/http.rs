//! The one way to listen for HTTP: the services' listeners and the admin port.
//!
//! In: an address, a router, a shutdown. Out: answers; those under way at the shutdown are finished.
//! Never: an answer that waits for the client's delayed acknowledgement. Without TCP_NODELAY each answer of two segments
//! on a kept connection takes 40 ms more.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::{Listener, ListenerExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{RuntimeError, Shutdown};

/// A listener that is bound and not served yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpListener {
    /// Binds; `what` and `key` make the error say which listener and which configuration key it is.
    pub async fn bind(address: SocketAddr, what: &'static str, key: &'static str) -> Result<Self, RuntimeError> {
        let failed = |source| RuntimeError::Listen { address, what, key, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown, then finishes the answers under way.
    pub async fn serve(self, app: Router, shutdown: Shutdown) -> Result<(), RuntimeError> {
        let stop = async move { shutdown.requested().await };
        let served = axum::serve(without_delay(self.listener), app).with_graceful_shutdown(stop).await;
        served.map_err(|source| RuntimeError::System { what: "serving HTTP", source })
    }
}

/// Every connection that it accepts sends at once what it is given.
fn without_delay(listener: TcpListener) -> impl Listener<Io = TcpStream, Addr = SocketAddr> {
    listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "answers may be delayed");
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_send_at_once() {
        let bound = HttpListener::bind("127.0.0.1:0".parse().unwrap(), "test", "http.listen").await.unwrap();
        let address = bound.address();
        let mut listener = without_delay(bound.listener);
        for _ in 0..3 {
            let client = TcpStream::connect(address).await.unwrap();
            let (accepted, peer) = listener.accept().await;
            assert_eq!((accepted.nodelay().unwrap(), peer), (true, client.local_addr().unwrap()));
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_its_key() {
        let bound = HttpListener::bind("127.0.0.1:0".parse().unwrap(), "test", "http.listen").await.unwrap();
        let again = HttpListener::bind(bound.address(), "SQL listener", "http.listen").await.unwrap_err();
        assert_eq!(again.code(), "MESH-RUNTIME-0005");
        assert!(again.to_string().contains(&bound.address().to_string()), "{again}");
    }
}
