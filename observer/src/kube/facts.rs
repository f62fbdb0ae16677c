//! The order of pods on a page.

use crate::ledger::PodFacts;

impl PodFacts {
    /// By namespace, name and UID, so that a page is the same while nothing changes.
    pub(super) fn order(&self) -> (&str, &str, &str) {
        (&self.names.namespace, &self.names.pod, &self.uid)
    }
}
