//! Against real servers of the health service, and others.

use std::time::Instant as Clock;

use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic_health::ServingStatus;
use tonic_health::server::health_reporter;

use super::super::check;
use super::super::target::Action;
use super::*;

const LONG: Duration = Duration::from_secs(20);

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Address { host: "127.0.0.1".to_owned(), port })
}

/// A health server: the whole, `good` and `bad`.
async fn healthy() -> Address {
    let (reporter, service) = health_reporter();
    reporter.set_service_status("good", ServingStatus::Serving).await;
    reporter.set_service_status("bad", ServingStatus::NotServing).await;
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        // Dropped, it would take back what it has reported.
        let _reporter = reporter;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

async fn ask(address: &Address, service: &str, timeout: Duration) -> Health {
    let action = Action::Grpc { address: address.clone(), service: service.to_owned() };
    check(&action, None, timeout).await.unwrap()
}

#[tokio::test]
async fn only_serving_is_well() {
    let address = healthy().await;
    let bad = "service unhealthy (responded with \"NOT_SERVING\")";
    let none = "error: health rpc probe failed: rpc error: code = NotFound desc = ";
    for (service, expected) in [("", None), ("good", None), ("bad", Some(bad)), ("no", Some(none))]
    {
        match (ask(&address, service, LONG).await, expected) {
            (Health::Success, None) => {}
            (Health::Failure(text), Some(expected)) if text.starts_with(expected) => {}
            other => panic!("{service}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_without_the_service_is_told_apart() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|_| async {
            let response = http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "12")
                .header("grpc-message", "unknown method");
            Ok::<_, std::convert::Infallible>(
                response.body(http_body_util::Empty::<hyper::body::Bytes>::new()).unwrap(),
            )
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
    });
    let expected = "error: this server does not implement the grpc health protocol \
                    (grpc.health.v1.Health): unknown method";
    assert_eq!(ask(&address, "", LONG).await, Health::Failure(expected.to_owned()));
}

#[tokio::test]
async fn no_grpc_is_a_failure() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap_or(());
            while stream.read_u8().await.is_ok() {}
        }
    });
    let health = ask(&address, "", LONG).await;
    let Health::Failure(text) = health else { panic!("{health:?}") };
    assert!(text.starts_with("error: health rpc probe failed: rpc error: code = "), "{text}");
}

#[tokio::test]
async fn nobody_there_is_a_failure_at_once() {
    let (listener, address) = listen().await;
    drop(listener);
    let expected = format!(
        "error: failed to connect service at \"{address}\": dial tcp {address}: connect: \
         connection refused"
    );
    assert_eq!(ask(&address, "", LONG).await, Health::Failure(expected));
}

#[tokio::test]
async fn a_silent_server_fails_at_the_timeout() {
    let (listener, address) = listen().await;
    let begin = Clock::now();
    let health = ask(&address, "", Duration::from_millis(200)).await;
    let expected = "timeout: health rpc did not complete within 200ms";
    assert_eq!(health, Health::Failure(expected.to_owned()));
    assert!((200..5_000).contains(&begin.elapsed().as_millis()));
    drop(listener);
}
