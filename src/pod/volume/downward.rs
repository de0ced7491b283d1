//! downward
