//! The metrics listener.
