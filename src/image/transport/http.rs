//! What `oci-client` leaves open of the protocol of registries: documents whose length has a limit,
//! and access tokens in exchange for an identity token.
//!
//! Sources: distribution-spec, "Pulling manifests"; the Distribution project's "Registry token
//! authentication", *OAuth2 token authentication*.

use std::time::{Duration, Instant};

use http_auth::ChallengeRef;
use oci_client::Reference as Name;
use reqwest::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::registry::{CONNECT_LIMIT, STALL_LIMIT, USER_AGENT, chain};
use crate::error::{Error, Result};
use crate::image::manifest::{MAX_DOCUMENT, MEDIA_TYPES};
use crate::image::reference::Reference;

/// Longest answer of a server of tokens, and of an error that is shown, bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// How long an access token is good if the server does not say. Source: token authentication.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// It is exchanged this much earlier: the way to the registry takes time.
const MARGIN: Duration = Duration::from_secs(10);

/// How to present oneself in one request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof<'a> {
    Nothing,
    Password(&'a str, &'a str),
    Token(&'a str),
}

/// A client for one registry.
pub(super) struct Http {
    client: Client,
    scheme: &'static str,
}

/// A token that a registry takes for a while.
#[derive(Clone)]
pub(super) struct AccessToken {
    pub(super) text: String,
    good_until: Instant,
}

impl AccessToken {
    pub(super) fn is_good(&self) -> bool {
        Instant::now() < self.good_until
    }
}

/// Why there is no document.
pub(super) enum NoDocument {
    Unauthorized,
    NotFound,
    Other(String),
}

impl Http {
    /// Prepares a client; `direct` leaves proxies out.
    pub(super) fn new(plain_http: bool, direct: bool) -> Result<Self> {
        // A second time is fine: it is the same one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(STALL_LIMIT)
            .user_agent(USER_AGENT);
        if direct {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| unusable(&error))?;
        Ok(Self { client, scheme: if plain_http { "http" } else { "https" } })
    }

    /// A manifest or an index.
    pub(super) async fn manifest(
        &self,
        name: &Name,
        proof: Proof<'_>,
    ) -> Result<Vec<u8>, NoDocument> {
        let which = name.digest().or(name.tag()).unwrap_or("latest");
        let url = format!(
            "{}://{}/v2/{}/manifests/{which}",
            self.scheme,
            name.resolve_registry(),
            name.repository()
        );
        let request = self.client.get(url).header(ACCEPT, MEDIA_TYPES.join(", "));
        let answer = send(prove(request, proof)).await?;
        match answer.status() {
            StatusCode::OK => bounded(answer, MAX_DOCUMENT).await.map_err(NoDocument::Other),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(NoDocument::Unauthorized),
            StatusCode::NOT_FOUND => Err(NoDocument::NotFound),
            status => {
                let text = bounded(answer, MAX_ANSWER).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                Err(NoDocument::Other(format!("{status}: {}", text.trim())))
            }
        }
    }

    /// Exchanges an identity token for one that lets pull from a repository.
    pub(super) async fn exchange(&self, name: &Name, identity: &str) -> Result<AccessToken> {
        let registry = name.resolve_registry();
        let wrong = |why: String| {
            Error::Invalid(format!("registry {registry}: exchange of the identity token: {why}"))
        };
        let ask = self.client.get(format!("{}://{registry}/v2/", self.scheme));
        let answer = ask.send().await.map_err(|error| wrong(chain(&error)))?;
        let header = answer.headers().get(WWW_AUTHENTICATE).and_then(|header| header.to_str().ok());
        let (realm, service) = bearer(header.unwrap_or_default())
            .ok_or_else(|| wrong("the registry does not ask for tokens".into()))?;
        let realm = Url::parse(&realm).map_err(|error| wrong(format!("{realm:?}: {error}")))?;
        if self.scheme == "https" && realm.scheme() != "https" {
            return Err(wrong(format!("{realm} would get it without TLS")));
        }
        let request = self
            .client
            .post(realm)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(&service, name.repository(), identity));
        let answer = request.send().await.map_err(|error| wrong(chain(&error)))?;
        let status = answer.status();
        let text = bounded(answer, MAX_ANSWER).await.map_err(wrong)?;
        if !status.is_success() {
            return Err(wrong(format!("{status}: {}", String::from_utf8_lossy(&text).trim())));
        }
        granted(&text).map_err(wrong)
    }
}

