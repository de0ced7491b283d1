//! Manifests, indexes and configurations of images, of OCI and of Docker. Pure.
//!
//! Their types are those of the `oci-spec` crate; Docker's differ in media types alone.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};

use super::digest::Digest;
use crate::error::{Error, Result};

/// Largest manifest, index or configuration, bytes. Source: distribution-spec, "Pushing Manifests".
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// Most layers of an image; the kernel's overlayfs takes 500.
const MAX_LAYERS: usize = 500;

/// Media types of manifests and indexes that are understood.
pub const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Content by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// What it must hash to.
    pub digest: Digest,
    /// Its size, bytes.
    pub size: u64,
}

impl Blob {
    fn of(descriptor: &Descriptor) -> Result<Self> {
        let digest = descriptor.digest().to_string();
        Ok(Self { digest: digest.parse()?, size: descriptor.size() })
    }
}

/// One of the two things that a name may lead to.
#[derive(Debug)]
pub enum Document {
    /// Images for several platforms.
    Index(Box<ImageIndex>),
    /// An image.
    Manifest(Manifest),
}

/// What an image consists of.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its configuration.
    pub config: Blob,
    /// Its layers, the lowest first.
    pub layers: Vec<Blob>,
}

/// Reads a manifest or an index.
///
/// # Errors
/// [`Error::Invalid`] for anything that is no image of containers.
pub fn parse(text: &[u8]) -> Result<Document> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        schema_version: u32,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let malformed = |error: serde_json::Error| Error::Invalid(format!("manifest: {error}"));
    let probe: Probe = serde_json::from_slice(text).map_err(malformed)?;
    if probe.schema_version != 2 {
        return Err(Error::Invalid(format!(
            "manifest: schemaVersion {} is not supported, it must be 2",
            probe.schema_version
        )));
    }
    if probe.manifests.is_some() {
        return serde_json::from_slice(text).map(Document::Index).map_err(malformed);
    }
    let manifest: ImageManifest = serde_json::from_slice(text).map_err(malformed)?;
    check_is_image(&manifest)?;
    let layers = manifest.layers().iter().map(Blob::of).collect::<Result<Vec<_>>>()?;
    if layers.len() > MAX_LAYERS {
        let count = layers.len();
        return Err(Error::Invalid(format!("{count} layers, at most {MAX_LAYERS} can be mounted")));
    }
    Ok(Document::Manifest(Manifest { config: Blob::of(manifest.config())?, layers }))
}

/// Charts, signatures and the like are kept in registries, too.
fn check_is_image(manifest: &ImageManifest) -> Result<()> {
    let config = manifest.config().media_type().to_string();
    let is_config =
        config.ends_with("image.config.v1+json") || config.ends_with("container.image.v1+json");
    let odd = manifest
        .layers()
        .iter()
        .map(|layer| layer.media_type().to_string())
        .find(|kind| !kind.contains(".image.layer.") && !kind.contains(".image.rootfs."));
    match (is_config, odd) {
        (true, None) => Ok(()),
        (false, _) => {
            Err(Error::Invalid(format!("not a container image: its config is {config:?}")))
        }
        (true, Some(odd)) => {
            Err(Error::Invalid(format!("not a container image: a layer is {odd:?}")))
        }
    }
}

/// What an image is built for: `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// As Go names them: `amd64`, `arm64`.
    pub architecture: String,
    /// `v7`, `v8`.
    pub variant: Option<String>,
}

impl Default for Platform {
    /// This machine's.
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match *parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        if os.is_empty() || architecture.is_empty() || variant == Some("") {
            return Err(Error::Invalid(format!(
                "platform {text:?} must be OS/ARCHITECTURE[/VARIANT], e.g. linux/arm64"
            )));
        }
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = variant.map(str::to_owned);
        Ok(Self { os: os.into(), architecture: architecture.into(), variant })
    }
}

