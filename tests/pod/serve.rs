//! A server for containers of the pod tests: what probes and HTTP hooks talk to.
//!
//! It is this very test binary, static like everything here, mounted into the container; see
//! [`Server`]. It listens on all addresses, says `listening` on stdout, then a line for each
//! request. The file `/status/<protocol>` is read anew for each connection; without it the server is
//! well. In it:
//!
//! ```text
//! http, https   503                        a status; or `hang`, or `close`
//!               Location: /elsewhere       more headers
//! grpc          NOT_SERVING                of the server as a whole; or `hang`
//!               web SERVING                of a service
//! tcp           (not read)
//! ```

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

use crate::scene::Scene;

const HEAD_BYTES: usize = 64 << 10;
const FOREVER: Duration = Duration::from_secs(1 << 30);

#[derive(Clone)]
enum Protocol {
    Http,
    Https(TlsAcceptor),
    Grpc,
    Tcp,
}

/// Names protocol and port to [`a_server_is_this_binary`].
const VARIABLE: &str = "SERVE";
/// Where answers are read from, in the container: a file for each protocol.
const ANSWERS: &str = "/status";

/// A server in a manifest: lines of YAML in flow style, so that they fit anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// `http`, `https`, `grpc` or `tcp`.
    pub protocol: &'static str,
    pub port: u16,
}

impl Server {
    /// Fields of the container.
    pub fn container(self) -> String {
        let Self { protocol, port } = self;
        format!(
            "image: IMAGE, command: [/serve, --exact, 'serve::a_server_is_this_binary', \
             --include-ignored, --nocapture], env: [{{name: {VARIABLE}, value: '{protocol} {port}'}}], \
             volumeMounts: [{{name: serve, mountPath: /serve}}, {{name: status, mountPath: /status}}]"
        )
    }

    /// Fields of the pod.
    pub fn volumes() -> String {
        let this = std::env::current_exe().unwrap();
        format!(
            "volumes: [{{name: serve, hostPath: {{path: '{}', type: File}}}}, \
             {{name: status, emptyDir: {{}}}}]",
            this.display()
        )
    }
}

/// Makes the server in the container `protocol` answer differently from now on.
#[track_caller]
pub fn answer(scene: &Scene, pod: &str, protocol: &str, text: &str) {
    // Renamed, so that no half answer is read.
    let file = format!("{ANSWERS}/{protocol}");
    let script = format!("printf '{text}' > {file}.new && mv {file}.new {file}");
    scene.sh(pod, protocol, &script).ok();
}

#[test]
#[ignore = "a program for containers; without the variable it has nothing to do"]
fn a_server_is_this_binary() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let (protocol, port) = what.split_once(' ').expect("a protocol and a port");
    let protocol = match protocol {
        "http" => Protocol::Http,
        "https" => Protocol::Https(certificate()),
        "grpc" => Protocol::Grpc,
        "tcp" => Protocol::Tcp,
        other => panic!("{VARIABLE} begins with http, https, grpc or tcp, not {other:?}"),
    };
    let port = port.parse().expect("a port");
    // As PID 1 of a container it would not die of SIGTERM otherwise.
    carob::sys::process::exit_on_termination_signals();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(protocol, port));
}

async fn serve(protocol: Protocol, port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let protocol = protocol.clone();
        // What a peer does to its connection is its own business.
        tokio::spawn(async move { converse(protocol, stream).await.unwrap_or(()) });
    }
}

async fn converse(protocol: Protocol, stream: TcpStream) -> io::Result<()> {
    let name = match &protocol {
        Protocol::Http => "http",
        Protocol::Https(_) => "https",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    };
    let status = std::fs::read_to_string(format!("{ANSWERS}/{name}")).unwrap_or_default();
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
