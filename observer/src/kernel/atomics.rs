//! Atomic instructions that tell what was there before, for kernels that do not know them: plain additions are made of them. And where none
//! are needed.

use super::{release, sys};
use object::{Object as _, ObjectSection as _, SectionKind};
use std::borrow::Cow;

/// The first kernel that knows them, and whose translator for this processor does.
const SINCE: release::Version = if cfg!(target_arch = "aarch64") { (5, 18) } else { (5, 12) };

/// Whether the kernel that runs here knows them. Nobody knows of one that does not say which it is: then it is taken not to.
pub(super) fn fetch_here() -> bool {
    release::version(&release::running()).is_some_and(|version| version >= SINCE)
}

/// The first CPU on which nothing else adds to what is received there while a program does. With real-time preemption there is none, since
/// softirqs are preempted then. A CPU that is plugged in later has no books of its own and uses those of the first.
pub(super) fn alone_from(cpus: u32) -> u64 {
    if release::is_realtime(&release::build()) {
        return u32::MAX.into();
    }
    let is_all = sys::possible_cpus().is_ok_and(|possible| possible == cpus);
    u64::from(!is_all)
}

/// The object for a kernel that knows them, or for one that does not. Even instructions that are never reached are read by the kernel.
pub(super) fn object(bytes: &[u8], fetches: bool) -> Result<Cow<'_, [u8]>, object::Error> {
    if fetches {
        return Ok(Cow::Borrowed(bytes));
    }
    let file = object::File::parse(bytes)?;
    let programs = file.sections().filter(|section| section.kind() == SectionKind::Text);
    let places: Vec<_> = programs.filter_map(|section| section.file_range()).collect();
    let mut plain = bytes.to_vec();
    for (from, length) in places {
        let instructions = usize::try_from(from).ok().zip(usize::try_from(from + length).ok());
        if let Some(instructions) = instructions.and_then(|(from, to)| plain.get_mut(from..to)) {
            make_plain(instructions);
        }
    }
    Ok(Cow::Owned(plain))
}

/// Instructions as the kernel's `bpf.h` has them: eight bytes, of which the first is the operation and the last four its constant.
fn make_plain(instructions: &mut [u8]) {
    const BYTES: usize = 8;
    const LOAD_OF_TWO: u8 = 0x18;
    const ATOMIC_OF_4: u8 = 0xc3;
    const ATOMIC_OF_8: u8 = 0xdb;
    const ADD_AND_FETCH: [u8; 4] = [1, 0, 0, 0];
    const EXCHANGE: [u8; 4] = [0xe1, 0, 0, 0];
    let mut is_second = false;
    for instruction in instructions.chunks_exact_mut(BYTES) {
        let is_atomic = !is_second && matches!(instruction[0], ATOMIC_OF_4 | ATOMIC_OF_8);
        if is_atomic && (instruction[4..] == ADD_AND_FETCH || instruction[4..] == EXCHANGE) {
            instruction[4] = 0;
        }
        is_second = !is_second && instruction[0] == LOAD_OF_TWO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::object::OBJECT;

    const FETCH: [u8; 8] = [0xdb, 0x12, 8, 0, 1, 0, 0, 0];

    #[test]
    fn what_fetches_becomes_a_plain_addition_and_nothing_else_changes() {
        let load = [0x18, 1, 0, 0, 9, 9, 9, 9];
        let (exchange, comparing) = ([0xdb, 0x12, 8, 0, 0xe1, 0, 0, 0], [0xdb, 0x12, 8, 0, 0xf1, 0, 0, 0]);
        let mut program = [FETCH, load, FETCH, comparing, exchange].concat();
        make_plain(&mut program);
        let plain = [0xdb, 0x12, 8, 0, 0, 0, 0, 0];
        assert_eq!(program, [plain, load, FETCH, comparing, plain].concat(), "the second half of a load is a number");
    }

    #[test]
    fn the_object_has_some_and_loses_them_all() {
        if OBJECT.is_empty() {
            return;
        }
        let plain = object(OBJECT, false).unwrap();
        let differ: Vec<_> = (0..OBJECT.len()).filter(|at| OBJECT[*at] != plain[*at]).collect();
        assert!(!differ.is_empty() && plain.len() == OBJECT.len());
        assert!(differ.iter().all(|at| [1, 0xe1].contains(&OBJECT[*at]) && plain[*at] == 0), "{differ:?}");
        assert_eq!(object(&plain, false).unwrap(), plain, "there are none left");
        assert_eq!(
            object(OBJECT, true).unwrap().as_ptr(),
            OBJECT.as_ptr(),
            "where the kernel knows them, nothing is done"
        );
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(object(b"no object at all", false).is_err());
    }
}
