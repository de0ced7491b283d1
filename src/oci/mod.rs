//! `config.json`: read, checked, and turned into what init needs. Pure but for reading the file.

pub mod capabilities;
pub mod load;
mod mend;
pub mod mount_opts;
pub mod namespaces;
mod parse;
pub mod plan;
pub mod rlimits;
pub mod sysctl;
pub mod user;
pub mod validate;

use std::fmt;

/// Something in the configuration that is odd or cannot be honoured, but is no reason to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// JSON path, `process.capabilities.bounding[3]`.
    pub field: String,
    /// The value, and what becomes of it.
    pub reason: String,
}

impl Warning {
    /// A warning about one property.
    pub fn new(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}
/// The version of the runtime specification that carob implements.
pub const SPEC_VERSION: &str = "1.3.0";
