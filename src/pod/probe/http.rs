//! `httpGet`: one GET, redirects followed on the same host.
//!
//! Each request has a connection of its own, HTTP/1.1, no proxy, no compression. Unlike the
//! kubelet's, its socket has no SO_LINGER: a close that waits would stop the supervisor's thread.

use std::future::poll_fn;
use std::os::fd::BorrowedFd;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, TRAILER, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::{connect, errno_text};
use super::redirect::{self, Redirect};
use super::target::{HttpTarget, Scheme};
use super::{Health, KUBERNETES, OUTPUT_BYTES, Trouble, tls};

/// Requests that one attempt makes at most.
const REQUESTS: usize = 10;
/// Longest head of an answer, bytes.
const HEAD_BYTES: usize = 64 << 10;

/// Who asks: in the user agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Probe,
    Lifecycle,
}

impl Asker {
    fn user_agent(self) -> String {
        let name = match self {
            Self::Probe => "kube-probe",
            Self::Lifecycle => "kube-lifecycle",
        };
        format!("{name}/{KUBERNETES}")
    }
}

/// The last answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// The first 10 KiB.
    body: Vec<u8>,
}

/// 200 to 399 is well; what is left of the 300s is a redirect that was not followed.
pub(super) async fn probe(
    target: &HttpTarget,
    netns: Option<BorrowedFd<'_>>,
    timeout: Duration,
) -> Result<Health, Trouble> {
    let Ok(reply) = tokio::time::timeout(timeout, get(target, netns, Asker::Probe)).await else {
        return Err(Trouble::Failure(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            target.url()
        )));
    };
    let Reply { status, body } = reply?;
    Ok(match status.as_u16() {
        200..300 => Health::Success,
        300..400 => Health::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            String::from_utf8_lossy(&body)
        )),
        // Without the body: events are read by people who may not read the container's answers.
        code => Health::Failure(format!("HTTP probe failed with statuscode: {code}")),
    })
}

/// Asks, and follows redirects to the same host.
pub(super) async fn get(
    target: &HttpTarget,
    netns: Option<BorrowedFd<'_>>,
    asker: Asker,
) -> Result<Reply, Trouble> {
    let mut redirected = None;
    for _ in 0..REQUESTS {
        let target = redirected.as_ref().unwrap_or(target);
        let step = ask(target, netns, asker).await;
        match step.map_err(|trouble| trouble.prefixed(&format!("Get {:?}: ", target.url())))? {
            Step::Reply(reply) => return Ok(reply),
            Step::Redirect(next) => redirected = Some(next),
        }
    }
    Err(Trouble::Failure(format!("Get {:?}: stopped after {REQUESTS} redirects", target.url())))
}

enum Step {
    Reply(Reply),
    Redirect(HttpTarget),
}

async fn ask(
    target: &HttpTarget,
    netns: Option<BorrowedFd<'_>>,
    asker: Asker,
) -> Result<Step, Trouble> {
    let request = request(target, asker).map_err(Trouble::Failure)?;
    let stream = connect(&target.address, netns).await?;
    let stream: Box<dyn Stream> = match target.scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => Box::new(tls::connect(stream, &target.address.host).await?),
    };
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if let Some(next) = redirection(target, &response).map_err(Trouble::Failure)? {
            return Ok(Step::Redirect(next));
        }
        let status = response.status();
        Ok(Step::Reply(Reply { status, body: read(response.into_body()).await? }))
    };
    drive(pin!(connection), exchange).await
}

/// Anything that HTTP can be spoken over; boxed, so that hyper is compiled for one type.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Polls the connection for as long as the exchange over it takes.
async fn drive<T>(mut connection: Pin<&mut impl Future>, exchange: impl Future<Output = T>) -> T {
    let mut exchange = pin!(exchange);
    let mut open = true;
    poll_fn(|context| {
        if open && connection.as_mut().poll(context).is_ready() {
            open = false;
        }
        exchange.as_mut().poll(context)
    })
    .await
}

fn request(target: &HttpTarget, asker: Asker) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() =
        target.path.parse().map_err(|error| format!("path {:?}: {error}", target.path))?;
    *request.headers_mut() = headers(target, asker)?;
    Ok(request)
}

/// The headers of the manifest and the kubelet's own where the manifest is silent.
fn headers(target: &HttpTarget, asker: Asker) -> Result<HeaderMap, String> {
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"))
    };
    let mut headers = HeaderMap::new();
    for (name, text) in &target.headers {
        let key = name.parse::<HeaderName>().map_err(|error| format!("{name:?}: {error}"))?;
        headers.append(key, value(text.trim())?);
    }
    let own = [
        (HOST, target.address.to_string()),
        (USER_AGENT, asker.user_agent()),
        (ACCEPT, "*/*".to_owned()),
    ];
    for (name, default) in own {
        match headers.get(&name) {
            // An empty host is as good as none; of the others an empty value takes them away.
            Some(given) if given.is_empty() && name != HOST => drop(headers.remove(&name)),
            Some(given) if !given.is_empty() => {
                let first = given.clone();
                headers.insert(name, first);
            }
            _ => drop(headers.insert(name, value(&default)?)),
        }
    }
    // What frames the message is not the manifest's to say.
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER] {
        headers.remove(name);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(headers)
}

/// Where an answer sends us, if it is where we go.
fn redirection(
    target: &HttpTarget,
    response: &Response<Incoming>,
) -> Result<Option<HttpTarget>, String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).map(|value| value.as_bytes().to_vec());
    let Some(location) = location.filter(|location| !location.is_empty()) else { return Ok(None) };
    match redirect::resolve(target, &String::from_utf8_lossy(&location))? {
        Redirect::SameHost(next) => Ok(Some(next)),
        Redirect::Elsewhere => Ok(None),
    }
}

/// The first 10 KiB of a body.
async fn read(mut body: Incoming) -> Result<Vec<u8>, Trouble> {
    let mut kept = Vec::new();
    while kept.len() < OUTPUT_BYTES {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let room = OUTPUT_BYTES - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
    }
    Ok(kept)
}

/// What went wrong on a connection, in Go's words where it has some.
fn broken(error: hyper::Error) -> Trouble {
    let source = std::error::Error::source(&error);
    let cause = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    Trouble::Failure(match cause {
        Some(cause) if cause.raw_os_error().is_some() => format!("read: {}", errno_text(cause)),
        _ if error.is_incomplete_message() => "EOF".to_owned(),
        _ if error.is_parse() => format!("malformed HTTP response: {error}"),
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    })
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
