//! `config.json`: read, checked, and turned into what init needs. Pure but for reading the file.

pub mod mount_opts;
