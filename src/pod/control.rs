//! What the command line and the supervisor say to each other.
