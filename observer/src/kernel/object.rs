//! The eBPF object, as the build embedded it.

/// The bytes of the object; empty when the eBPF tool-chain was not there at build time.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observer.bpf.o"));
