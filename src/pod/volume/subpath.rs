//! subpath
