//! `config.json`: read, checked, and turned into what init needs. Pure but for reading the file.

/// The version of the runtime specification that carob implements.
pub const SPEC_VERSION: &str = "1.3.0";
