//! Against servers of flesh and blood: sockets of this process that answer as they are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::check;
use super::super::target::{Action, Address};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

/// What a server does with the connection after its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Stall,
    /// Writes without end.
    Flood,
}

/// A server with one answer for all; `heads` are the requests it has seen.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn target(&self, path: &str) -> HttpTarget {
        HttpTarget {
            scheme: Scheme::Http,
            address: Address { host: "127.0.0.1".to_owned(), port: self.port },
            path: path.to_owned(),
            headers: Vec::new(),
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn server(answer: impl Into<Vec<u8>>, then: Then) -> Server {
    let answer = answer.into();
    serve(move |_| answer.clone(), then, None).await
}

async fn serve(
    answer: impl Fn(u16) -> Vec<u8> + Send + 'static,
    then: Then,
    tls: Option<TlsAcceptor>,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answer, seen, tls) = (answer(port), Arc::clone(&seen), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => converse(stream, &answer, then, &seen).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            converse(stream, &answer, then, &seen).await;
                        }
                    }
                }
            });
        }
    });
    Server { port, heads }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    then: Then,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    if stream.write_all(answer).await.is_err() {
        return;
    }
    match then {
        Then::Close => drop(stream.shutdown().await),
        Then::Stall => tokio::time::sleep(LONG).await,
        Then::Flood => while stream.write_all(&[b'x'; 4096]).await.is_ok() {},
    }
}

fn certificate() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["of.somebody.else".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![made.cert.der().clone()], key)
    .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn ask(target: HttpTarget, timeout: Duration) -> Health {
    check(&Action::Http(target), None, timeout).await.unwrap()
}