/// Whether a registry on this machine wants TLS: it has no answer for who does not use it, or a
/// complaint.
///
/// # Errors
/// [`Error::Invalid`] if no client can be made.
pub(in crate::image) async fn has_tls(image: &Reference) -> Result<bool> {
    let http = Http::new(true, true)?;
    let answer = http.client.get(format!("http://{}/v2/", image.registry)).send().await;
    Ok(match answer {
        Ok(answer) => answer.status() == StatusCode::BAD_REQUEST,
        Err(error) => !error.is_connect() && !error.is_timeout(),
    })
}

pub(super) fn unusable(error: &dyn std::error::Error) -> Error {
    Error::Invalid(format!("HTTP client: {}", chain(error)))
}

fn prove(request: RequestBuilder, proof: Proof<'_>) -> RequestBuilder {
    match proof {
        Proof::Nothing => request,
        Proof::Password(user, password) => request.basic_auth(user, Some(password)),
        Proof::Token(token) => request.bearer_auth(token),
    }
}

async fn send(request: RequestBuilder) -> Result<Response, NoDocument> {
    request.send().await.map_err(|error| NoDocument::Other(chain(&error)))
}

/// Reads an answer piece by piece: what it says of its length is not believed.
async fn bounded(mut answer: Response, limit: u64) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| chain(&error))? {
        if (text.len() + piece.len()) as u64 > limit {
            return Err(format!("the answer is larger than {limit} bytes"));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

/// Realm and service of the challenge that asks for a token.
fn bearer(header: &str) -> Option<(String, String)> {
    let challenges = http_auth::parse_challenges(header).ok()?;
    let is_bearer = |one: &&ChallengeRef| one.scheme.eq_ignore_ascii_case("bearer");
    let challenge = challenges.iter().find(is_bearer)?;
    let of = |key: &str| {
        let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.to_unescaped())
    };
    Some((of("realm")?, of("service").unwrap_or_default()))
}

fn form(service: &str, repository: &str, identity: &str) -> String {
    let scope = format!("repository:{repository}:pull");
    let fields = [
        ("grant_type", "refresh_token"),
        ("service", service),
        ("client_id", "carob"),
        ("scope", &scope),
        ("refresh_token", identity),
    ];
    // The rules of a form are those of a query.
    let url = Url::parse_with_params("http://form", fields);
    url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

fn granted(text: &[u8]) -> Result<AccessToken, String> {
    #[derive(Deserialize)]
    struct Granted {
        #[serde(alias = "token")]
        access_token: String,
        expires_in: Option<u64>,
    }
    let granted: Granted =
        serde_json::from_slice(text).map_err(|error| format!("its answer: {error}"))?;
    let life = granted.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
    let good_until = Instant::now() + life.saturating_sub(MARGIN);
    Ok(AccessToken { text: granted.access_token, good_until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_for_a_token_is_found_among_others() {
        let header = r#"Basic realm="x", Bearer realm="https://a.b/t?x=1",service="s, \"t\"""#;
        assert_eq!(bearer(header), Some(("https://a.b/t?x=1".into(), "s, \"t\"".into())));
        assert_eq!(bearer(r#"bearer Realm="r""#), Some(("r".into(), String::new())));
        for header in ["", "Basic realm=\"x\"", "Bearer service=\"s\"", "\""] {
            assert_eq!(bearer(header), None, "{header}");
        }
    }

    #[test]
    fn a_form_is_escaped() {
        let text = form("a b&c", "team/app", "t=k+n/%");
        assert!(text.contains("service=a+b%26c&client_id=carob"), "{text}");
        assert!(text.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{text}");
        assert!(text.ends_with("refresh_token=t%3Dk%2Bn%2F%25"), "{text}");
    }

    #[test]
    fn tokens_have_a_life() {
        let token = granted(br#"{"token": "a", "expires_in": 300}"#).unwrap();
        assert!(token.text == "a" && token.is_good());
        assert!(granted(br#"{"access_token": "a"}"#).unwrap().is_good());
        assert!(!granted(br#"{"access_token": "a", "expires_in": 5}"#).unwrap().is_good());
        assert!(granted(b"{}").is_err());
    }
}
