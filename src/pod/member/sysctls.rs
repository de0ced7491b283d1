//! sysctls
