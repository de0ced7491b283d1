//! host_path
