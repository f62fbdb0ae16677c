//! Objects as an API server takes them: YAML documents, each in the type of its kind, with no field that the type does not know.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Container, Namespace, PodSpec, ResourceQuota, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// What a manifest or a rendered chart consists of.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) accounts: Vec<ServiceAccount>,
    pub(crate) roles: Vec<ClusterRole>,
    pub(crate) bindings: Vec<ClusterRoleBinding>,
    pub(crate) services: Vec<Service>,
    pub(crate) daemon_sets: Vec<DaemonSet>,
    pub(crate) pod_monitors: Vec<PodMonitor>,
    pub(crate) prometheus_rules: Vec<PrometheusRule>,
    pub(crate) config_maps: Vec<ConfigMap>,
    /// Kind and namespace of each object that has one.
    pub(crate) namespaced: Vec<(String, String)>,
}

impl Objects {
    /// Reads YAML documents.
    ///
    /// # Errors
    /// When one is no object, of a kind that nobody deploys here, or has a field that its kind does not know.
    pub(crate) fn read(yaml: &str) -> Result<Self> {
        let mut objects = Self::default();
        for document in documents(yaml)? {
            let kind = document["kind"].as_str().context("a document has no kind")?.to_owned();
            let version = document["apiVersion"].as_str().context("a document has no apiVersion")?.to_owned();
            if let Some(namespace) = document["metadata"]["namespace"].as_str() {
                objects.namespaced.push((kind.clone(), namespace.to_owned()));
            }
            objects.add(&version, &kind, document).with_context(|| format!("{kind} of {version}"))?;
        }
        Ok(objects)
    }

    fn add(&mut self, version: &str, kind: &str, document: Value) -> Result<()> {
        match (version, kind) {
            ("v1", "Namespace") => self.namespaces.push(strict(document)?),
            ("v1", "ServiceAccount") => self.accounts.push(strict(document)?),
            ("v1", "ConfigMap") => self.config_maps.push(strict(document)?),
            ("v1", "Service") => self.services.push(strict(document)?),
            ("rbac.authorization.k8s.io/v1", "ClusterRole") => self.roles.push(strict(document)?),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => self.bindings.push(strict(document)?),
            ("apps/v1", "DaemonSet") => self.daemon_sets.push(strict(document)?),
            ("monitoring.coreos.com/v1", "PodMonitor") => self.pod_monitors.push(strict(document)?),
            ("monitoring.coreos.com/v1", "PrometheusRule") => self.prometheus_rules.push(strict(document)?),
            // Examples of the documents.
            ("networking.k8s.io/v1", "NetworkPolicy") => drop(strict::<NetworkPolicy>(document)?),
            ("v1", "ResourceQuota") => drop(strict::<ResourceQuota>(document)?),
            _ => bail!("nobody deploys such an object here"),
        }
        Ok(())
    }

    /// The one DaemonSet.
    ///
    /// # Errors
    /// When there is another number of them.
    pub(crate) fn daemon_set(&self) -> Result<&DaemonSet> {
        let [daemon_set] = &*self.daemon_sets else { bail!("{} DaemonSets", self.daemon_sets.len()) };
        Ok(daemon_set)
    }

    /// What its pods are.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn pod(&self) -> Result<&PodSpec> {
        let template = &self.daemon_set()?.spec.as_ref().context("the DaemonSet has no spec")?.template;
        template.spec.as_ref().context("the pods have no spec")
    }

    /// The one container of a pod.
    ///
    /// # Errors
    /// When there is another number of them.
    pub(crate) fn container(&self) -> Result<&Container> {
        let pod = self.pod()?;
        ensure!(pod.init_containers.is_none() && pod.ephemeral_containers.is_none(), "more than plain containers");
        let [container] = &*pod.containers else { bail!("{} containers", pod.containers.len()) };
        Ok(container)
    }
}

/// The documents of a YAML text, without empty ones.
///
/// # Errors
/// When it is not YAML, or a key is there twice.
pub(crate) fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_str_multiple(yaml)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Reads an object into its type, and refuses fields that it does not know, as `kubectl apply` does.
fn strict<T: DeserializeOwned>(document: Value) -> Result<T> {
    let mut unknown = Vec::new();
    let object = serde_ignored::deserialize(document, |path| unknown.push(path.to_string()))?;
    ensure!(unknown.is_empty(), "unknown fields: {}", unknown.join(", "));
    Ok(object)
}

/// A `PodMonitor` of the Prometheus operator, as far as the chart makes use of it: fields of `monitoring.coreos.com/v1`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PodMonitor {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(crate) metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    pub(crate) spec: PodMonitorSpec,
}

/// A `PrometheusRule` of the Prometheus operator. Its groups are those of Prometheus, which promtool reads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PrometheusRule {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(crate) metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    pub(crate) spec: Value,
}

/// What is scraped.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PodMonitorSpec {
    pub(crate) selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    pub(crate) pod_metrics_endpoints: Vec<Endpoint>,
}

/// Where and how.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Endpoint {
    pub(crate) port: String,
    pub(crate) path: String,
    pub(crate) interval: String,
    pub(crate) scrape_timeout: String,
    pub(crate) honor_labels: bool,
    pub(crate) relabelings: Vec<Relabeling>,
    #[serde(default)]
    pub(crate) metric_relabelings: Vec<Relabeling>,
}

/// A rule for labels.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Relabeling {
    pub(crate) action: String,
    pub(crate) regex: String,
    pub(crate) source_labels: Vec<String>,
    pub(crate) target_label: String,
    pub(crate) replacement: String,
}

/// The keys of an object, one below the other: `agent.port`. Objects without keys are leaves.
pub(crate) fn leaves(object: &Map<String, Value>) -> Vec<String> {
    object
        .iter()
        .flat_map(|(key, value)| match value.as_object() {
            Some(below) if !below.is_empty() => leaves(below).iter().map(|leaf| format!("{key}.{leaf}")).collect(),
            _ => vec![key.clone()],
        })
        .collect()
}
