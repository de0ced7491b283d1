//! resolv
