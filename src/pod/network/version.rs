//! Versions of the CNI specification, and what came with which.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// All that carob speaks; later ones add and change nothing that it does not know.
const SPOKEN: [Version; 7] = [
    Version(0, 1, 0),
    Version(0, 2, 0),
    Version(0, 3, 0),
    Version(0, 3, 1),
    Version(0, 4, 0),
    Version(1, 0, 0),
    Version(1, 1, 0),
];

/// A version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version(u32, u32, u32);

impl Version {
    /// A version.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self(major, minor, patch)
    }

    /// Whether plugins have `CHECK`, and `DEL` is given the result of `ADD`.
    #[must_use]
    pub fn has_check(self) -> bool {
        self >= Self(0, 4, 0)
    }

    /// Whether plugins have `STATUS` and `GC`.
    #[must_use]
    pub fn has_status_and_gc(self) -> bool {
        self >= Self(1, 1, 0)
    }

    /// Those that carob speaks among those that a configuration names, the highest last.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none.
    pub(super) fn of_config(config: &Map<String, Value>) -> Result<Vec<Self>> {
        let mut named: Vec<&str> = Vec::new();
        match config.get("cniVersion") {
            None | Some(Value::Null) => {}
            Some(Value::String(one)) => named.push(one),
            Some(_) => return Err(Error::config("cniVersion", "must be a string")),
        }
        if let Some(more) = config.get("cniVersions").filter(|more| !more.is_null()) {
            let list = more.as_array().map(|list| list.iter().map(Value::as_str));
            let list = list.and_then(Iterator::collect::<Option<Vec<&str>>>);
            named.extend(
                list.ok_or_else(|| Error::config("cniVersions", "must be a list of strings"))?,
            );
        }
        // What it was before versions had numbers.
        if named.iter().all(|one| one.is_empty()) {
            return Ok(vec![SPOKEN[0]]);
        }
        let spoken: Vec<Self> =
            SPOKEN.into_iter().filter(|one| named.contains(&one.to_string().as_str())).collect();
        if spoken.is_empty() {
            let [lowest, .., highest] = SPOKEN;
            let named = named.join(", ");
            let reason = format!("{named:?} must be from {lowest} to {highest}");
            return Err(Error::config("cniVersion", reason));
        }
        Ok(spoken)
    }

    /// Those that a plugin says to speak; `None` if it does not say.
    pub(super) fn spoken_by(answer: &Value) -> Option<Vec<Self>> {
        let spoken = answer.get("supportedVersions")?.as_array()?.iter();
        Some(spoken.filter_map(|one| Self::spoken(one.as_str()?)).collect())
    }

    fn spoken(text: &str) -> Option<Self> {
        SPOKEN.into_iter().find(|version| version.to_string() == text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        Self::spoken(&text).ok_or_else(|| format!("CNI version {text:?} is not known"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_both_know() {
        for (config, expected) in [
            (r"{}", Some("0.1.0")),
            (r#"{"cniVersion": ""}"#, Some("0.1.0")),
            (r#"{"cniVersion": "0.3.1"}"#, Some("0.3.1")),
            (
                r#"{"cniVersion": "0.3.1", "cniVersions": ["1.1.0", "1.0.0", "0.3.1"]}"#,
                Some("0.3.1 1.0.0 1.1.0"),
            ),
            (r#"{"cniVersions": ["0.4.0", "2.0.0"]}"#, Some("0.4.0")),
            (r#"{"cniVersion": "2.0.0"}"#, None),
            (r#"{"cniVersion": 1}"#, None),
            (r#"{"cniVersions": [1]}"#, None),
        ] {
            let config: Map<String, Value> = serde_json::from_str(config).unwrap();
            let found = Version::of_config(&config)
                .ok()
                .map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(found.as_deref(), expected, "{config:?}");
        }
        let answer = serde_json::json!({"supportedVersions": ["0.1.0", "9.0.0", "1.0.0"]});
        let spoken = Some(vec![Version::new(0, 1, 0), Version::new(1, 0, 0)]);
        assert_eq!(Version::spoken_by(&answer), spoken);
        assert_eq!(Version::spoken_by(&serde_json::json!({"ips": []})), None);
        assert!(Version::new(1, 0, 0).has_check() && !Version::new(1, 0, 0).has_status_and_gc());
        assert!(Version::new(1, 1, 0).has_status_and_gc() && !Version::new(0, 3, 1).has_check());
    }
}
