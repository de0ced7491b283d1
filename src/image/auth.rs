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
pub struct Credentials {
    /// Name of the user.
    pub user: String,
    /// Password, or a token that serves as one.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials of {:?}", self.user)
    }
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
}

/// Finds the credentials for an image. `given` is `--authfile`: then no other file is read.
///
/// # Errors
/// [`Error::Invalid`] for a file that is malformed, a helper that fails, or a given file that is
/// not there.
pub fn find(image: &Reference, given: Option<&Path>) -> Result<Option<Credentials>> {
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
        if let Some(entry) = file.auths.get(key)
            && let Some(found) = of_entry(key, entry)?
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
    keys.push(format!("https://{name}"));
    keys.push(format!("http://{name}"));
    if name == "docker.io" {
        keys.extend([DOCKER_HUB.to_owned(), "index.docker.io".to_owned()]);
    }
    keys
}

fn of_entry(key: &str, entry: &Entry) -> Result<Option<Credentials>> {
    if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
        return Ok(Some(Credentials { user: user.clone(), password: password.clone() }));
    }
    let Some(auth) = entry.auth.as_deref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    let (user, password) = pair.ok_or_else(|| {
        Error::Invalid(format!("auths.{key}.auth: must be base64 of USER:PASSWORD"))
    })?;
    Ok(Some(Credentials { user: user.to_owned(), password: password.to_owned() }))
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
    if answer.username == TOKEN_USER {
        return Err(Error::Invalid(format!(
            "{program} has an identity token for {server}, which is not supported; log in with a \
             user and a password or access token"
        )));
    }
    Ok(Some(Credentials { user: answer.username, password: answer.secret }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(file: &str, image: &str) -> Option<String> {
        let file: AuthFile = serde_json::from_str(file).unwrap();
        in_file(&file, &image.parse().unwrap()).unwrap().map(|found| found.user)
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
    fn passwords_are_not_shown() {
        let credentials = Credentials { user: "u".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
