//! Finds what is missing for some purposes. Changes nothing but apt's package lists: fetched when there are none, and when
//! nothing that they offer serves.

use super::{Purpose, SetupArgs, apt, install::reason, item::Item, needs, privilege::Privilege, tools};
use crate::{
    cluster,
    deploy::{helm, schema},
    toolchain::{self, DISTRIBUTION, Decision, Found, Pair, Place, Verdict, linker, probe},
    workspace::Workspace,
};
use needs::{Need, Way};

/// What is missing for some purposes.
#[derive(Default)]
pub(super) struct Survey {
    /// What can be installed.
    pub(super) items: Vec<Item>,
    /// The eBPF tool-chain, once it is complete but for its linker.
    pub(super) pair: Option<Pair>,
    /// What only the user can do.
    pub(super) by_hand: Option<String>,
    /// For the reader: what was found, what was passed over.
    pub(super) remarks: Vec<String>,
}

/// Looks, again after each round of installing.
pub(super) struct Surveyor<'a> {
    workspace: &'a Workspace,
    args: &'a SetupArgs,
    privilege: Privilege,
    /// True once apt's lists are as new as they get, or cannot be had.
    lists_are_settled: bool,
}

impl<'a> Surveyor<'a> {
    /// For a set-up.
    pub(super) const fn new(workspace: &'a Workspace, args: &'a SetupArgs, privilege: Privilege) -> Self {
        Self { workspace, args, privilege, lists_are_settled: false }
    }

    /// Looks at all that `purposes` need.
    pub(super) fn survey(&mut self, purposes: &[Purpose]) -> Survey {
        let (workspace, mut survey) = (self.workspace, Survey::default());
        if purposes.contains(&Purpose::Build) {
            let verdict = self.verdict(&mut survey);
            record(workspace, verdict, &mut survey);
        }
        survey_packages(workspace, purposes, &mut survey);
        if purposes.contains(&Purpose::Lint) && !has_lint_components(workspace) {
            survey.items.push(Item::RustupComponents);
        }
        if purposes.contains(&Purpose::Deny) && !tools::has_cargo_deny(workspace) {
            survey.items.push(Item::CargoDeny);
        }
        let (deploy, cluster) = (purposes.contains(&Purpose::Deploy), purposes.contains(&Purpose::Cluster));
        let helm = (deploy || cluster) && helm::find(workspace).is_none();
        let schema = deploy && schema::find(workspace).is_none();
        let lacks_go = (helm && helm::go(workspace).is_none())
            || (schema && schema::go(workspace).is_none())
            || (cluster && cluster::lacks_go(workspace));
        if lacks_go {
            survey.items.push(Item::Go);
        }
        if helm {
            survey.items.push(Item::Helm);
        }
        if schema {
            survey.items.push(Item::Schema);
        }
        if cluster && !cluster::has_runtime(workspace) {
            survey.items.push(Item::Runtime);
        }
        survey
    }

    fn verdict(&mut self, survey: &mut Survey) -> Verdict {
        let wanted = self.args.ebpf_toolchain.as_deref();
        let mut found = probe::installed(self.workspace);
        let mut verdict = toolchain::decide(&found, wanted);
        if matches!(verdict.decision, Decision::Ready(_)) || !apt::is_there() {
            return verdict;
        }
        self.look_at_packages(&mut found, survey);
        verdict = toolchain::decide(&found, wanted);
        if !newer_lists_may_help(&verdict.decision, wanted) {
            return verdict;
        }
        if self.args.no_install {
            survey.remarks.push("judged by apt's package lists as they are; a set-up would fetch them first".into());
        } else if !self.lists_are_settled {
            println!("set-up: nothing that apt knows of compiles the eBPF programs; its package lists may be old");
            self.fetch_lists(survey);
            probe::add_packaged(&mut found);
            verdict = toolchain::decide(&found, wanted);
        }
        verdict
    }

    /// Adds what apt has to offer. Only when something is missing: it takes a second.
    fn look_at_packages(&mut self, found: &mut Found, survey: &mut Survey) {
        if apt::lists_are_empty() {
            if self.args.no_install {
                survey.remarks.push("apt has no package lists yet, so these are Debian 12's names".into());
                probe::assume_packaged(found);
                return;
            }
            println!("set-up: apt has no package lists yet");
            self.fetch_lists(survey);
        }
        probe::add_packaged(found);
    }

    /// Once: what the second time would bring is no newer. There may be a way without apt.
    fn fetch_lists(&mut self, survey: &mut Survey) {
        if !self.lists_are_settled {
            self.lists_are_settled = true;
            let error = apt::update(self.workspace, self.privilege).err();
            survey.remarks.extend(error.map(|error| format!("the package lists stay as they are: {}", reason(&error))));
        }
    }
}

