//! The label sets of entities and workloads, `{node="…",cgroup="…"` with the brace left open: escaped once in a life.

use super::label::{MAX_VALUE_BYTES, push};
use crate::ledger::{Entity, EntityId, Identity, PodNames, Workload, WorkloadId, WorkloadKey, WorkloadNames};
use bytes::{BufMut, BytesMut};
use std::{collections::HashMap, fmt::Debug, hash::Hash, sync::Arc};

/// The `cgroup` of what belongs to nobody, and the `workload` of pods that nobody could name; a path begins with a slash, so
/// it is no cgroup's.
pub const UNATTRIBUTED: &str = "unattributed";
/// The `cgroup` of what is beyond the budget of series.
pub const OTHER: &str = "other";

/// What has a label set.
pub(super) trait Labelled {
    /// Never that of another.
    type Id: Copy + Debug + Eq + Hash;
    /// What the labels are made from.
    type Names: Clone + Debug + PartialEq;

    fn id(&self) -> Self::Id;
    fn names(&self) -> &Self::Names;
    /// Writes the labels that follow `node`, each with a comma before it.
    fn write(names: &Self::Names, out: &mut BytesMut);
}

/// The label sets of everything of a kind.
#[derive(Debug)]
pub(super) struct LabelSets<T: Labelled> {
    node_name: String,
    /// In the order of the snapshot.
    sets: Vec<Set<T>>,
}

#[derive(Debug)]
struct Set<T: Labelled> {
    id: T::Id,
    names: T::Names,
    text: Box<[u8]>,
}

impl<T: Labelled> Default for LabelSets<T> {
    fn default() -> Self {
        Self { node_name: String::new(), sets: Vec::new() }
    }
}

impl<T: Labelled> LabelSets<T> {
    /// Brings the label sets in line with a snapshot: forgets who left, writes who came or has another name.
    pub(super) fn align(&mut self, node_name: &str, all: &[T]) {
        if self.node_name != node_name {
            node_name.clone_into(&mut self.node_name);
            self.sets.clear();
        }
        let same = |(set, one): (&Set<T>, &T)| set.id == one.id() && set.names == *one.names();
        if self.sets.len() == all.len() && self.sets.iter().zip(all).all(same) {
            return;
        }
        let mut known: HashMap<T::Id, Set<T>> = self.sets.drain(..).map(|set| (set.id, set)).collect();
        self.sets.reserve_exact(all.len());
        self.sets.extend(all.iter().map(|one| match known.remove(&one.id()) {
            Some(set) if set.names == *one.names() => set,
            _ => Set::new(node_name, one),
        }));
    }

    /// The label set of each, in the order of the last [`Self::align`].
    pub(super) fn sets(&self) -> impl Iterator<Item = &[u8]> {
        self.sets.iter().map(|set| &*set.text)
    }
}

impl<T: Labelled> Set<T> {
    fn new(node_name: &str, one: &T) -> Self {
        let mut text = BytesMut::with_capacity(2 * MAX_VALUE_BYTES);
        text.put_u8(b'{');
        push(&mut text, "node", node_name);
        T::write(one.names(), &mut text);
        Self { id: one.id(), names: one.names().clone(), text: Box::from(&text[..]) }
    }
}

impl Labelled for Entity {
    type Id = EntityId;
    type Names = Identity;

    fn id(&self) -> EntityId {
        self.id
    }

    fn names(&self) -> &Identity {
        &self.identity
    }

    fn write(names: &Identity, out: &mut BytesMut) {
        match names {
            Identity::Unattributed => next(out, "cgroup", UNATTRIBUTED),
            Identity::Cgroup { path } => next(out, "cgroup", path),
            Identity::UnnamedPod { uid, container } => {
                next(out, "pod", uid);
                next_if(out, "container", container.as_ref());
            }
            Identity::Container { pod, container } => {
                let PodNames { namespace, pod, workload } = &**pod;
                next(out, "namespace", namespace);
                next(out, "pod", pod);
                next_if(out, "container", container.as_ref());
                write_workload(out, workload);
            }
            Identity::Other { namespace } => {
                next_if(out, "namespace", namespace.as_ref());
                next(out, "cgroup", OTHER);
            }
        }
    }
}

impl Labelled for Workload {
    type Id = WorkloadId;
    type Names = Option<WorkloadKey>;

    fn id(&self) -> WorkloadId {
        self.id
    }

    fn names(&self) -> &Option<WorkloadKey> {
        &self.names
    }

    fn write(names: &Option<WorkloadKey>, out: &mut BytesMut) {
        match names {
            None => next(out, "workload", UNATTRIBUTED),
            Some(WorkloadKey { namespace, workload }) => {
                next(out, "namespace", namespace);
                write_workload(out, workload);
            }
        }
    }
}

fn write_workload(out: &mut BytesMut, WorkloadNames { name, kind }: &WorkloadNames) {
    next(out, "workload", name);
    next(out, "workload_type", kind);
}

fn next(out: &mut BytesMut, name: &str, value: &str) {
    out.put_u8(b',');
    push(out, name, value);
}

/// A label that does not apply is left out.
fn next_if(out: &mut BytesMut, name: &str, value: Option<&Arc<str>>) {
    if let Some(value) = value {
        next(out, name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(identity: &Identity) -> String {
        let mut out = BytesMut::new();
        Entity::write(identity, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn labels_that_do_not_apply_are_left_out() {
        let workload = Arc::new(WorkloadNames { name: "web".into(), kind: "deployment".into() });
        let pod = Arc::new(PodNames { namespace: "shop".into(), pod: "web-1".into(), workload });
        let container = |container: Option<&str>| Identity::Container {
            pod: Arc::clone(&pod),
            container: container.map(Arc::from),
        };
        for (identity, expected) in [
            (Identity::Unattributed, r#",cgroup="unattributed""#),
            (Identity::Cgroup { path: "/a".into() }, r#",cgroup="/a""#),
            (Identity::UnnamedPod { uid: "u".into(), container: Some("c".into()) }, r#",pod="u",container="c""#),
            (
                container(Some("app")),
                r#",namespace="shop",pod="web-1",container="app",workload="web",workload_type="deployment""#,
            ),
            (container(None), r#",namespace="shop",pod="web-1",workload="web",workload_type="deployment""#),
            (Identity::Other { namespace: Some("shop".into()) }, r#",namespace="shop",cgroup="other""#),
            (Identity::Other { namespace: None }, r#",cgroup="other""#),
        ] {
            assert_eq!(text(&identity), expected);
        }
    }
}
