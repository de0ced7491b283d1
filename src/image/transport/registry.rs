//! Registries, through `oci-client`.
//!
//! Its client verifies digests of manifests; what it gives is verified again, as everything else.

use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Name};

use super::Offer;
use super::layout::verified;
use crate::error::{Error, Result};
use crate::image::auth::Credentials;
use crate::image::digest::Digest;
use crate::image::manifest::{self, Blob, Document, MAX_DOCUMENT, MEDIA_TYPES, Platform};
use crate::image::reference::Reference;

/// How long a connection may take to be made, and a transfer may stand still.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// A repository of a registry.
pub(in crate::image) struct Registry {
    client: Client,
    name: Name,
    auth: RegistryAuth,
}

/// A part of a layer, from an offset on or from the beginning.
pub(in crate::image) struct Part {
    pub(in crate::image) from_beginning: bool,
    pub(in crate::image) stream: BoxStream<'static, std::io::Result<bytes::Bytes>>,
}

/// What went wrong, and whether it may go right the next time.
pub(in crate::image) struct Failed {
    pub(in crate::image) why: String,
    pub(in crate::image) may_retry: bool,
}

impl Registry {
    /// Prepares to talk to the registry of an image; nothing is sent yet.
    pub(in crate::image) fn new(
        image: &Reference,
        plain_http: bool,
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
        // A second time is fine: it is the same one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_LIMIT),
            read_timeout: Some(STALL_LIMIT),
            user_agent: concat!("carob/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config)
            .map_err(|error| Error::Invalid(format!("HTTP client: {}", chain(&error))))?;
        let auth = match credentials {
            Some(Credentials { user, password }) => RegistryAuth::Basic(user, password),
            None => RegistryAuth::Anonymous,
        };
        Ok(Self { client, name, auth })
    }

    /// The image of a platform, and the digests that it can be asked for by.
    pub(in crate::image) async fn offer(
        &self,
        platform: &Platform,
    ) -> Result<(Offer, Vec<Digest>)> {
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
                        return Err(Error::Invalid("an index that leads to an index".into()));
                    }
                }
            }
        };
        let config = self.document(&parsed.config).await?;
        Ok((Offer { names: Vec::new(), manifest: text, config, layers: parsed.layers }, digests))
    }

    async fn manifest(&self, name: &Name) -> Result<(Vec<u8>, Digest)> {
        let answer = self.client.pull_manifest_raw(name, &self.auth, &MEDIA_TYPES).await;
        let (text, _) = answer.map_err(|error| self.error(name, &error))?;
        if text.len() as u64 > MAX_DOCUMENT {
            return Err(Error::Invalid(format!(
                "manifest of {name} is larger than {MAX_DOCUMENT} bytes"
            )));
        }
        let digest = Digest::of(&text);
        if name.digest().is_some_and(|expected| *expected != digest.to_string()) {
            return Err(Error::Invalid(format!("manifest of {name} has the digest {digest}")));
        }
        Ok((text.to_vec(), digest))
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
        let digest = blob.digest.to_string();
        match self.client.pull_blob_stream_partial(&self.name, digest.as_str(), offset, None).await
        {
            Ok(BlobResponse::Full(stream)) => {
                Ok(Part { from_beginning: true, stream: stream.stream })
            }
            Ok(BlobResponse::Partial(stream)) => {
                Ok(Part { from_beginning: offset == 0, stream: stream.stream })
            }
            Err(error) => Err(Failed {
                may_retry: may_retry(&error),
                why: self.error(&self.name, &error).to_string(),
            }),
        }
    }

    /// A transfer that was cut off.
    pub(in crate::image) fn broken(&self, error: &std::io::Error) -> Error {
        Error::Invalid(format!("registry {}: {}", self.name.resolve_registry(), chain(error)))
    }

    fn error(&self, name: &Name, error: &OciDistributionError) -> Error {
        let registry = name.resolve_registry();
        let what = format!("registry {registry}: {}", name.whole());
        let has = !matches!(self.auth, RegistryAuth::Anonymous);
        Error::Invalid(match error {
            OciDistributionError::ImageManifestNotFoundError(_) => format!("{what}: not found"),
            OciDistributionError::RegistryError { envelope, .. }
                if envelope.errors.iter().any(|error| is_unknown(&error.code)) =>
            {
                format!("{what}: not found")
            }
            OciDistributionError::ServerError { code: 404, .. } => format!("{what}: not found"),
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => format!(
                "{what}: unauthorized: {}",
                if has {
                    "the registry does not accept the credentials"
                } else {
                    "it does not exist or needs credentials; podman login, docker login or --authfile \
                     gives them"
                }
            ),
            other => format!("{what}: {}", chain(other)),
        })
    }
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
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
