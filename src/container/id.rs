//! Container ids.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A checked id: a file name that is safe below the state root and in a cgroup path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// runc's limit, in bytes; a directory name of the usual file systems is shorter still.
const MAX_BYTES: usize = 1024;

impl ContainerId {
    /// Checks an id: runc's character set, not `.` or `..`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the id and what is allowed.
    pub fn new(id: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id.is_empty() {
            return Err(Error::Invalid("container id cannot be empty".into()));
        }
        if id.len() > MAX_BYTES || id == "." || id == ".." || !id.bytes().all(allowed) {
            let shown: String = id.chars().take(80).collect();
            return Err(Error::Invalid(format!(
                "invalid container ID format {shown:?}: allowed are up to {MAX_BYTES} letters, \
                 digits and the characters _ + - . (but not . or .. alone)"
            )));
        }
        Ok(Self(id.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        Self::new(&id)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_in_the_state_root_are_ids() {
        for good in ["a", "web-1", "A_b.c+d", "...", "-x", &"x".repeat(1024)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", "x:y", &"x".repeat(1025)] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
    }
}
