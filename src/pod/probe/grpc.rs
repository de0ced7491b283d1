//! `grpc`: the standard health service (`grpc.health.v1.Health`), in clear.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Answer;
use tonic_health::pb::health_client::HealthClient;

use super::target::Address;
use super::{Health, KUBERNETES, OUTPUT_BYTES, Trouble, connect, go_duration};

/// Longest headers of an answer, bytes.
const HEAD_BYTES: u32 = 16 << 10;

/// Well is `SERVING`; all else is a failure.
pub(super) async fn probe(
    address: &Address,
    service: &str,
    netns: Option<BorrowedFd<'_>>,
    timeout: Duration,
) -> Result<Health, Trouble> {
    let deadline = Instant::now() + timeout;
    let timeout = go_duration(timeout);
    let name = address.to_string();
    let late = || {
        Trouble::Failure(format!(
            "timeout: failed to connect service {name:?} within {timeout}: context deadline exceeded"
        ))
    };
    let refused = format!("error: failed to connect service at {name:?}: ");
    let stream = timeout_at(deadline, connect::connect(address, netns)).await;
    let stream = stream.map_err(|_elapsed| late())?.map_err(|other| other.prefixed(&refused))?;
    let channel = timeout_at(deadline, channel(&name, stream)).await.map_err(|_elapsed| late())?;
    let channel = channel.map_err(|error| Trouble::Failure(format!("{refused}{error}")))?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(OUTPUT_BYTES);
    let request = HealthCheckRequest { service: service.to_owned() };
    let Ok(response) = timeout_at(deadline, client.check(request)).await else {
        let text = format!("timeout: health rpc did not complete within {timeout}");
        return Ok(Health::Failure(text));
    };
    Ok(match response {
        Ok(response) => judge(response.into_inner().status),
        Err(status) => Health::Failure(failure(&status, &timeout)),
    })
}

/// A channel over a stream that is connected already, and never over another.
async fn channel(name: &str, stream: TcpStream) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    Endpoint::from_shared(format!("http://{name}"))?
        .user_agent(format!("kube-probe/{KUBERNETES}"))?
        .http2_max_header_list_size(HEAD_BYTES)
        .connect_with_connector(connector)
        .await
}

fn judge(status: i32) -> Health {
    match Answer::try_from(status) {
        Ok(Answer::Serving) => Health::Success,
        Ok(other) => unhealthy(other.as_str_name()),
        Err(_unknown) => unhealthy(&status.to_string()),
    }
}

fn unhealthy(answer: &str) -> Health {
    Health::Failure(format!("service unhealthy (responded with {answer:?})"))
}

fn failure(status: &Status, timeout: &str) -> String {
    let message = status.message();
    match status.code() {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {message}"
        ),
        Code::DeadlineExceeded => format!("timeout: health rpc did not complete within {timeout}"),
        code => {
            format!("error: health rpc probe failed: rpc error: code = {code:?} desc = {message}")
        }
    }
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
