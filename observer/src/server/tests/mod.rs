//! The server over real sockets on loopback.

mod api;
mod fixture;
mod flights;
mod hostile;
mod requests;
mod shutdown;
mod slow_readers;
