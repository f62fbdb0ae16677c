//! The decision over what a machine may have.

use super::*;

fn rust(name: &str, llvm: Version) -> Rust {
    Rust {
        name: name.into(),
        rustc: format!("/{name}/rustc").into(),
        cargo: Some(format!("/{name}/cargo").into()),
        release: Version::new(1, 96, 0),
        llvm,
        nightly: name == "nightly",
        sources: true,
        own_llvm: None,
    }
}

fn llvm(version: Version) -> Llvm {
    Llvm { place: Place::Prefix(format!("/usr/lib/llvm-{}", version.major).into()), version }
}

fn debian_12() -> Found {
    Found {
        packaged_rusts: vec![PackagedRust {
            packages: ["rustc-web", "cargo-web", "rust-web-src"],
            release: Version::new(1, 96, 0),
            llvm_major: Some(22),
        }],
        packaged_llvms: [19, 22].map(|major| PackagedLlvm { version: Version::new(major, 1, 8) }).to_vec(),
        rustup: true,
        ..Found::default()
    }
}

fn ready(found: &Found) -> (String, Version) {
    match decide(found, None).decision {
        Decision::Ready(pair) => (pair.rust.name, pair.llvm.version),
        other => panic!("not ready: {other:?}"),
    }
}

fn packages(names: &[&str]) -> Decision {
    Decision::Packages(names.iter().map(ToString::to_string).collect())
}

#[test]
fn a_fresh_debian_12_gets_the_distributions_pair_with_its_llvm() {
    let verdict = decide(&debian_12(), None);
    assert_eq!(verdict.decision, packages(&["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"]));
    assert_eq!(verdict.passed_over, Vec::<String>::new());
}

#[test]
fn a_nightly_with_sources_comes_before_the_distributions_pair() {
    let (old, new) = (Version::new(22, 1, 4), Version::new(22, 1, 8));
    let found =
        Found { rusts: vec![rust("nightly", old), rust(DISTRIBUTION, new)], llvms: vec![llvm(new)], ..debian_12() };
    assert_eq!(ready(&found), ("nightly".into(), new));
    let verdict = decide(&found, Some(DISTRIBUTION));
    assert!(matches!(verdict.decision, Decision::Ready(pair) if pair.rust.name == DISTRIBUTION));
}

#[test]
fn a_nightly_without_sources_is_passed_over_with_that_reason() {
    let version = Version::new(22, 1, 8);
    let nightly = Rust { sources: false, ..rust("nightly", Version::new(22, 1, 4)) };
    let found = Found { rusts: vec![nightly, rust(DISTRIBUTION, version)], llvms: vec![llvm(version)], ..debian_12() };
    assert_eq!(ready(&found).0, DISTRIBUTION);
    let passed_over = decide(&found, None).passed_over;
    assert_eq!(passed_over, ["nightly (rustc 1.96.0): it has no rust-src"]);
}

#[test]
fn a_linkers_llvm_may_not_be_a_patch_level_behind() {
    let found = Found {
        rusts: vec![rust("nightly", Version::new(22, 1, 9))],
        llvms: vec![llvm(Version::new(22, 1, 8))],
        ..debian_12()
    };
    let verdict = decide(&found, None);
    assert_eq!(
        verdict.passed_over,
        ["nightly (rustc 1.96.0): it writes LLVM 22.1.9, newer than the LLVM 22.1.8 that is installed for the linker"]
    );
    // Debian's llvm-22-dev would be behind as well.
    assert_eq!(verdict.decision, packages(&["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"]));
}

#[test]
fn of_several_llvms_the_smallest_that_is_enough_is_taken() {
    let versions = [Version::new(21, 1, 8), Version::new(23, 1, 0), Version::new(22, 1, 8)];
    let found = Found {
        rusts: vec![rust("nightly", Version::new(22, 1, 4))],
        llvms: versions.map(llvm).to_vec(),
        ..Found::default()
    };
    assert_eq!(ready(&found).1, Version::new(22, 1, 8));
}

#[test]
fn a_nightly_that_lacks_only_an_llvm_gets_it_from_the_distribution() {
    let found = Found { rusts: vec![rust("nightly", Version::new(22, 1, 4))], ..debian_12() };
    assert_eq!(decide(&found, None).decision, packages(&["llvm-22-dev"]));
}

#[test]
fn a_complete_pair_is_taken_rather_than_one_that_needs_an_install() {
    let version = Version::new(22, 1, 8);
    let newer = rust("nightly", Version::new(23, 1, 0));
    let found = Found { rusts: vec![newer, rust(DISTRIBUTION, version)], llvms: vec![llvm(version)], ..debian_12() };
    assert_eq!(ready(&found).0, DISTRIBUTION);
}

#[test]
fn half_of_the_distributions_pair_is_completed() {
    let found =
        Found { rusts: vec![Rust { sources: false, ..rust(DISTRIBUTION, Version::new(22, 1, 8)) }], ..debian_12() };
    assert_eq!(decide(&found, None).decision, packages(&["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"]));
}

#[test]
fn a_compiler_older_than_the_crate_is_not_taken() {
    let version = Version::new(22, 1, 8);
    let old = Rust { release: Version::new(1, 85, 0), ..rust(DISTRIBUTION, version) };
    let found = Found { rusts: vec![old], llvms: vec![llvm(version)], rustup: true, ..Found::default() };
    let verdict = decide(&found, None);
    assert_eq!(verdict.decision, Decision::RustupNightly { there: false });
    assert_eq!(verdict.passed_over, ["distribution (rustc 1.85.0): rustc 1.85.0 is older than 1.95.0"]);
}

