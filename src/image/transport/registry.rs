//! Registries, through `oci-client`; what it leaves open is in `http.rs`.
//!
//! What comes from it is verified here, whatever it has verified itself.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Name, RegistryOperation};

use super::Offer;
use super::http::{AccessToken, Http, NoDocument, Proof, unusable};
use super::layout::verified;
use crate::error::{Error, Result};
use crate::image::auth::Credentials;
use crate::image::digest::Digest;
use crate::image::manifest::{self, Blob, Document, MAX_DOCUMENT, Platform};
use crate::image::reference::Reference;

/// How long a connection may take to be made, and a transfer may stand still.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(30);
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(60);
pub(super) const USER_AGENT: &str = concat!("carob/", env!("CARGO_PKG_VERSION"));

/// A repository of a registry.
pub(in crate::image) struct Registry {
    name: Name,
    plain_http: bool,
    direct: bool,
    credentials: Option<Credentials>,
    http: Http,
    client: RefCell<Client>,
    /// In exchange for an identity token.
    token: RefCell<Option<AccessToken>>,
}

/// A part of a layer, from an offset on or from the beginning.
pub(in crate::image) struct Part {
    pub(in crate::image) from_beginning: bool,
    pub(in crate::image) stream: BoxStream<'static, std::io::Result<bytes::Bytes>>,
}

/// No image, and whether other credentials may help.
pub(in crate::image) struct Refused {
    pub(in crate::image) error: Error,
    pub(in crate::image) is_unauthorized: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, is_unauthorized: false }
    }
}

/// What went wrong, and whether it may go right the next time.
pub(in crate::image) struct Failed {
    pub(in crate::image) why: String,
    pub(in crate::image) may_retry: bool,
}

impl Registry {
    /// Prepares to talk to the registry of an image; nothing is sent yet. `direct` is for one that
    /// no proxy can reach: on this machine.
    pub(in crate::image) fn new(
        image: &Reference,
        (plain_http, direct): (bool, bool),
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let name = match &image.digest {
            Some(digest) => Name::with_digest(
                image.registry.clone(),
                image.repository.clone(),
                digest.to_string(),
            ),
            None => Name::with_tag(
                image.registry.clone(),
                image.repository.clone(),
                image.tag.clone().unwrap_or_default(),
            ),
        };
        Ok(Self {
            name,
            http: Http::new(plain_http, direct)?,
            client: RefCell::new(client(plain_http, direct)?),
            plain_http,
            direct,
            credentials,
            token: RefCell::default(),
        })
    }

    /// The image of a platform, and the digests that it can be asked for by.
    pub(in crate::image) async fn offer(
        &self,
        platform: &Platform,
    ) -> Result<(Offer, Vec<Digest>), Refused> {
        let (text, digest) = self.manifest(&self.name).await?;
        let mut digests = vec![digest];
        let (text, parsed) = match manifest::parse(&text)? {
            Document::Manifest(parsed) => (text, parsed),
            Document::Index(index) => {
                let blob = manifest::choose(&index, platform)?;
                let name = self.name.clone_with_digest(blob.digest.to_string());
                let (text, digest) = self.manifest(&name).await?;
                digests.push(digest);
                match manifest::parse(&text)? {
                    Document::Manifest(parsed) => (text, parsed),
                    Document::Index(_) => {
                        let why = "an index that leads to an index".into();
                        return Err(Error::Invalid(why).into());
                    }
                }
            }
        };
        let config = self.document(&parsed.config).await?;
        Ok((Offer { names: Vec::new(), manifest: text, config, layers: parsed.layers }, digests))
    }

    async fn manifest(&self, name: &Name) -> Result<(Vec<u8>, Digest), Refused> {
        let auth = self.auth().await?;
        let client = self.client.borrow().clone();
        let token = client.auth(name, &auth, RegistryOperation::Pull).await;
        let token = token.map_err(|error| self.refused(name, &error))?;
        let proof = match (&token, &self.credentials) {
            (Some(token), _) => Proof::Token(token),
            (None, Some(Credentials::Password { user, password })) => {
                Proof::Password(user, password)
            }
            (None, _) => Proof::Nothing,
        };
        let text = self.http.manifest(name, proof).await.map_err(|no| self.absent(name, no))?;
        let digest = Digest::of(&text);
        if name.digest().is_some_and(|expected| *expected != digest.to_string()) {
            let why = format!("manifest of {name} has the digest {digest}");
            return Err(Error::Invalid(why).into());
        }
        Ok((text, digest))
    }

    /// What `oci-client` shows to the registry, or to its server of tokens.
    async fn auth(&self) -> Result<RegistryAuth> {
        let identity = match &self.credentials {
            None => return Ok(RegistryAuth::Anonymous),
            Some(Credentials::Password { user, password }) => {
                return Ok(RegistryAuth::Basic(user.clone(), password.clone()));
            }
            Some(Credentials::IdentityToken(identity)) => identity,
        };
        let present = self.token.borrow().clone().filter(AccessToken::is_good);
        let token = match present {
            Some(token) => token,
            None => {
                let token = self.http.exchange(&self.name, identity).await?;
                // The one before stays with the token that it has seen first.
                *self.client.borrow_mut() = client(self.plain_http, self.direct)?;
                *self.token.borrow_mut() = Some(token.clone());
                token
            }
        };
        Ok(RegistryAuth::Bearer(token.text))
    }

