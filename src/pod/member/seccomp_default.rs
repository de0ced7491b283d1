//! seccomp_default
