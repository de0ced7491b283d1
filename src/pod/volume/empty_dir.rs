//! empty_dir
