//! fsgroup
