//! The kernel matrix: Debian's kernels from 5.10 to the newest, booted in QEMU without hardware help, each running one command in a
//! pure cgroup v2 system made of busybox and this machine's binaries. It needs neither root nor KVM.
//!
//! `kernels` fetches, `machine` boots, `serial` listens, `stuck` asks where the CPUs are of one that says nothing any more, `suite` runs the live tests on every kernel, `command` is `cargo xtask guest`.

pub(crate) mod apt;
pub(crate) mod command;
mod initramfs;
mod kernels;
mod machine;
mod modules;
pub(crate) mod programs;
pub(crate) mod results;
mod serial;
mod stuck;
pub(crate) mod suite;
