//! The `carob` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    carob::cli::main(std::env::args_os().collect())
}
