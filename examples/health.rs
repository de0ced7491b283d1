//! A gRPC server that says how well it is: for bundles/pods/liveness-grpc.yaml.
//!
//! ```text
//! health PORT FILE
//! ```
//!
//! Each line of the file names a service and SERVING or NOT_SERVING; it is read anew for each
//! connection. The server as a whole is well. Static, like carob: `scripts/bundles --grpc` makes
//! a root filesystem of it alone.
#![allow(clippy::print_stdout, reason = "its log")]

use std::error::Error;
use std::io;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tonic_health::ServingStatus;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, file] = arguments.as_slice() else {
        return Err("usage: health PORT FILE".into());
    };
    // As PID 1 of a container it would not die of SIGTERM otherwise.
    carob::sys::process::exit_on_termination_signals();
    let listener = TcpListener::bind(("0.0.0.0", port.parse()?)).await?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await?;
        let status = std::fs::read_to_string(file).unwrap_or_default();
        // What a peer does to its connection is its own business.
        tokio::spawn(async move { converse(stream, &status).await.unwrap_or(()) });
    }
}

async fn converse(stream: TcpStream, status: &str) -> io::Result<()> {
    let (reporter, service) = tonic_health::server::health_reporter();
    for (name, status) in status.lines().filter_map(|line| line.trim().split_once(' ')) {
        let is_well = status == "SERVING";
        let status = if is_well { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status(name, status).await;
    }
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await
        .map_err(io::Error::other)
}