/// True when the decision is against the distribution's packages, as they are known, and would be for them if it could.
fn newer_lists_may_help(decision: &Decision, wanted: Option<&str>) -> bool {
    match decision {
        Decision::Ready(_) | Decision::Packages(_) => false,
        Decision::RustupNightly { .. } => wanted.is_none_or(|wanted| wanted == DISTRIBUTION),
        // Perhaps for want of an LLVM, which serves any compiler.
        Decision::ByHand(_) => true,
    }
}

fn record(workspace: &Workspace, verdict: Verdict, survey: &mut Survey) {
    survey.remarks.extend(verdict.passed_over.iter().map(|line| format!("not for the eBPF programs: {line}")));
    match verdict.decision {
        Decision::Ready(pair) => survey_linker(workspace, pair, survey),
        Decision::Packages(names) => {
            let missing: Vec<_> = names.iter().filter(|name| !apt::is_current(name)).cloned().collect();
            if missing.is_empty() {
                let (names, reasons) = (names.join(" "), verdict.passed_over.join("; "));
                survey.by_hand = Some(format!("a repair of what is installed and current ({names}): {reasons}"));
                return;
            }
            let why =
                |name: &str| if name.starts_with("llvm") { "for the linker" } else { "compiles the eBPF programs" };
            let item = |name: String| Item::Package { why: why(&name).into(), name, optional: false };
            survey.items.extend(missing.into_iter().map(item));
            survey.items.extend(absent_linker(workspace, "after the packages"));
        }
        Decision::RustupNightly { there } => {
            survey.items.push(Item::RustupNightly { there });
            survey.items.extend(absent_linker(workspace, "and its LLVM, if it is not there"));
        }
        Decision::ByHand(how) => survey.by_hand = Some(how),
    }
}

/// The linker, while its pair is not known. One that is there is judged when it is.
fn absent_linker(workspace: &Workspace, why: &str) -> Option<Item> {
    linker::look(workspace).is_none().then(|| Item::Linker { why: why.to_owned() })
}

fn survey_linker(workspace: &Workspace, pair: Pair, survey: &mut Survey) {
    let llvm = match &pair.llvm.place {
        Place::Prefix(_) => format!("LLVM {}", pair.llvm.version),
        Place::OfCompiler(_) => "the LLVM in it".into(),
    };
    survey.remarks.push(format!(
        "the eBPF programs are built with the {} rustc {} (LLVM {}), linked with {llvm}",
        pair.rust.name, pair.rust.release, pair.rust.llvm
    ));
    let unfit = linker::unfit(linker::look(workspace).as_ref(), &pair);
    survey.items.extend(unfit.map(|why| Item::Linker { why }));
    survey.pair = Some(pair);
}

fn survey_packages(workspace: &Workspace, purposes: &[Purpose], survey: &mut Survey) {
    let missing = needs::missing(purposes, |program| needs::has(workspace, program));
    let known = |need: &&Need| apt::is_there() && (apt::lists_are_empty() || apt::candidate(need.package).is_some());
    let (packaged, other): (Vec<_>, Vec<_>) = missing.into_iter().partition(known);
    for need in packaged {
        let (package, why) = (need.package, need.why);
        survey.items.push(match need.way {
            Way::Install => Item::Package { name: package.into(), why: why.into(), optional: true },
            Way::Unpack => Item::Unpack { name: package, programs: need.programs, why },
        });
    }
    // Nothing ends because of these: a test that needs one says so and is skipped.
    survey.remarks.extend(other.into_iter().map(|need| {
        format!(
            "install {} by hand, if it can be had: {} (Debian: {})",
            need.programs.join(", "),
            need.why,
            need.package
        )
    }));
}

/// True when cargo has its formatter and its lints.
pub(crate) fn has_lint_components(workspace: &Workspace) -> bool {
    // rustup's proxies are there even where the components are not.
    ["clippy", "fmt"].iter().all(|name| probe::said(workspace.cargo(name).arg("--version")).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_fetched_anew_before_the_distribution_is_given_up_and_only_then() {
        let by_hand = Decision::ByHand(String::new());
        let nightly = Decision::RustupNightly { there: false };
        assert!(newer_lists_may_help(&by_hand, None) && newer_lists_may_help(&by_hand, Some("nightly")));
        assert!(newer_lists_may_help(&nightly, None));
        assert!(!newer_lists_may_help(&nightly, Some("nightly")));
        assert!(!newer_lists_may_help(&Decision::Packages(Vec::new()), None));
    }
}
