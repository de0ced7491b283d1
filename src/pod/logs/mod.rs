//! CRI logs of containers: write, rotate, read.
//!
//! ```text
//! line.rs      one line: its format and how it is read back
//! writer.rs    output of an instance → lines → file; never an error for who prints
//! resume.rs    how far a writer that was killed had got
//! rotate.rs    names of rotated files, rotation, compression in slices
//! place.rs     directories and files of logs, opened so that no planted link is followed
//! reader.rs    the lines of a file, its tail
//! instance.rs  which instance's log is meant
//! print.rs     lines as they are shown
//! follow.rs    waiting for more
//! ```
//!
//! Only `follow` blocks, and it is for the command line; the supervisor uses the rest.

pub mod follow;
pub mod instance;
pub mod line;
mod place;
pub mod print;
pub mod reader;
mod resume;
pub mod rotate;
pub mod writer;

pub use line::Stream;
pub use place::prune;
pub use reader::last_lines;
pub use resume::{Position, cut_half_line, stored_since};
pub use rotate::{Compressor, Step};
pub use writer::LogWriter;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A file that would grow beyond this many bytes is rotated.
    pub bytes: u64,
    /// Number of files of one instance, the one that is written included.
    pub files: usize,
}

impl Default for Limits {
    /// The kubelet's: `containerLogMaxSize` and `containerLogMaxFiles`.
    fn default() -> Self {
        Self { bytes: 10 << 20, files: 5 }
    }
}
