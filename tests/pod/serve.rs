//! A static server for containers of the pod tests: what probes and HTTP hooks talk to.
//!
//! ```text
//! serve http|https|grpc|tcp PORT [STATUS FILE]
//! ```
//!
//! It listens on all addresses, says `listening` on stdout, then a line for each request. The
//! status file is read anew for each connection; without it the server is well. In it:
//!
//! ```text
//! http, https   503                        a status; or `hang`, or `close`
//!               Location: /elsewhere       more headers
//! grpc          NOT_SERVING                of the server as a whole; or `hang`
//!               web SERVING                of a service
//! tcp           (not read)
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program of the tests"
)]
#![allow(clippy::print_stdout, reason = "its log")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic_health::ServingStatus;

const HEAD_BYTES: usize = 64 << 10;
const FOREVER: Duration = Duration::from_secs(1 << 30);

#[derive(Clone)]
enum Protocol {
    Http,
    Https(TlsAcceptor),
    Grpc,
    Tcp,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let protocol = match arguments.next().as_deref() {
        Some("http") => Protocol::Http,
        Some("https") => Protocol::Https(certificate()),
        Some("grpc") => Protocol::Grpc,
        Some("tcp") => Protocol::Tcp,
        other => panic!("usage: serve http|https|grpc|tcp PORT [STATUS FILE], not {other:?}"),
    };
    let port: u16 = arguments.next().and_then(|port| port.parse().ok()).expect("a port");
    let file: Option<Arc<str>> = arguments.next().map(Into::into);
    // As PID 1 of a container it would not die of SIGTERM otherwise.
    carob::sys::process::exit_on_termination_signals();
    let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (protocol, file) = (protocol.clone(), file.clone());
        // What a peer does to its connection is its own business.
        tokio::spawn(
            async move { converse(protocol, stream, file.as_deref()).await.unwrap_or(()) },
        );
    }
}

async fn converse(protocol: Protocol, stream: TcpStream, file: Option<&str>) -> io::Result<()> {
    let status = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    match protocol {
        Protocol::Http => http(stream, &status).await,
        Protocol::Https(tls) => http(tls.accept(stream).await?, &status).await,
        Protocol::Grpc => grpc(stream, &status).await,
        Protocol::Tcp => {
            println!("connected");
            Ok(())
        }
    }
}

async fn http(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: &str) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    println!("{}", String::from_utf8_lossy(&head).trim_end().replace("\r\n", " | "));
    let mut lines = status.lines().map(str::trim);
    let code = match lines.next().unwrap_or_default() {
        "hang" => return hang().await,
        "close" => return Ok(()),
        "" => "200",
        code => code,
    };
    let headers: String = lines.map(|header| format!("{header}\r\n")).collect();
    let answer =
        format!("HTTP/1.1 {code} X\r\nContent-Length: 3\r\nConnection: close\r\n{headers}\r\nok\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn grpc(stream: TcpStream, status: &str) -> io::Result<()> {
    println!("connected");
    if status.trim() == "hang" {
        return hang().await;
    }
    let (reporter, service) = tonic_health::server::health_reporter();
    for line in status.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (service, status) = line.split_once(' ').unwrap_or(("", line));
        let status = match status {
            "SERVING" => ServingStatus::Serving,
            "NOT_SERVING" => ServingStatus::NotServing,
            _ => ServingStatus::Unknown,
        };
        reporter.set_service_status(service, status).await;
    }
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await
        .map_err(io::Error::other)
}

async fn hang() -> io::Result<()> {
    tokio::time::sleep(FOREVER).await;
    Ok(())
}

/// For a name that nobody asks for.
fn certificate() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["of.somebody.else".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
