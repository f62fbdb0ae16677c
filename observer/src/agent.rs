//! The agent: one task that samples, books and answers scrapes.
