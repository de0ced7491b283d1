//! `checkpoint` and `restore`, which carob does not have.
//!
//! Engines probe with `checkpoint --help` and take exit status 0 for support. So both accept any
//! arguments, `--help` too, and fail.

use std::ffi::OsString;

use super::{Context, Verb};
use crate::error::{Error, Result};

/// Not supported yet
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Unsupported {
    /// Ignored
    #[arg(value_name = "ARG", allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<OsString>,
}

impl Verb for Unsupported {
    fn run(self, _: &Context) -> Result<i32> {
        Err(Error::Unsupported("checkpoint and restore are not supported yet".into()))
    }
}