    /// A configuration.
    async fn document(&self, blob: &Blob) -> Result<Vec<u8>> {
        if blob.size > MAX_DOCUMENT {
            return Err(Error::Invalid(format!(
                "configuration of {} bytes is too large",
                blob.size
            )));
        }
        let mut part = self.part(blob, 0).await.map_err(|failed| Error::Invalid(failed.why))?;
        let mut content = Vec::new();
        loop {
            let piece = part.stream.try_next().await.map_err(|error| self.broken(&error))?;
            let Some(piece) = piece else { break };
            content.extend_from_slice(&piece);
            if content.len() as u64 > blob.size {
                break;
            }
        }
        verified(content, blob)
    }

    /// Begins to fetch a layer from an offset on.
    pub(in crate::image) async fn part(&self, blob: &Blob, offset: u64) -> Result<Part, Failed> {
        let final_failure = |error: Error| Failed { why: error.to_string(), may_retry: false };
        let auth = self.auth().await.map_err(final_failure)?;
        let client = self.client.borrow().clone();
        client.store_auth_if_needed(self.name.resolve_registry(), &auth).await;
        let digest = blob.digest.to_string();
        match client.pull_blob_stream_partial(&self.name, digest.as_str(), offset, None).await {
            Ok(BlobResponse::Full(stream)) => {
                Ok(Part { from_beginning: true, stream: stream.stream })
            }
            Ok(BlobResponse::Partial(stream)) => {
                Ok(Part { from_beginning: offset == 0, stream: stream.stream })
            }
            Err(error) => Err(Failed {
                may_retry: may_retry(&error),
                why: self.refused(&self.name, &error).error.to_string(),
            }),
        }
    }

    /// A transfer that was cut off.
    pub(in crate::image) fn broken(&self, error: &std::io::Error) -> Error {
        Error::Invalid(format!("registry {}: {}", self.name.resolve_registry(), chain(error)))
    }

    fn absent(&self, name: &Name, no: NoDocument) -> Refused {
        match no {
            NoDocument::Unauthorized => self.unauthorized(name),
            NoDocument::NotFound => self.refusal(name, "not found"),
            NoDocument::Other(why) => self.refusal(name, &why),
        }
    }

    fn refused(&self, name: &Name, error: &OciDistributionError) -> Refused {
        match error {
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => {
                self.refusal(name, "not found")
            }
            OciDistributionError::RegistryError { envelope, .. }
                if envelope.errors.iter().any(|error| is_unknown(&error.code)) =>
            {
                self.refusal(name, "not found")
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => self.unauthorized(name),
            other => self.refusal(name, &chain(other)),
        }
    }

    fn unauthorized(&self, name: &Name) -> Refused {
        let why = if self.credentials.is_some() {
            "unauthorized: the registry does not accept the credentials"
        } else {
            "unauthorized: it does not exist or needs credentials; podman login, docker login or \
             --authfile gives them"
        };
        Refused { is_unauthorized: true, ..self.refusal(name, why) }
    }

    fn refusal(&self, name: &Name, why: &str) -> Refused {
        let registry = name.resolve_registry();
        Error::Invalid(format!("registry {registry}: {}: {why}", name.whole())).into()
    }
}

/// `oci-client`'s, with what it cannot be told otherwise.
fn client(plain_http: bool, direct: bool) -> Result<Client> {
    // Only a proxy that is named keeps it from those of the environment; nothing is sent to it.
    let unused = direct.then(|| "http://127.0.0.1".to_owned());
    let config = ClientConfig {
        protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_LIMIT),
        read_timeout: Some(STALL_LIMIT),
        user_agent: USER_AGENT,
        http_proxy: unused.clone(),
        https_proxy: unused,
        // The asterisk stands for names alone.
        no_proxy: direct.then(|| "*,0.0.0.0/0,::/0".to_owned()),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| unusable(&error))
}

fn is_unknown(code: &oci_client::errors::OciErrorCode) -> bool {
    use oci_client::errors::OciErrorCode::{BlobUnknown, ManifestUnknown, NameUnknown, NotFound};
    matches!(code, BlobUnknown | ManifestUnknown | NameUnknown | NotFound)
}

/// Whether it was the way there that failed.
fn may_retry(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
        _ => false,
    }
}

/// An error and what has caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    // What comes after it is how the resolver writes down what it has asked.
    match text.split_once("dns error") {
        Some((before, rest)) if rest.contains("no records found") => {
            format!("{before}no name server knows the host")
        }
        _ => text,
    }
}
