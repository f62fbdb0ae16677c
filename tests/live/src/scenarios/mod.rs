//! The tests, one file per subject.

mod api;
mod budget;
mod connections;
mod cpu;
mod culprits;
mod dns;
mod dns_names;
mod elsewhere;
mod endings;
mod ends;
mod fixtures;
mod flows;
mod history;
mod lifetimes;
mod load;
mod long_run;
mod memory;
mod mixes;
mod names;
mod node_addresses;
mod node_device;
mod output;
mod ownership;
mod privileges;
mod prometheus;
mod quotas;
mod refusals;
mod reports;
mod run_queue;
mod scopes;
mod server;
mod signals;
mod slots;
mod starving;
mod state_dir;
mod throttling;
mod told;
mod top;
mod translated;
mod uninterruptible;
mod web_page;
mod whois;
mod wire;

use libtest_mimic::Trial;

/// Every test. Where agents are handed on, the first one is of a test that needs one which nobody has asked, and who needs another kind
/// comes last: to start one takes half a minute there.
pub(crate) fn all() -> Vec<Trial> {
    let mut all = fixtures::tests();
    all.extend(load::tests());
    all.extend(wire::tests());
    all.extend(scopes::tests());
    all.extend(node_addresses::tests());
    all.extend(translated::tests());
    all.extend(flows::tests());
    all.extend(connections::tests());
    all.extend(elsewhere::tests());
    all.extend(dns::tests());
    all.extend(dns_names::tests());
    all.extend(reports::tests());
    all.extend(whois::tests());
    all.extend(ownership::tests());
    all.extend(run_queue::tests());
    all.extend(cpu::tests());
    all.extend(quotas::tests());
    all.extend(starving::tests());
    all.extend(mixes::tests());
    all.extend(culprits::tests());
    all.extend(throttling::tests());
    all.extend(told::tests());
    all.extend(memory::tests());
    all.extend(uninterruptible::tests());
    all.extend(lifetimes::tests());
    all.extend(budget::tests());
    all.extend(long_run::tests());
    all.extend(prometheus::tests());
    all.extend(output::tests());
    all.extend(names::tests());
    all.extend(history::tests());
    all.extend(state_dir::tests());
    all.extend(server::tests());
    all.extend(api::tests());
    all.extend(web_page::tests());
    all.extend(top::tests());
    all.extend(signals::tests());
    all.extend(endings::tests());
    all.extend(slots::tests());
    all.extend(refusals::tests());
    all.extend(privileges::tests());
    all
}
