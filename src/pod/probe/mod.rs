//! Probes: when to run them, how, and what their results add up to.
