//! Names of images: `busybox`, `docker.io/library/busybox:1.36`, `registry:5000/a/b@sha256:…`.
//!
//! Short names mean what they mean to containerd and Docker: no registry is `docker.io`, and one
//! word of it is in `library/`. Pure. Source: the grammar of the distribution project.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use crate::error::{Error, Result};

/// The registry of names that have none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where the one-word names of that registry are.
const OFFICIAL: &str = "library/";
/// The tag of names that have neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Longest name without tag and digest, bytes.
const MAX_NAME: usize = 255;
/// Longest tag, bytes.
const MAX_TAG: usize = 128;

/// The full name of an image: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Host and port, `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// Path below it, `library/busybox`.
    pub repository: String,
    /// Absent only beside a digest.
    pub tag: Option<String>,
    /// What the content must have; it wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Registry and repository.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository, by the digest of its content alone.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// Whether a pull may give something else tomorrow: the rule of the kubelet's default policy.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::Invalid(format!(
                "image name {text:?}: invalid reference format: {why}; e.g. busybox, \
                 registry.example:5000/team/app:1.2, app@sha256:<64 hex digits>"
            ))
        };
        let (rest, digest) =
            match text.split_once('@') {
                Some((rest, digest)) => (
                    rest,
                    Some(digest.parse::<Digest>().map_err(|_unnamed| {
                        invalid("after @ must be sha256: and 64 hex digits")
                    })?),
                ),
                None => (text, None),
            };
        // A colon before the last slash belongs to a port.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].rfind(':') {
            Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(
                "a tag is 1 to 128 of a-z A-Z 0-9 _ . -, and begins with none of . -",
            ));
        }
        let (registry, path) = split_registry(name);
        if !is_registry(registry) {
            return Err(invalid("the registry must be a host name with an optional port"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid("repository name must be lowercase"));
        }
        if !path.split('/').all(is_component) {
            return Err(invalid("a repository is words of a-z 0-9 joined by . _ __ - and /"));
        }
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(invalid("the name must not be longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// What comes before the first slash is a registry if it looks like a host.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => (DEFAULT_REGISTRY, path),
        Some((first, path)) if looks_like_host(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn looks_like_host(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let is_word = |word: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !word.is_empty()
            && word.bytes().all(inner)
            && !word.starts_with('-')
            && !word.ends_with('-')
    };
    host.is_none_or(|host| host.split('.').all(is_word))
        && port.is_none_or(|port| {
            !port.is_empty()
                && port.bytes().all(|b| b.is_ascii_digit())
                && port.parse::<u16>().is_ok()
        })
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut begun = false;
    for b in text.bytes() {
        if alphanumeric(b) {
            let is_fine = matches!(separator.as_str(), "" | "." | "_" | "__")
                || separator.bytes().all(|b| b == b'-');
            if !is_fine || (!begun && !separator.is_empty()) {
                return false;
            }
            begun = true;
            separator.clear();
        } else if b"._-".contains(&b) {
            separator.push(char::from(b));
        } else {
            return false;
        }
    }
    begun && separator.is_empty()
}

fn is_tag(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=MAX_TAG).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_mean_what_they_mean_to_containerd() {
        let digest = format!("sha256:{HEX}");
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("team/app", "docker.io/team/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("a.b/c/d/e", "a.b/c/d/e:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("Host/x", "Host/x:latest"),
            ("a__b/c-_d", ""),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
        ] {
            match text.parse::<Reference>() {
                Ok(reference) => assert_eq!(reference.to_string(), full, "{text}"),
                Err(error) => assert!(full.is_empty(), "{text}: {error}"),
            }
        }
        let by_digest: Reference = format!("busybox@{digest}").parse().unwrap();
        assert_eq!(by_digest.to_string(), format!("docker.io/library/busybox@{digest}"));
        let both: Reference = format!("busybox:1@{digest}").parse().unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/busybox:1@{digest}"));
    }

    #[test]
    fn the_full_name_means_itself() {
        for text in ["busybox", "a.b:80/c:d", "localhost/x"] {
            let full: Reference = text.parse().unwrap();
            assert_eq!(full.to_string().parse::<Reference>().unwrap(), full);
        }
    }

    #[test]
    fn refused() {
        let long = format!("a/{}", "b".repeat(300));
        for text in [
            "",
            "Nginx",
            "nginx:",
            "a b",
            "/nginx",
            "nginx@",
            "nginx/",
            "a//b",
            "a:b:c",
            "a/b:@x",
            "nginx@sha256:abc",
            "-a",
            "a-",
            "_a",
            "a..b",
            "a___b",
            "reg:99999/x",
            "reg:/x",
            "[::1/x",
            "[x]:1/y",
            "é",
            "a\nb",
            "nginx:.x",
            &long,
            "docker.io/",
            "localhost:5000/App",
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains("invalid reference format"), "{text:?}: {error}");
        }
    }
}
