//! From owners to workloads.

use super::server::{Mood, PATIENCE, TestServer, owner};
use crate::{
    kube::{Answer, Connection, Owner},
    ledger::WorkloadNames,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

fn of(api_version: &str, kind: &str, name: &str) -> (Arc<str>, Owner) {
    let uid = format!("uid-of-{name}").into();
    ("shop".into(), Owner { api_version: api_version.into(), kind: kind.into(), name: name.into(), uid })
}

async fn next(connection: &mut Connection) -> Answer {
    timeout(PATIENCE, connection.owners.next()).await.expect("an answer")
}

fn workload(kind: &str, name: &str) -> WorkloadNames {
    WorkloadNames { kind: kind.into(), name: name.into() }
}

#[tokio::test]
async fn a_replica_set_stands_for_its_deployment_and_a_job_for_its_cron_job() {
    let server = TestServer::start().await;
    let meta = |name: &str, owners| json!({"metadata": {"name": name, "uid": format!("uid-of-{name}"), "ownerReferences": owners}});
    let (sets, jobs) = ("/apis/apps/v1/namespaces/shop/replicasets", "/apis/batch/v1/namespaces/shop/jobs");
    server.put_object(&format!("{sets}/web-1"), meta("web-1", owner("apps/v1", "Deployment", "web")));
    server.put_object(&format!("{sets}/canary-1"), meta("canary-1", owner("argoproj.io/v1", "Rollout", "canary")));
    server.put_object(&format!("{sets}/bare"), meta("bare", json!([])));
    server.put_object(&format!("{jobs}/tick-1"), meta("tick-1", owner("batch/v1", "CronJob", "tick")));
    server.put_object(&format!("{jobs}/once"), meta("once", json!([])));
    let mut connection = server.connect().await;
    for (asked, expected) in [
        (of("apps/v1", "ReplicaSet", "web-1"), workload("deployment", "web")),
        (of("apps/v1", "ReplicaSet", "canary-1"), workload("rollout", "canary")),
        (of("apps/v1", "ReplicaSet", "bare"), workload("replicaset", "bare")),
        (of("batch/v1", "Job", "tick-1"), workload("cronjob", "tick")),
        (of("batch/v1", "Job", "once"), workload("job", "once")),
        // Gone already.
        (of("batch/v1", "Job", "deleted"), workload("job", "deleted")),
    ] {
        connection.owners.ask(vec![asked.clone(), asked.clone()]);
        let answer = next(&mut connection).await;
        assert_eq!((&answer.owner, &answer.workload, answer.forbidden), (&asked.1.uid, &expected, false));
    }
    assert_eq!(server.asked().len(), 6, "one question each");
}

#[tokio::test]
async fn another_object_of_the_same_name_is_not_the_owner() {
    let server = TestServer::start().await;
    let other =
        json!({"metadata": {"name": "tick", "uid": "another", "ownerReferences": owner("batch/v1", "CronJob", "x")}});
    server.put_object("/apis/batch/v1/namespaces/shop/jobs/tick", other);
    let mut connection = server.connect().await;
    connection.owners.ask(vec![of("batch/v1", "Job", "tick")]);
    assert_eq!(next(&mut connection).await.workload, workload("job", "tick"));
}

#[tokio::test]
async fn a_missing_permission_is_told_and_the_owner_itself_counts() {
    let server = TestServer::start().await;
    server.forbid("/apis/batch");
    let mut connection = server.connect().await;
    connection.owners.ask(vec![of("batch/v1", "Job", "tick-1")]);
    let answer = next(&mut connection).await;
    assert_eq!(answer.workload, workload("job", "tick-1"));
    assert!(answer.forbidden && answer.resource == "jobs");
}

#[tokio::test]
async fn a_server_that_is_down_for_a_moment_is_asked_again() {
    let server = TestServer::start().await;
    let meta = json!({"metadata": {"name": "web-1", "uid": "uid-of-web-1", "ownerReferences": owner("apps/v1", "Deployment", "web")}});
    server.put_object("/apis/apps/v1/namespaces/shop/replicasets/web-1", meta);
    server.become_(Mood::Refusing(503));
    let mut connection = server.connect().await;
    connection.owners.ask(vec![of("apps/v1", "ReplicaSet", "web-1")]);
    assert!(timeout(Duration::from_millis(300), connection.owners.next()).await.is_err(), "no answer yet");
    server.become_(Mood::Fine);
    assert_eq!(next(&mut connection).await.workload, workload("deployment", "web"));
}
