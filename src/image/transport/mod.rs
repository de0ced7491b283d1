//! Where images come from, named as skopeo names it.
//!
//! ```text
//! busybox, docker://busybox        a registry: registry.rs
//! oci:DIR[:REF]                    an OCI layout
//! oci-archive:FILE[:REF]           one in a tar file
//! docker-archive:FILE[:NAME]       of `docker save`, `podman save`, buildah, umoci's friends
//! dir:DIR                          a manifest beside its blobs
//! rootfs:DIR                       no image: a directory with the files
//! ```

mod docker;
mod files;
mod http;
mod layout;
pub(super) mod registry;

pub(super) use http::has_tls;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::manifest::{Blob, Platform};
use super::reference::Reference;
use crate::error::{Error, Result};

/// A place that an image can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A registry, or the store.
    Name(Reference),
    /// An OCI layout: a directory, and which of its images.
    Oci(PathBuf, Option<String>),
    /// A tar file of an OCI layout.
    OciArchive(PathBuf, Option<String>),
    /// A file of `docker save`.
    DockerArchive(PathBuf, Option<String>),
    /// skopeo's `dir:`.
    Directory(PathBuf),
    /// No image: a directory with files.
    Rootfs(PathBuf),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let with_name = |rest: &str| {
            let (path, name) =
                rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            if path.is_empty() || name == Some("") {
                return Err(Error::Invalid(format!("{text:?} must be TRANSPORT:PATH[:NAME]")));
            }
            Ok((PathBuf::from(path), name.map(str::to_owned)))
        };
        match text.split_once(':') {
            Some(("docker", rest)) if rest.starts_with("//") => rest[2..].parse().map(Self::Name),
            Some(("oci", rest)) => with_name(rest).map(|(path, name)| Self::Oci(path, name)),
            Some(("oci-archive", rest)) => {
                with_name(rest).map(|(path, name)| Self::OciArchive(path, name))
            }
            Some(("docker-archive", rest)) => {
                with_name(rest).map(|(path, name)| Self::DockerArchive(path, name))
            }
            Some(("dir", rest)) if !rest.is_empty() => Ok(Self::Directory(rest.into())),
            Some(("rootfs", rest)) if !rest.is_empty() => Ok(Self::Rootfs(rest.into())),
            _ => text.parse().map(Self::Name),
        }
    }
}

/// An image that a transport offers.
#[derive(Debug)]
pub struct Offer {
    /// Full names that it has there.
    pub names: Vec<String>,
    /// The manifest, as bytes.
    pub manifest: Vec<u8>,
    /// The configuration, as bytes.
    pub config: Vec<u8>,
    /// Archives of layers, the lowest first.
    pub layers: Vec<Blob>,
}

/// Files that images are in.
pub trait Archives {
    /// All images of the transport that are for the platform, or the one that was asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, or what is there is not what its digest says.
    fn offers(&self, platform: &Platform) -> Result<Vec<Offer>>;

    /// An archive of a layer.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not there.
    fn layer(&self, blob: &Blob) -> Result<Box<dyn Read>>;
}

impl Location {
    /// Opens files that images are in; `None` for a registry and for a directory that is no image.
    ///
    /// # Errors
    /// [`Error::Os`] if there are no such files, [`Error::Invalid`] if they hold no images.
    pub fn open(&self, scratch: &Path) -> Result<Option<Box<dyn Archives>>> {
        Ok(Some(match self {
            Self::Name(_) | Self::Rootfs(_) => return Ok(None),
            Self::Oci(path, name) => {
                Box::new(layout::Layout::new(files::Directory::open(path)?, name.clone()))
            }
            Self::OciArchive(path, name) => {
                Box::new(layout::Layout::new(files::Archive::open(path, scratch)?, name.clone()))
            }
            Self::DockerArchive(path, name) => {
                Box::new(docker::DockerArchive::open(path, scratch, name.clone())?)
            }
            Self::Directory(path) => Box::new(layout::Flat::new(files::Directory::open(path)?)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_skopeos() {
        let name = |text: &str| Location::Name(text.parse().unwrap());
        let some = |text: &str| Some(text.to_owned());
        for (text, location) in [
            ("busybox", name("busybox")),
            ("docker://busybox:1", name("busybox:1")),
            ("oci:/a/b", Location::Oci("/a/b".into(), None)),
            ("oci:x:latest", Location::Oci("x".into(), some("latest"))),
            ("oci-archive:x.tar:a:b", Location::OciArchive("x.tar".into(), some("a:b"))),
            ("docker-archive:x:r/n:t", Location::DockerArchive("x".into(), some("r/n:t"))),
            ("dir:/x:y", Location::Directory("/x:y".into())),
            ("rootfs:/x", Location::Rootfs("/x".into())),
            ("oci.example:80/x", name("oci.example:80/x")),
            ("docker:1", name("docker:1")),
        ] {
            assert_eq!(text.parse::<Location>().unwrap(), location, "{text}");
        }
        for bad in ["oci:", "oci::x", "oci-archive:x:", "docker-archive:", "docker://", "http://x"]
        {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}
