//! Credentials for registries: where podman and Docker keep theirs.
//!
//! Source: containers-auth.json(5), docker-credential helpers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::reference::Reference;
use crate::error::{Error, OsContext, Result};
use crate::sys::fd::read_file;

/// Largest file of credentials, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Name under which Docker keeps the credentials of its registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// What a helper says instead of a user for an identity token.
const TOKEN_USER: &str = "<token>";

/// How to present oneself to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name, and a password or a token that serves as one.
    Password {
        /// Name of the user.
        user: String,
        /// Never shown.
        password: String,
    },
    /// What the registry's server of tokens gives an access token for.
    IdentityToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Credentials of {user:?}"),
            Self::IdentityToken(_) => write!(f, "an identity token"),
        }
    }
}

/// Where credentials are looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// `--authfile`: then none of the machine's files is read.
    pub file: Option<&'a Path>,
    /// Contents of files that come first, as a JSON array: those of a pod.
    pub secrets: Option<&'a [u8]>,
}

/// A file of credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: std::collections::BTreeMap<String, Entry>,
    cred_helpers: std::collections::BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

/// Finds the credentials for an image, those to be tried first at the front: of each secret that
/// has some, then of the first file that has.
///
/// # Errors
/// [`Error::Invalid`] for a file that is malformed, a helper that fails, or a given file that is
/// not there.
pub fn find(image: &Reference, sources: Sources) -> Result<Vec<Credentials>> {
    let secrets = sources.secrets.map(|text| of_secrets(text, image)).transpose()?;
    let mut found = secrets.unwrap_or_default();
    found.extend(of_files(image, sources.file)?);
    Ok(found)
}

fn of_secrets(text: &[u8], image: &Reference) -> Result<Vec<Credentials>> {
    let secrets: Vec<AuthFile> = serde_json::from_slice(text)
        .map_err(|error| Error::Invalid(format!("credentials of the pod: {error}")))?;
    // Whoever writes a manifest does not choose which programs of the machine run.
    let entries =
        secrets.into_iter().map(|secret| AuthFile { auths: secret.auths, ..AuthFile::default() });
    let found = entries.map(|secret| in_file(&secret, image));
    found.filter_map(Result::transpose).collect()
}

