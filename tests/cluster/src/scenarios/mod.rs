//! The tests, one file per subject.

mod account;
mod agent;
mod books;
mod cgroups;
mod chart;
mod churn;
mod elsewhere;
mod explain;
mod far_ends;
mod load;
mod outages;
mod parts;
mod prometheus;
pub(crate) mod reconciliation;
mod resources;
mod services;
mod top;
mod web_page;

use libtest_mimic::Trial;

/// Every test.
pub(crate) fn all() -> Vec<Trial> {
    let mut all = parts::tests();
    all.extend(cgroups::tests());
    all.extend(services::tests());
    all.extend(agent::tests());
    all.extend(books::tests());
    all.extend(resources::tests());
    all.extend(far_ends::tests());
    all.extend(reconciliation::tests());
    all.extend(churn::tests());
    all.extend(account::tests());
    all.extend(load::tests());
    all.extend(chart::tests());
    all.extend(prometheus::tests());
    all.extend(web_page::tests());
    all.extend(top::tests());
    all.extend(explain::tests());
    all.extend(outages::tests());
    all
}
