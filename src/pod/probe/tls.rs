//! TLS that takes any certificate.