/// The image of an index for a platform: the first that fits, one without a variant before one
/// with another.
///
/// # Errors
/// [`Error::Invalid`] naming the platforms that there are.
pub fn choose(index: &ImageIndex, wanted: &Platform) -> Result<Blob> {
    let fits = |descriptor: &&Descriptor| {
        let Some(platform) = descriptor.platform() else { return false };
        platform.os().to_string() == wanted.os
            && platform.architecture().to_string() == wanted.architecture
            && (wanted.variant.is_none() || *platform.variant() == wanted.variant)
    };
    let all = index.manifests();
    if let Some(found) = all.iter().find(fits) {
        return Blob::of(found);
    }
    // Of layouts with one image, which do not say what it is for.
    if let [only] = all.as_slice()
        && only.platform().is_none()
    {
        return Blob::of(only);
    }
    let there: Vec<String> = all
        .iter()
        .filter_map(|descriptor| descriptor.platform().as_ref())
        .filter(|platform| *platform.os() != Os::Other("unknown".into()))
        .map(|platform| {
            let (os, architecture) =
                (platform.os().to_string(), platform.architecture().to_string());
            Platform { os, architecture, variant: platform.variant().clone() }.to_string()
        })
        .collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Err(Error::Invalid(format!("no image for the platform {wanted}; there are: {there}")))
}

/// Reads a configuration.
///
/// # Errors
/// [`Error::Invalid`] if it is none, or is not of as many layers as the manifest.
pub fn parse_config(text: &[u8], layers: usize) -> Result<(ImageConfiguration, Vec<Digest>)> {
    let config: ImageConfiguration = serde_json::from_slice(text)
        .map_err(|error| Error::Invalid(format!("configuration of the image: {error}")))?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != layers {
        return Err(Error::Invalid(format!(
            "the image has {layers} layers, its configuration names {}",
            diff_ids.len()
        )));
    }
    let diff_ids = diff_ids.iter().map(|text| text.parse()).collect::<Result<Vec<Digest>>>()?;
    Ok((config, diff_ids))
}

/// What a configuration is built for.
#[must_use]
pub fn platform_of(config: &ImageConfiguration) -> Platform {
    let architecture = match config.architecture() {
        Arch::Other(other) => other.clone(),
        known => known.to_string(),
    };
    Platform { os: config.os().to_string(), architecture, variant: config.variant().clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> ImageIndex {
        let entry = |n: u8, platform: &str| {
            let digest = format!("sha256:{}", format!("{n:02x}").repeat(32));
            format!(
                r#"{{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{digest}",
                     "size": {n}, "platform": {platform}}}"#
            )
        };
        let entries = [
            entry(1, r#"{"os": "linux", "architecture": "amd64"}"#),
            entry(2, r#"{"os": "linux", "architecture": "arm", "variant": "v7"}"#),
            entry(3, r#"{"os": "unknown", "architecture": "unknown"}"#),
            entry(4, r#"{"os": "linux", "architecture": "arm64", "variant": "v8"}"#),
        ];
        let text = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, entries.join(","));
        let Document::Index(index) = parse(text.as_bytes()).unwrap() else { panic!("no index") };
        *index
    }

    #[test]
    fn the_image_of_a_platform_is_chosen() {
        for (platform, size) in
            [("linux/amd64", 1), ("linux/x86_64", 1), ("linux/arm/v7", 2), ("linux/arm64", 4)]
        {
            assert_eq!(choose(&index(), &platform.parse().unwrap()).unwrap().size, size);
        }
        let error = choose(&index(), &"linux/s390x".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("linux/amd64, linux/arm/v7, linux/arm64/v8"), "{error}");
        assert!(!error.contains("unknown"), "{error}");
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/arm/"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let manifest = |config: &str, layer: &str| {
            format!(
                r#"{{"schemaVersion": 2,
                "config": {{"mediaType": "{config}", "digest": "{digest}", "size": 1}},
                "layers": [{{"mediaType": "{layer}", "digest": "{digest}", "size": 1}}]}}"#
            )
        };
        let config = "application/vnd.docker.container.image.v1+json";
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        assert!(parse(manifest(config, layer).as_bytes()).is_ok());
        for (text, word) in [
            ("{}".to_owned(), "schemaVersion"),
            (r#"{"schemaVersion": 1}"#.to_owned(), "schemaVersion 1"),
            (manifest("application/vnd.cncf.helm.config.v1+json", layer), "not a container image"),
            (manifest(config, "application/vnd.in-toto+json"), "in-toto"),
            (manifest(config, layer).replace("sha256:", "md5:"), "sha256:"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
