//! The kernel side: loading, attaching and reading the programs, and the privileges that needs.
#![allow(unsafe_code, clippy::allow_attributes, reason = "bpf(2), memory shared with the kernel programs, credentials")]

pub mod btf;
pub mod lock;
