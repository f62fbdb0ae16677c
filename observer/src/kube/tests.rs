//! The watch, the store and the owners against an API server of the tests' own: it speaks HTTP, keeps a list of what it was
//! asked, and misbehaves on demand. The real one is met by the cluster tests.

mod owners;
mod peers;
mod pruning;
mod ranges;
mod server;
mod storing;
mod watching;