fn failure(health: Health) -> String {
    match health {
        Health::Failure(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn statuses() {
    for (status, well) in [
        (200, true),
        (204, true),
        (299, true),
        (199, false),
        (400, false),
        (404, false),
        (500, false),
        (599, false),
        (999, false),
    ] {
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        let health = ask(server(answer, Then::Close).await.target("/"), LONG).await;
        // hyper takes 199 for one of the answers before the answer.
        let expected = match (well, status) {
            (true, _) => Health::Success,
            (false, 199) => {
                assert!(matches!(health, Health::Failure(_)), "{health:?}");
                continue;
            }
            (false, _) => Health::Failure(format!("HTTP probe failed with statuscode: {status}")),
        };
        assert_eq!(health, expected);
    }
}

#[tokio::test]
async fn the_body_is_not_in_the_text_of_a_failure() {
    let answer = "HTTP/1.1 500 X\r\nContent-Length: 6\r\n\r\nsecret";
    let text = failure(ask(server(answer, Then::Close).await.target("/"), LONG).await);
    assert_eq!(text, "HTTP probe failed with statuscode: 500");
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn requests_look_like_those_of_the_kubelet() {
    let server = server(OK, Then::Close).await;
    let port = server.port;
    let mut target = server.target("/a?b");
    assert_eq!(ask(target.clone(), LONG).await, Health::Success);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    target.headers = vec![
        pair("host", "web.example"),
        pair("X-Twice", "1"),
        pair("x-twice", "2"),
        pair("ACCEPT", ""),
        pair("User-Agent", "mine"),
        pair("Content-Length", "5"),
        pair("Connection", "keep-alive"),
    ];
    assert_eq!(ask(target.clone(), LONG).await, Health::Success);
    target.headers = vec![pair("bad name", "x")];
    assert!(failure(ask(target.clone(), LONG).await).contains("bad name"));
    target.headers = vec![pair("X", "a\nInjected: 1")];
    assert!(failure(ask(target, LONG).await).contains("Injected"));

    let heads = server.heads();
    let sorted = |head: &str| {
        let mut lines: Vec<_> = head.trim_end().split("\r\n").map(str::to_owned).collect();
        lines[1..].sort();
        lines
    };
    assert_eq!(heads.len(), 2);
    assert_eq!(
        sorted(&heads[0]),
        [
            "GET /a?b HTTP/1.1",
            "Accept: */*",
            "Connection: close",
            &format!("Host: 127.0.0.1:{port}"),
            "User-Agent: kube-probe/1.36",
        ]
    );
    assert_eq!(
        sorted(&heads[1]),
        [
            "GET /a?b HTTP/1.1",
            "Connection: close",
            "Host: web.example",
            "User-Agent: mine",
            "X-Twice: 1",
            "X-Twice: 2",
        ]
    );
}

fn moved(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nbody")
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_ten_requests_in_all() {
    let good = server(OK, Then::Close).await;
    let location = format!("http://127.0.0.1:{}/there", good.port);
    let first = server(moved(&location), Then::Stall).await;
    assert_eq!(ask(first.target("/"), LONG).await, Health::Success);
    assert!(good.heads()[0].starts_with("GET /there HTTP/1.1\r\n"));

    let circle = server(moved("again"), Then::Close).await;
    let text = failure(ask(circle.target("/"), LONG).await);
    assert!(text.ends_with("stopped after 10 redirects"), "{text}");
    assert_eq!(circle.heads().len(), 10);

    let bad = server(moved("ftp://127.0.0.1/"), Then::Close).await;
    let text = failure(ask(bad.target("/"), LONG).await);
    assert!(text.ends_with("unsupported protocol scheme \"ftp\""), "{text}");
}

#[tokio::test]
async fn a_host_header_goes_along_with_a_relative_redirect_only() {
    for (location, kept) in [("/there", true), ("http://127.0.0.1:{port}/there", false)] {
        let count = AtomicUsize::new(0);
        let server = serve(
            move |port| {
                let first = count.fetch_add(1, Ordering::Relaxed) == 0;
                let location = location.replace("{port}", &port.to_string());
                if first { moved(&location).into() } else { OK.into() }
            },
            Then::Close,
            None,
        )
        .await;
        let mut target = server.target("/");
        target.headers = vec![("Host".to_owned(), "web".to_owned())];
        assert_eq!(ask(target, LONG).await, Health::Success);
        assert_eq!(server.heads()[1].contains("Host: web\r\n"), kept, "{location}");
    }
}

#[tokio::test]
async fn other_redirects_are_a_warning() {
    for answer in [
        moved("http://elsewhere/"),
        moved(""),
        "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
        "HTTP/1.1 300 X\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
    ] {
        let server = server(answer.clone(), Then::Close).await;
        let body = if answer.contains("304") { "" } else { "body" };
        let text = format!("Probe terminated redirects, Response body: {body}");
        assert_eq!(ask(server.target("/"), LONG).await, Health::Warning(text), "{answer}");
        assert_eq!(server.heads().len(), 1);
    }
}

#[tokio::test]
async fn no_answer_is_a_failure_that_says_so() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut target = server("", Then::Close).await.target("/x");
    let text = failure(ask(target.clone(), LONG).await);
    assert_eq!(text, format!("Get \"{}\": EOF", target.url()));
    target.address.port = closed;
    let text = failure(ask(target.clone(), LONG).await);
    assert_eq!(
        text,
        format!(
            "Get \"{}\": dial tcp 127.0.0.1:{closed}: connect: connection refused",
            target.url()
        )
    );
    target.address.host = "no.such.host".to_owned();
    let health = ask(target, LONG).await;
    assert!(matches!(&health, Health::Unknown(text) if text.contains("lookup no.such.host")));
}

#[tokio::test]
async fn slow_servers_fail_at_the_timeout_wherever_they_are_slow() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"] {
        let target = server(answer, Then::Stall).await.target("/");
        let begin = Instant::now();
        let text = failure(ask(target.clone(), SECOND / 5).await);
        assert!((200..5_000).contains(&begin.elapsed().as_millis()));
        assert!(text.starts_with(&format!("Get \"{}\": context deadline", target.url())), "{text}");
    }
}

#[tokio::test]
async fn endless_answers_cost_ten_kibibytes() {
    for head in
        ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"]
    {
        let target = server(head, Then::Flood).await.target("/");
        assert_eq!(ask(target, LONG).await, Health::Success);
    }
    let target = server("HTTP/1.1 300 X\r\n\r\n", Then::Flood).await.target("/");
    let Health::Warning(text) = ask(target, LONG).await else { panic!("not a warning") };
    assert!(text.len() < OUTPUT_BYTES + 100);
    let target = server("HTTP/1.1 200 OK\r\nX: ", Then::Flood).await.target("/");
    let text = failure(ask(target, LONG).await);
    assert!(text.contains("too large"), "{text}");
}

#[tokio::test]
async fn garbage_is_a_failure() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.9\r\n\r\n"[..],
        b"\0\xff\x01\x02\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    ] {
        let health = ask(server(answer, Then::Close).await.target("/"), LONG).await;
        let text = failure(health);
        assert!(text.starts_with("Get \"http://127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn any_certificate_will_do() {
    let server = serve(|_| OK.into(), Then::Close, Some(certificate())).await;
    let target = HttpTarget { scheme: Scheme::Https, ..server.target("/") };
    assert_eq!(ask(target.clone(), LONG).await, Health::Success);
    let mut by_name = target.clone();
    by_name.address.host = "localhost".to_owned();
    assert_eq!(ask(by_name, LONG).await, Health::Success);
    // In clear to a server that speaks TLS.
    let clear = HttpTarget { scheme: Scheme::Http, ..target };
    assert!(matches!(ask(clear, LONG).await, Health::Failure(_)));
}

#[tokio::test]
async fn tls_to_a_server_without_it_fails() {
    // Such a server answers what it cannot read without waiting for the end of it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await.unwrap();
        tokio::time::sleep(LONG).await;
    });
    let target = HttpTarget {
        scheme: Scheme::Https,
        address: Address { host: "127.0.0.1".to_owned(), port },
        path: "/".to_owned(),
        headers: Vec::new(),
    };
    let text = failure(ask(target, LONG).await);
    assert!(text.ends_with(": http: server gave HTTP response to HTTPS client"), "{text}");
}