#[test]
fn where_the_distribution_has_no_pair_rustups_nightly_is_offered() {
    let found = Found { rustup: true, ..Found::default() };
    assert_eq!(decide(&found, None).decision, Decision::RustupNightly { there: false });
    let old = PackagedRust {
        packages: ["rustc-web", "cargo-web", "rust-web-src"],
        release: Version::new(1, 85, 0),
        llvm_major: Some(19),
    };
    let found = Found { packaged_rusts: vec![old], ..found };
    assert_eq!(decide(&found, None).decision, Decision::RustupNightly { there: false });
}

#[test]
fn a_complete_nightly_without_an_llvm_anywhere_is_for_the_user() {
    let found = Found { rusts: vec![rust("nightly", Version::new(23, 1, 2))], rustup: true, ..Found::default() };
    let Decision::ByHand(how) = decide(&found, None).decision else { panic!("there is nothing to install") };
    assert!(how.contains("llvm-23-dev") && how.contains("LLVM_PREFIX"), "{how}");
}

/// As rustup brings it.
fn with_own_llvm(version: Version) -> Rust {
    let library = format!("/nightly/lib/libLLVM.so.{}.1-rust-1.96.0-nightly", version.major);
    Rust { own_llvm: Some(library.into()), ..rust("nightly", version) }
}

#[test]
fn a_nightly_newer_than_every_llvm_of_the_distribution_is_linked_with_its_own() {
    let nightly = with_own_llvm(Version::new(23, 1, 4));
    let found = Found { rusts: vec![nightly.clone()], llvms: vec![llvm(Version::new(22, 1, 8))], ..debian_12() };
    let Decision::Ready(pair) = decide(&found, None).decision else { panic!("nothing is missing") };
    assert_eq!(pair.llvm.place, Place::OfCompiler(nightly.own_llvm.unwrap()));
    assert_eq!(pair.llvm.version, Version::new(23, 1, 4));
}

#[test]
fn an_installed_llvm_that_serves_comes_before_the_compilers_own() {
    let installed = llvm(Version::new(22, 1, 8));
    let found =
        Found { rusts: vec![with_own_llvm(Version::new(22, 1, 4))], llvms: vec![installed.clone()], ..debian_12() };
    let Decision::Ready(pair) = decide(&found, None).decision else { panic!("nothing is missing") };
    assert_eq!(pair.llvm, installed);
}

#[test]
fn an_llvm_that_the_linker_does_not_know_is_no_help() {
    let version = Version::new(24, 1, 0);
    let found = Found { rusts: vec![with_own_llvm(version)], llvms: vec![llvm(version)], ..Found::default() };
    let verdict = decide(&found, None);
    assert!(matches!(verdict.decision, Decision::ByHand(_)));
    assert!(verdict.passed_over[0].contains("LLVM 24.1.0 is not one that bpf-linker"), "{:?}", verdict.passed_over);
}

#[test]
fn a_complete_nightly_that_is_too_new_for_the_linker_is_not_told_to_be_installed_again() {
    let found = Found { rusts: vec![with_own_llvm(Version::new(24, 1, 0))], rustup: true, ..debian_12() };
    let Decision::ByHand(how) = decide(&found, Some("nightly")).decision else { panic!("there is nothing to install") };
    assert!(how.starts_with("an older nightly than nightly (rustc 1.96.0): it writes LLVM 24.1.0"), "{how}");
    assert!(how.contains("toolchain install nightly-2") && how.contains("--ebpf-toolchain nightly-2"), "{how}");
    assert!(how.ends_with("`--ebpf-toolchain distribution`"), "{how}");
}

#[test]
fn without_rustup_and_packages_the_user_is_told_what_to_get() {
    let Decision::ByHand(how) = decide(&Found::default(), None).decision else { panic!("there is nothing to install") };
    assert!(how.contains("rust-src") && how.contains("1.95.0"), "{how}");
}

#[test]
fn a_named_tool_chain_is_the_only_one_considered() {
    let version = Version::new(22, 1, 8);
    let found = Found { rusts: vec![rust("nightly", version)], llvms: vec![llvm(version)], ..debian_12() };
    assert_eq!(
        decide(&found, Some(DISTRIBUTION)).decision,
        packages(&["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"])
    );
    let found = Found { rusts: vec![rust(DISTRIBUTION, version)], llvms: vec![llvm(version)], ..debian_12() };
    assert_eq!(decide(&found, Some("nightly")).decision, Decision::RustupNightly { there: false });
}

#[test]
fn a_nightly_that_lacks_its_source_only_is_completed_not_replaced() {
    let nightly = Rust { sources: false, ..rust("nightly", Version::new(22, 1, 4)) };
    let found = Found { rusts: vec![nightly], rustup: true, ..Found::default() };
    assert_eq!(decide(&found, None).decision, Decision::RustupNightly { there: true });
}

#[test]
fn a_tool_chain_that_nobody_has_is_named() {
    let Decision::ByHand(how) = decide(&debian_12(), Some("nightly-2020-01-01")).decision else {
        panic!("nothing fits")
    };
    assert!(how.contains("nightly-2020-01-01"), "{how}");
}
