//! CRI log files: written, rotated, read.
