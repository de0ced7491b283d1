//! Real containers, as root.
