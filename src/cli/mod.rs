//! The command line: clap's tree, and the one `match` that dispatches.
