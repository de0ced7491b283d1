//! Phase, conditions, statuses and the columns of a list, computed from rules and record. Pure.
