//! The text of the manifest: a header, the namespace, and what Helm renders without the labels that claim it for Helm.

/// The release, and its namespace.
pub(super) const NAME: &str = "observer";

const HEADER: &str = "\
# observer on every node of a cluster: kubectl apply -f deploy/observer.yaml
#
# Generated from deploy/chart with its default values by `cargo xtask deploy --render`, and compared by `cargo xtask test
# --level deploy`: change the chart, not this file. Whoever wants other values takes the chart (deploy/chart/README.md).
#
# Kubernetes 1.30 or later; before, `recursiveReadOnly` is unknown: use the chart, or apply with --validate=warn.
apiVersion: v1
kind: Namespace
metadata:
  name: observer
  labels:
    app.kubernetes.io/name: observer
    # The levels `baseline` and `restricted` allow neither hostPath nor capabilities such as BPF. docs/security.md tells what the
    # pod has of what `privileged` would allow.
    pod-security.kubernetes.io/enforce: privileged
";

/// Labels that say that Helm manages an object, and by which chart: of what kubectl applies they are not true.
const OF_HELM: [&str; 2] = ["app.kubernetes.io/managed-by:", "helm.sh/chart:"];

/// The manifest made of what `helm template` prints.
pub(super) fn manifest(rendered: &str) -> String {
    let of_helm = |line: &&str| OF_HELM.iter().any(|label| line.trim_start().starts_with(label));
    let lines = rendered.lines().filter(|line| !of_helm(line)).flat_map(|line| [line.trim_end(), "\n"]);
    HEADER.chars().chain(lines.flat_map(str::chars)).collect()
}

/// The first line in which two texts differ, for a reader.
pub(super) fn first_difference(written: &str, rendered: &str) -> Option<String> {
    if written == rendered {
        return None;
    }
    let (mut written, mut rendered, mut number) = (written.lines(), rendered.lines(), 0);
    loop {
        number += 1;
        let quoted =
            |line: Option<&str>| line.map_or_else(|| "its end".to_owned(), |line| format!("{:?}", line.trim()));
        match (written.next(), rendered.next()) {
            (None, None) => return Some("in the ends of lines".to_owned()),
            (old, new) if old != new => {
                return Some(format!("line {number} is {}, and should be {}", quoted(old), quoted(new)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_comes_first_and_nothing_claims_to_be_helms() {
        let rendered = "---\n# Source: x\nmetadata:\n  labels:\n    app.kubernetes.io/managed-by: Helm\n    a: b \n    helm.sh/chart: x-1\n";
        let manifest = manifest(rendered);
        let (header, objects) = manifest.split_once("---\n").unwrap();
        assert_eq!(header, HEADER);
        assert_eq!(objects, "# Source: x\nmetadata:\n  labels:\n    a: b\n");
        assert!(HEADER.contains(&format!("\n  name: {NAME}\n")));
    }

    #[test]
    fn a_difference_is_named_by_its_line() {
        let place = |written, rendered| first_difference(written, rendered).unwrap();
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(place("a\n  b\n", "a\nc\n"), "line 2 is \"b\", and should be \"c\"");
        assert_eq!(place("a\n", "a\nc\n"), "line 2 is its end, and should be \"c\"");
        assert_eq!(place("a\nb\n", "a\n"), "line 2 is \"b\", and should be its end");
        assert_eq!(place("a", "a\n"), "in the ends of lines");
    }
}
