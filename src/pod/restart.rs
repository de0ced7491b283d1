//! Restart policy and back-off. Pure.
