//! Where a `Location` leads. Pure.

use http::uri::Authority;

use super::target::{Address, HttpTarget, Scheme, path};

/// What a `Location` means to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The same host, maybe another port, scheme or path: to be followed.
    SameHost(HttpTarget),
    /// Another host: not followed.
    Elsewhere,
}

/// Resolves a `Location` against the request that it answers. Source: RFC 3986, 5.2.
pub(super) fn resolve(from: &HttpTarget, location: &str) -> Result<Redirect, String> {
    let (scheme, rest) = match split_scheme(location) {
        None => (from.scheme, location),
        Some((_, rest)) if !rest.starts_with("//") => return Ok(Redirect::Elsewhere),
        Some((name, rest)) => match name.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, rest),
            "https" => (Scheme::Https, rest),
            _ => return Err(format!("unsupported protocol scheme {name:?}")),
        },
    };
    let Some(rest) = rest.strip_prefix("//") else {
        let path = path(&relative(&from.path, rest));
        return Ok(Redirect::SameHost(HttpTarget { path, ..from.clone() }));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let authority: Authority = authority
        .parse()
        .map_err(|error| format!("failed to parse Location header {location:?}: {error}"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if !host.eq_ignore_ascii_case(&from.address.host) {
        return Ok(Redirect::Elsewhere);
    }
    let port = authority.port_u16().unwrap_or(scheme.default_port());
    // A location with a host means that host; a Host header was for the first request.
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    let headers = from.headers.iter().filter(|(name, _)| !is_host(name)).cloned().collect();
    Ok(Redirect::SameHost(HttpTarget {
        scheme,
        address: Address { host: from.address.host.clone(), port },
        path: path(&without_dots(rest)),
        headers,
    }))
}

/// `http:` and what follows, if it begins with a scheme.
fn split_scheme(location: &str) -> Option<(&str, &str)> {
    let (name, rest) = location.split_once(':')?;
    let mut bytes = name.bytes();
    let valid = bytes.next()?.is_ascii_alphabetic()
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    valid.then_some((name, rest))
}

/// A location without scheme and host, seen from a path.
fn relative(from: &str, location: &str) -> String {
    let base = from.split('?').next().unwrap_or_default();
    match location.as_bytes().first() {
        Some(b'/') => without_dots(location),
        Some(b'?') => format!("{base}{location}"),
        None | Some(b'#') => from.to_owned(),
        Some(_) => {
            let directory = base.rfind('/').map_or("/", |slash| &base[..=slash]);
            without_dots(&format!("{directory}{location}"))
        }
    }
}

/// The path without `.` and `..`; the query is left alone.
fn without_dots(path: &str) -> String {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (path, query) = path.split_at(end);
    let mut kept: Vec<&str> = Vec::new();
    let mut is_directory = false;
    for part in path.trim_start_matches('/').split('/') {
        is_directory = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    let slash = if is_directory && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_lead_where_a_browser_would_go() {
        let from = HttpTarget {
            scheme: Scheme::Http,
            address: Address { host: "10.0.0.1".into(), port: 8080 },
            path: "/a/b?q=1".into(),
            headers: vec![("Host".into(), "x".into())],
        };
        for (location, url) in [
            ("/x", "http://10.0.0.1:8080/x"),
            ("x?y#z", "http://10.0.0.1:8080/a/x?y"),
            ("../../x/./y/..", "http://10.0.0.1:8080/x/"),
            ("?r", "http://10.0.0.1:8080/a/b?r"),
            ("#f", "http://10.0.0.1:8080/a/b?q=1"),
            ("http://10.0.0.1/x", "http://10.0.0.1:80/x"),
            ("HTTPS://10.0.0.1", "https://10.0.0.1:443/"),
            ("//10.0.0.1:81?q", "http://10.0.0.1:81/?q"),
            ("/x y", "http://10.0.0.1:8080/x%20y"),
            ("/a:b", "http://10.0.0.1:8080/a:b"),
        ] {
            let Ok(Redirect::SameHost(next)) = resolve(&from, location) else {
                panic!("{location} leads elsewhere");
            };
            assert_eq!(next.url(), url, "{location}");
            assert_eq!(next.headers.is_empty(), location.contains("//"), "{location}");
        }
        for location in ["http://10.0.0.2/", "//other/x", "mailto:x"] {
            assert_eq!(resolve(&from, location), Ok(Redirect::Elsewhere), "{location}");
        }
        for location in ["ftp://10.0.0.1/", "http://a b/"] {
            assert!(resolve(&from, location).is_err(), "{location}");
        }
    }
}
