//! The table of programs that tests and measurements use, and where each comes from.

use crate::workspace::Workspace;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// The eBPF object and the binaries.
    Build,
    /// Format and lints.
    Lint,
    /// Bans, licences and sources of dependencies.
    Deny,
    /// Unit tests.
    Unit,
    /// The manifest and its tests.
    Deploy,
    /// Tests on this kernel.
    Live,
    /// Tests on kernels in QEMU.
    Kernels,
    /// A Kubernetes cluster on this machine.
    Cluster,
    /// Measurements.
    Bench,
}

impl Purpose {
    /// Every purpose.
    pub(crate) const ALL: [Self; 9] = [
        Self::Build,
        Self::Lint,
        Self::Deny,
        Self::Unit,
        Self::Deploy,
        Self::Live,
        Self::Kernels,
        Self::Cluster,
        Self::Bench,
    ];
}

/// How a package gets onto the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `apt-get install`.
    Install,
    /// Its programs are taken out into target/tools/bin: an installation would start a service, or is not possible beside
    /// what a usual system has.
    Unpack,
}

/// A program that comes in a package of the distribution.
#[derive(Debug)]
pub(crate) struct Need {
    /// Debian's name of the package.
    pub(crate) package: &'static str,
    /// The programs that are used.
    pub(crate) programs: &'static [&'static str],
    /// What they do here.
    pub(crate) why: &'static str,
    /// What they are needed for.
    pub(crate) purposes: &'static [Purpose],
    /// How it is brought.
    pub(crate) way: Way,
}

/// Every one. The eBPF tool-chain is chosen elsewhere; the C compiler and linker were there to build this program.
pub(crate) static NEEDS: [Need; 17] = [
    install(
        "npm",
        &["npm", "node"],
        "bundles the web page",
        &[Purpose::Build, Purpose::Lint, Purpose::Live, Purpose::Cluster],
    ),
    install("chromium", &["chromium"], "opens the web page in the tests", &[Purpose::Live, Purpose::Cluster]),
    install(
        "iproute2",
        &["ip"],
        "makes the network devices of the tests",
        &[Purpose::Live, Purpose::Kernels, Purpose::Cluster, Purpose::Bench],
    ),
    install(
        "iptables",
        &["iptables"],
        "translates addresses in tests, and makes the test cluster's services reachable",
        &[Purpose::Live, Purpose::Cluster],
    ),
    install("stress-ng", &["stress-ng"], "storms of tasks for the tests", &[Purpose::Live, Purpose::Kernels]),
    install("tmux", &["tmux"], "a terminal for the tests of `observer top`", &[Purpose::Live]),
    install("iperf3", &["iperf3"], "reports its own traffic, for the tests; not run as a service", &[Purpose::Live]),
    install("curl", &["curl"], "reports its own traffic, for the tests", &[Purpose::Live]),
    install("dnsmasq-base", &["dnsmasq"], "answers names in the tests; not run as a service", &[Purpose::Live]),
    install("dnsperf", &["dnsperf"], "asks for names in the tests, and reports what it was answered", &[Purpose::Live]),
    install("python3", &["python3"], "serves files by sendfile in the tests", &[Purpose::Live]),
    install("bpftool", &["bpftool"], "a second opinion on the kernel's BTF", &[Purpose::Unit]),
    Need {
        package: "prometheus",
        programs: &["promtool", "prometheus"],
        why: "checks and scrapes the metrics; not run as a service",
        purposes: &[Purpose::Unit, Purpose::Live, Purpose::Deploy, Purpose::Cluster],
        way: Way::Unpack,
    },
    install("qemu-system-x86", &["qemu-system-x86_64"], "runs the test kernels", &[Purpose::Kernels]),
    // It conflicts with the dynamic busybox, which initramfs-tools brings to most systems.
    Need {
        package: "busybox-static",
        programs: &["busybox"],
        why: "the system of the test kernels and pods; not installed",
        purposes: &[Purpose::Kernels, Purpose::Cluster],
        way: Way::Unpack,
    },
    install("xz-utils", &["xz"], "unpacks kernel modules", &[Purpose::Kernels]),
    install("zstd", &["zstd"], "unpacks kernel modules", &[Purpose::Kernels]),
];

const fn install(
    package: &'static str,
    programs: &'static [&'static str],
    why: &'static str,
    purposes: &'static [Purpose],
) -> Need {
    Need { package, programs, why, purposes, way: Way::Install }
}

/// Those of the table that some purpose needs and that `has` does not find.
pub(crate) fn missing(purposes: &[Purpose], has: impl Fn(&str) -> bool) -> Vec<&'static Need> {
    let wanted = |need: &&Need| need.purposes.iter().any(|purpose| purposes.contains(purpose));
    let absent = |need: &&Need| !need.programs.iter().all(|program| has(program));
    NEEDS.iter().filter(wanted).filter(absent).collect()
}

/// True when a program of the table is there: on the search path, or under target/tools.
pub(crate) fn has(workspace: &Workspace, program: &str) -> bool {
    match program {
        "busybox" => static_busybox(workspace).is_some(),
        _ => find(program).is_some() || workspace.tool(program).is_file(),
    }
}

/// A busybox that needs no libraries, as a guest has none: that of target/tools before the system's, which is often the
/// distribution's other one of the same name.
pub(crate) fn static_busybox(workspace: &Workspace) -> Option<PathBuf> {
    let places = [Some(workspace.tool("busybox")), find("busybox")];
    places.into_iter().flatten().find(|path| path.is_file() && is_static(path))
}

/// A program on the search path or where administrators' programs are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(administrators)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// True when ldd finds no libraries to load.
fn is_static(program: &Path) -> bool {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ldd.status().is_ok_and(|status| !status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_purpose_needs_and_is_not_there_is_missing() {
        let names = |purposes: &[Purpose], there: &[&str]| -> Vec<_> {
            missing(purposes, |program| there.contains(&program)).iter().map(|need| need.package).collect()
        };
        assert_eq!(names(&[Purpose::Deny], &[]), Vec::<&str>::new());
        assert_eq!(names(&[Purpose::Build, Purpose::Lint], &[]), ["npm"]);
        assert_eq!(names(&[Purpose::Kernels], &["ip", "stress-ng", "xz", "busybox"]), ["qemu-system-x86", "zstd"]);
        assert_eq!(names(&[Purpose::Unit], &["bpftool", "promtool"]), ["prometheus"]);
    }

    #[test]
    fn no_package_is_listed_twice_and_each_says_why() {
        let mut packages: Vec<_> = NEEDS.iter().map(|need| need.package).collect();
        packages.sort_unstable();
        packages.dedup();
        assert_eq!(packages.len(), NEEDS.len());
        for need in &NEEDS {
            assert!(!need.why.is_empty() && !need.purposes.is_empty() && !need.programs.is_empty(), "{}", need.package);
        }
    }

    #[test]
    fn a_static_program_is_told_from_a_dynamic_one() {
        assert!(!is_static(Path::new("/bin/sh")));
        let text = tempfile::NamedTempFile::new().unwrap();
        assert!(is_static(text.path()), "what has no interpreter has no libraries");
    }
}
