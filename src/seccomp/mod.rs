//! Seccomp profiles: compiled by libseccomp, cached by content.
