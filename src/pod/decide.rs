//! What a pod needs next: rules, record and time in, actions out. Pure.
