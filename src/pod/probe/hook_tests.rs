//! HTTP hooks against real servers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::target::Address;
use super::*;

/// A server in clear that has one answer to whatever comes first.
async fn server(answer: &'static str) -> (HttpTarget, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let requests = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            seen.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Reset-free end, as a server that has read all would make it.
            stream.shutdown().await.unwrap_or(());
            while stream.read(&mut request).await.is_ok_and(|length| length > 0) {}
        }
    });
    let address = Address { host: "127.0.0.1".to_owned(), port };
    let path = "/hook".to_owned();
    (HttpTarget { scheme: Scheme::Http, address, path, headers: Vec::new() }, requests)
}

#[tokio::test]
async fn any_status_will_do() {
    for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 500 X\r\n\r\n", "HTTP/1.1 404 X\r\n\r\n"] {
        let (target, requests) = server(answer).await;
        assert_eq!(run(&Action::Http(target), None).await.unwrap(), Ok(()));
        let requests = requests.lock().unwrap();
        assert!(requests[0].contains("User-Agent: kube-lifecycle/1.36\r\n"), "{requests:?}");
    }
}

#[tokio::test]
async fn no_answer_is_a_failure() {
    let (target, _) = server("").await;
    let text = run(&Action::Http(target), None).await.unwrap().unwrap_err();
    assert!(text.ends_with("/hook\": EOF"), "{text}");
}

#[tokio::test]
async fn https_is_tried_again_in_clear_without_the_secret() {
    let (mut target, requests) = server("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    target.scheme = Scheme::Https;
    target.headers = [("AUTHORIZATION", "secret"), ("X-Other", "1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    assert_eq!(run(&Action::Http(target), None).await.unwrap(), Ok(()));
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].contains("X-Other: 1\r\n") && !requests[1].contains("secret"));
}

#[tokio::test]
async fn sleep_sleeps() {
    for millis in [0, 100] {
        let begin = Instant::now();
        let action = Action::Sleep(Duration::from_millis(millis));
        assert_eq!(run(&action, None).await.unwrap(), Ok(()));
        assert!(
            (millis..millis + 2_000).contains(&begin.elapsed().as_millis().try_into().unwrap())
        );
    }
    assert!(run(&Action::Exec(Vec::new()), None).await.unwrap().is_err());
}
