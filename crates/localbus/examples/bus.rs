//! The local bus alone, for client suites: `bus --listen 127.0.0.1:0 --data DIR`. Prints its address when ready.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;

use mesh_localbus::{LocalBus, LocalBusConfig};

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let listen: SocketAddr = argument("--listen").unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let data = argument("--data").ok_or("--data DIR is missing")?;
    let bus = LocalBus::start(LocalBusConfig::new(listen, data)).await?;
    println!("{}", bus.addr());
    tokio::signal::ctrl_c().await?;
    bus.shutdown().await;
    Ok(())
}
