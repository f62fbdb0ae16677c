//! Against the running kernel, with bpftool as the independent reader.

use super::{super::*, ask_everything};
use proptest::prelude::*;
use serde_json::Value;
use std::process::Command;

/// The running kernel's blob, unless it has none.
fn running_kernel() -> Option<Vec<u8>> {
    let blob = read(Path::new(VMLINUX));
    blob.inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

#[test]
fn a_broken_real_blob_never_panics() {
    let Some(blob) = running_kernel() else { return };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let changes = prop::collection::vec((0..blob.len(), any::<u8>()), 0..2000);
    let cases = (changes, 0..blob.len(), any::<bool>());
    let outcome = runner.run(&cases, |(changes, cut, truncate)| {
        let mut broken = blob.clone();
        for (at, byte) in changes {
            broken[at] = byte;
        }
        broken.truncate(if truncate { cut } else { blob.len() });
        ask_everything(&broken);
        Ok(())
    });
    outcome.unwrap();
}

/// What bpftool reads from the running kernel: every type, by id - 1.
fn bpftool() -> Option<Vec<Value>> {
    let output = Command::new("bpftool").args(["-j", "btf", "dump", "file", VMLINUX, "format", "raw"]).output();
    match output {
        Ok(output) if output.status.success() => {
            let mut dump: Value = serde_json::from_slice(&output.stdout).unwrap();
            Some(std::mem::take(dump["types"].as_array_mut().unwrap()))
        }
        other => {
            eprintln!("skipped: bpftool, the independent reader, does not run here: {other:?}");
            None
        }
    }
}

#[test]
fn every_named_member_of_the_running_kernel_is_where_bpftool_sees_it() {
    let (Some(blob), Some(types)) = (running_kernel(), bpftool()) else { return };
    let btf = Btf::parse(&blob).unwrap();
    let mut compared = 0;
    for record in
        ["task_struct", "sched_info", "sched_entity", "cfs_rq", "rq", "css_set", "cgroup", "kernfs_node", "cgroup_root"]
    {
        let named: Vec<&Value> =
            types.iter().filter(|t| t["name"] == record && (t["kind"] == "STRUCT" || t["kind"] == "UNION")).collect();
        assert_eq!(named.len(), 1, "{record}");
        for member in named[0]["members"].as_array().unwrap() {
            let name = member["name"].as_str().unwrap();
            if name == "(anon)" {
                continue;
            }
            let offset = member["bits_offset"].as_u64().unwrap() as u32;
            let width = member.get("bitfield_size").and_then(Value::as_u64).unwrap_or(0) as u32;
            let field = btf.field(record, name).unwrap();
            assert_eq!(field.byte_offset, offset / 8, "{record}.{name}");
            assert_eq!(field.bit_offset_in_byte, (width != 0).then_some((offset % 8) as u8), "{record}.{name}");
            assert!(width == 0 || field.bit_size == width, "{record}.{name}");
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared}");
    let prototype = |id: &Value| &types[id.as_u64().unwrap() as usize - 1];
    let hook = types.iter().find(|t| t["name"] == "btf_trace_sched_switch").unwrap();
    let parameters = prototype(&prototype(&hook["type_id"])["type_id"])["params"].as_array().unwrap().len();
    assert_eq!(btf.function_prototype_parameters("btf_trace_sched_switch"), Some(parameters));
    assert_eq!(btf.typedef_id("btf_trace_sched_switch").map(u64::from), hook["id"].as_u64());
}

#[test]
fn paths_of_the_running_kernel_add_up() {
    let Some(blob) = running_kernel() else { return };
    let btf = Btf::parse(&blob).unwrap();
    let whole = btf.field("task_struct", "sched_info.last_queued").unwrap();
    let outer = btf.field("task_struct", "sched_info").unwrap();
    let inner = btf.field("sched_info", "last_queued").unwrap();
    assert_eq!(whole.byte_offset, outer.byte_offset + inner.byte_offset);
    assert_eq!(whole.bit_size, 64);
    let loaded = btf.field("task_struct", "sched_contributes_to_load").unwrap();
    assert_eq!((loaded.bit_size, loaded.bit_offset_in_byte.is_some()), (1, true));
    assert!(matches!(btf.field("task_struct", "cgroups.dfl_cgrp"), Err(BtfError::NotEmbedded { .. })));
}

/// Not a judgement, a figure: `cargo test --release -- --ignored --nocapture reading_takes`.
#[test]
#[ignore = "prints a duration"]
fn reading_takes() {
    let Some(blob) = running_kernel() else { return };
    let start = std::time::Instant::now();
    let btf = Btf::parse(&blob).unwrap();
    let parsed = start.elapsed();
    for path in ["sched_info.last_queued", "se.cfs_rq", "cgroups", "pid", "sched_contributes_to_load"] {
        btf.field("task_struct", path).unwrap();
    }
    let [rq, kn, nothing] = [btf.has_record("rq"), btf.has_record("kernfs_node"), btf.has_record("nothing")];
    eprintln!("{} types in {parsed:?}, with eight look-ups {:?} {rq}{kn}{nothing}", btf.starts.len(), start.elapsed());
}