fn of_files(image: &Reference, given: Option<&Path>) -> Result<Option<Credentials>> {
    if let Some(path) = given {
        let text = read_file(path, MAX_FILE)?;
        return in_file(&parse(path, &text)?, image).map_err(|error| in_path(path, &error));
    }
    for path in places() {
        let text = match read_file(&path, MAX_FILE) {
            Err(Error::Os { .. }) => continue,
            other => other?,
        };
        let found =
            in_file(&parse(&path, &text)?, image).map_err(|error| in_path(&path, &error))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Files of credentials, the first that has some wins.
fn places() -> Vec<PathBuf> {
    let of = |key| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = of("HOME");
    let uid = nix::unistd::getuid();
    let mut places = Vec::new();
    places.extend(of("REGISTRY_AUTH_FILE"));
    let runtime = of("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    places.push(runtime.unwrap_or_else(|| format!("/run/containers/{uid}/auth.json").into()));
    let config = of("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    places.extend(config.map(|dir| dir.join("containers/auth.json")));
    let docker = of("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
    places.extend(docker.map(|dir| dir.join("config.json")));
    places
}

fn parse(path: &Path, text: &[u8]) -> Result<AuthFile> {
    serde_json::from_slice(text).map_err(|error| in_path(path, &Error::Invalid(error.to_string())))
}

fn in_path(path: &Path, error: &Error) -> Error {
    Error::Invalid(format!("credentials in {}: {error}", path.display()))
}

fn in_file(file: &AuthFile, image: &Reference) -> Result<Option<Credentials>> {
    let keys = keys(image);
    for key in &keys {
        if let Some(helper) = file.cred_helpers.get(key) {
            return ask(helper, key);
        }
    }
    for key in &keys {
        // As `docker login` of long ago has written them, too.
        let entries = file.auths.iter().filter(|(name, _)| plain(name) == plain(key));
        for (name, entry) in entries {
            if let Some(found) = of_entry(name, entry)? {
                return Ok(Some(found));
            }
        }
    }
    // A registry may be a pattern in the secrets of a pod.
    for (name, entry) in file.auths.iter().filter(|(name, _)| name.contains('*')) {
        if matches_pattern(plain(name), &image.name())
            && let Some(found) = of_entry(name, entry)?
        {
            return Ok(Some(found));
        }
    }
    match &file.creds_store {
        Some(helper) if image.registry == "docker.io" => ask(helper, DOCKER_HUB),
        Some(helper) => ask(helper, &image.registry),
        None => Ok(None),
    }
}

/// From the most to the least specific: repository, namespaces, registry.
fn keys(image: &Reference) -> Vec<String> {
    let mut keys = Vec::new();
    let mut name = image.name();
    while let Some((above, _)) = name.rsplit_once('/') {
        keys.push(name.clone());
        name = above.to_owned();
    }
    keys.push(name.clone());
    if name == "docker.io" {
        keys.extend([DOCKER_HUB.to_owned(), "index.docker.io".to_owned()]);
    }
    keys
}

/// A name of a registry without scheme and version of the protocol.
fn plain(key: &str) -> &str {
    let key = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let key = key.strip_suffix('/').unwrap_or(key);
    key.strip_suffix("/v1").or(key.strip_suffix("/v2")).unwrap_or(key)
}

/// `*` is any text within a label of the host. Source: Kubernetes, "Images", *config.json*.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let host_and_path = |text: &str| match text.split_once('/') {
        Some((host, path)) => (host.to_owned(), path.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    let ((wanted, prefix), (host, path)) = (host_and_path(pattern), host_and_path(name));
    let (wanted, host): (Vec<_>, Vec<_>) = (wanted.split('.').collect(), host.split('.').collect());
    let label = |(wanted, label): (&&str, &&str)| match wanted.split_once('*') {
        None => wanted == label,
        Some((start, end)) => {
            label.len() + 1 >= wanted.len() && label.starts_with(start) && label.ends_with(end)
        }
    };
    let is_below = path.strip_prefix(prefix.as_str());
    wanted.len() == host.len()
        && wanted.iter().zip(&host).all(label)
        && is_below
            .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

fn of_entry(key: &str, entry: &Entry) -> Result<Option<Credentials>> {
    let identity = entry.identity_token.as_deref().filter(|token| !token.is_empty());
    if let Some(identity) = identity {
        return Ok(Some(Credentials::IdentityToken(identity.to_owned())));
    }
    if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
        let (user, password) = (user.clone(), password.clone());
        return Ok(Some(Credentials::Password { user, password }));
    }
    let Some(auth) = entry.auth.as_deref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    let (user, password) = pair.ok_or_else(|| {
        Error::Invalid(format!("auths.{key}.auth: must be base64 of USER:PASSWORD"))
    })?;
    Ok(Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() }))
}

/// Asks `docker-credential-<helper>`.
fn ask(helper: &str, server: &str) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    if helper.is_empty() || helper.contains('/') {
        return Err(Error::Invalid(format!("{helper:?} is no name of a credential helper")));
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .os("run", || &program)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(server.as_bytes()).os("write to", || &program)?;
    }
    let output = child.wait_with_output().os("wait for", || &program)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // What all helpers say.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(Error::Invalid(format!("{program}: {}: {}", output.status, text.trim())));
    }
    let answer: Answer = serde_json::from_str(&text)
        .map_err(|error| Error::Invalid(format!("{program}: its answer: {error}")))?;
    Ok(Some(if answer.username == TOKEN_USER {
        Credentials::IdentityToken(answer.secret)
    } else {
        Credentials::Password { user: answer.username, password: answer.secret }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(file: &str, image: &str) -> Option<String> {
        let file: AuthFile = serde_json::from_str(file).unwrap();
        in_file(&file, &image.parse().unwrap()).unwrap().map(|found| match found {
            Credentials::Password { user, .. } => user,
            Credentials::IdentityToken(token) => format!("token {token}"),
        })
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let auth = |user: &str| STANDARD.encode(format!("{user}:p:w"));
        let file = format!(
            r#"{{"auths": {{"quay.io": {{"auth": "{}"}}, "quay.io/team": {{"auth": "{}"}},
                "quay.io/team/app": {{"auth": "{}"}}, "localhost:5000": {{"auth": ""}},
                "https://index.docker.io/v1/": {{"username": "hub", "password": "x"}}}}}}"#,
            auth("host"),
            auth("team"),
            auth("app"),
        );
        for (image, expected) in [
            ("quay.io/team/app:1", Some("app")),
            ("quay.io/team/other", Some("team")),
            ("quay.io/else", Some("host")),
            ("busybox", Some("hub")),
            ("localhost:5000/x", None),
            ("ghcr.io/x/y", None),
        ] {
            assert_eq!(user(&file, image).as_deref(), expected, "{image}");
        }
        assert_eq!(user("{}", "busybox"), None);
        let malformed: AuthFile =
            serde_json::from_str(r#"{"auths": {"a.b": {"auth": "%%"}}}"#).unwrap();
        let error = in_file(&malformed, &"a.b/c".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("auths.a.b.auth"), "{error}");
    }

    #[test]
    fn names_of_registries_have_many_forms() {
        let entry = |name: &str| {
            format!(r#"{{"auths": {{"{name}": {{"username": "u", "password": "p"}}}}}}"#)
        };
        for (name, image, expected) in [
            ("https://r.example/v1/", "r.example/a", true),
            ("http://r.example", "r.example/a", true),
            ("r.example/v2/", "r.example/a", true),
            ("index.docker.io", "busybox", true),
            ("*.r.example", "a.r.example/x", true),
            ("*.r.example", "r.example/x", false),
            ("*.r.example", "a.b.r.example/x", false),
            ("mirror-*.example:5000", "mirror-1.example:5000/x", true),
            ("*.example/team", "r.example/team/x", true),
            ("*.example/team", "r.example/teams/x", false),
        ] {
            assert_eq!(user(&entry(name), image).is_some(), expected, "{name} {image}");
        }
    }

    #[test]
    fn identity_tokens_come_before_passwords() {
        let file = r#"{"auths": {"r.example": {"auth": "dTpw", "identitytoken": "it"},
                                 "s.example": {"auth": "dTpw", "identitytoken": ""}}}"#;
        assert_eq!(user(file, "r.example/a").as_deref(), Some("token it"));
        assert_eq!(user(file, "s.example/a").as_deref(), Some("u"));
    }

    #[test]
    fn secrets_come_first_and_all_of_them_are_tried() {
        let secrets = br#"[{"auths": {"r.example": {"auth": "YTpw"}}}, {"auths": {}},
                           {"auths": {"r.example": {"auth": "Yjpw"}}}]"#;
        let found = of_secrets(secrets, &"r.example/x".parse().unwrap()).unwrap();
        let shown: Vec<String> = found.iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(shown, ["Credentials of \"a\"", "Credentials of \"b\""]);
        assert!(of_secrets(b"{}", &"r.example/x".parse().unwrap()).is_err());
    }

    #[test]
    fn passwords_are_not_shown() {
        let (user, password) = ("u".into(), "secret".into());
        for credentials in
            [Credentials::Password { user, password }, Credentials::IdentityToken("secret".into())]
        {
            assert!(!format!("{credentials:?}").contains("secret"));
        }
    }
}
