//! A task that holds as much memory as it is told to.

use super::{converse, not_understood};
use anyhow::Result;
use std::hint::black_box;

/// Understands `hold MIB`, every page of it written to; what was held before is given back.
pub(super) fn hold() -> Result<()> {
    let mut held = Vec::new();
    converse("ready", |words| match words {
        ["hold", mib] => {
            held = Vec::new();
            black_box(&held);
            held = vec![1_u8; mib.parse::<usize>()? << 20];
            black_box(&held);
            Ok("held".into())
        }
        other => not_understood(other),
    })
}
