//! Volumes, and the files that every pod gets.
