//! The agent: one task that samples, books and answers scrapes.

//mod own_cpu;
//mod station;
mod summary;
