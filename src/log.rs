//! `--log`, `--log-format`, `--debug`.
