//! One process per pod: waits, decides, acts, writes down.
