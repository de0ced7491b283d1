//! The forms of names that the API has.
//!
//! Source: apimachinery `pkg/util/validation/validation.go`.

/// What is wrong with a name.
type Checked = Result<(), Vec<String>>;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn checked(rules: &[(bool, String)]) -> Checked {
    let broken: Vec<String> =
        rules.iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule.clone()).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

fn at_most(text: &str, most: usize) -> (bool, String) {
    (text.len() <= most, format!("must be no more than {most} characters"))
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| inner(b) || b == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

fn is_qualified(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// A DNS label: containers, volumes, namespaces, host names.
pub(super) fn label(text: &str) -> Checked {
    checked(&[
        at_most(text, 63),
        (
            is_label(text),
            format!(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
                 or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
                 or '123-abc', regex used for validation is '{LABEL}')"
            ),
        ),
    ])
}

/// A DNS subdomain: objects.
pub(super) fn subdomain(text: &str) -> Checked {
    checked(&[
        at_most(text, 253),
        (
            text.split('.').all(is_label),
            format!(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                 characters, '-' or '.', and must start and end with an alphanumeric character \
                 (e.g. 'example.com', regex used for validation is '{LABEL}(\\.{LABEL})*')"
            ),
        ),
    ])
}

/// The name of a port.
pub(super) fn port_name(text: &str) -> Checked {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    checked(&[
        at_most(text, 15),
        (
            text.bytes().all(known),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into(),
        ),
        (
            text.bytes().any(|b| b.is_ascii_lowercase()),
            "must contain at least one letter (a-z)".into(),
        ),
        (!text.contains("--"), "must not contain consecutive hyphens".into()),
        (
            !text.starts_with('-') && !text.ends_with('-'),
            "must not begin or end with a hyphen".into(),
        ),
    ])
}

/// The name of an environment variable.
pub(super) fn variable(text: &str) -> Checked {
    checked(&[(
        text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'='),
        "a valid environment variable name must consist only of printable ASCII characters other \
         than '='"
            .into(),
    )])
}

/// A key of a ConfigMap or Secret; it is the name of a file.
pub(super) fn key(text: &str) -> Checked {
    checked(&[
        at_most(text, 253),
        (
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
             (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
             '[-._a-zA-Z0-9]+')"
                .into(),
        ),
        (text != ".", "must not be '.'".into()),
        (!text.starts_with(".."), "must not start with '..'".into()),
    ])
}

/// The key of a label or annotation: `name` or `domain/name`.
pub(super) fn qualified(text: &str) -> Checked {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let mut broken = Vec::new();
    if let Some(prefix) = prefix {
        broken.extend(
            subdomain(prefix).err().into_iter().flatten().map(|rule| format!("prefix part {rule}")),
        );
    }
    let rules = checked(&[
        (!name.is_empty(), "name part must be non-empty".into()),
        (name.len() <= 63, "name part must be no more than 63 characters".into()),
        (
            is_qualified(name),
            format!(
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                 '123-abc', regex used for validation is '{QUALIFIED}')"
            ),
        ),
    ]);
    broken.extend(rules.err().into_iter().flatten());
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

/// The value of a label.
pub(super) fn label_value(text: &str) -> Checked {
    checked(&[
        at_most(text, 63),
        (
            text.is_empty() || is_qualified(text),
            format!(
                "a valid label must be an empty string or consist of alphanumeric characters, \
                 '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
                 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                 '({QUALIFIED})?')"
            ),
        ),
    ])
}

/// The name of a header of HTTP.
pub(super) fn header(text: &str) -> Checked {
    checked(&[(
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
         'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
            .into(),
    )])
}

/// Part of a directory's name; no API server has made it.
pub(super) fn uid(text: &str) -> Checked {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    checked(&[
        at_most(text, 63),
        (
            !text.is_empty() && text.bytes().all(known),
            "must consist of lower case alphanumeric characters or '-'".into(),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_forms() {
        let long = "a".repeat(64);
        type Check = fn(&str) -> Checked;
        let table: [(Check, &[&str], &[&str]); 9] = [
            (label, &["a", "a-1", "0"], &["", "A", "-a", "a-", "a.b", "a_b", "é", &long]),
            (subdomain, &["a", "a.b-c.d"], &["", "a..b", ".a", "A", "a/b", ".."]),
            (
                port_name,
                &["http", "a-1"],
                &["", "1", "a--b", "-a", "a-", "Http", "aaaaaaaaaaaaaaaa"],
            ),
            (variable, &["A", "a.b", "1 2"], &["A=B", "é", "a\nb"]),
            (key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b"]),
            (qualified, &["a", "a.b/C_d"], &["", "/a", "a/", "A/b", "a/b/c", "-a", &long]),
            (label_value, &["", "a", "A_b"], &["-a", "a b", &long]),
            (header, &["X-A"], &["", "a b", "a:"]),
            (uid, &["0a-b"], &["", "..", "a/b", "A", &long]),
        ];
        for (index, (check, good, bad)) in table.into_iter().enumerate() {
            for text in good {
                assert_eq!(check(text), Ok(()), "{index} {text:?}");
            }
            for text in bad {
                assert!(check(text).is_err(), "{index} {text:?}");
            }
        }
    }
}
