//! What only the start needed is given back: it took tens of megabytes of heap and half of the binary's pages, and an agent
//! runs for months.

use std::ptr;

/// A block of this many bytes or more is mapped on its own, and gone when it is freed; so is what is free at the heap's end.
/// These are the allocator's own defaults. Left to itself it raises both after the large blocks of the start, and every page
/// that is rendered then leaves a hole in the heap: a megabyte with 250 pods.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 128 * 1024;

/// Sets up the allocator for a process that lives long and small. To be called before anything large is allocated: what
/// outlives the start then stands close together.
pub fn tame_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions; the allocator locks itself.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
        // One heap for all: the few threads that there ever are (name resolution, the summary's printer) run for a moment.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives heap memory that is free back to the system.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions; the allocator locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes pages that nobody writes to, code and constants, out of this process. Nothing is lost: they are in the page cache, as
/// the file that they are, and each that is used again is mapped again, without a read. Those that only the start used (the
/// command line, the loader of the programs, relocations) are not.
pub fn release_code_of_start() {
    // SAFETY: the callback reads what it is handed, and does not outlive the call.
    unsafe { libc::dl_iterate_phdr(Some(release_file), ptr::null_mut()) };
}

/// Called for the binary and for each library.
unsafe extern "C" fn release_file(
    file: *mut libc::dl_phdr_info,
    _bytes: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader hands out a valid description that has `dlpi_phnum` headers.
    let (base, headers) = unsafe {
        let file = &*file;
        (file.dlpi_addr as usize, std::slice::from_raw_parts(file.dlpi_phdr, file.dlpi_phnum.into()))
    };
    let Some(dynamic) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else { return 0 };
    // SAFETY: the section is where its header says, made of pairs of a tag and a value, and stays as it is.
    let dynamic = unsafe {
        std::slice::from_raw_parts(
            (base + dynamic.p_vaddr as usize) as *const [usize; 2],
            dynamic.p_memsz as usize / size_of::<[usize; 2]>(),
        )
    };
    if !relocates_code(dynamic) {
        let constant = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
        for header in headers.iter().filter(constant) {
            release(base + header.p_vaddr as usize, header.p_memsz as usize);
        }
    }
    0
}

/// Whether the loader wrote to code of a file with this dynamic section: its pages would then be more than the file.
fn relocates_code(dynamic: &[[usize; 2]]) -> bool {
    const DT_NULL: usize = 0;
    const DT_TEXTREL: usize = 22;
    const DT_FLAGS: usize = 30;
    const DF_TEXTREL: usize = 4;
    let mut entries = dynamic.iter().take_while(|[tag, _]| *tag != DT_NULL);
    entries.any(|[tag, value]| *tag == DT_TEXTREL || (*tag == DT_FLAGS && value & DF_TEXTREL != 0))
}

/// The whole pages of a range that holds what a file holds.
fn release(start: usize, bytes: usize) {
    // SAFETY: has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Some(page) = usize::try_from(page).ok().filter(|page| page.is_power_of_two()) else { return };
    let (first, end) = (start.next_multiple_of(page), (start + bytes) / page * page);
    if first < end {
        // SAFETY: the range is part of a private mapping of a file that was never written to; a page that is touched again
        // comes from the file. A refusal (locked memory) leaves all as it is.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Constants that no test touches, several pages of them.
    static CONSTANTS: [u64; 4096] = {
        let mut words = [0; 4096];
        let mut at = 0;
        while at < words.len() {
            words[at] = at as u64 * 0x9e37_79b9;
            at += 1;
        }
        words
    };

    fn is_right() -> bool {
        (0u64..).zip(&CONSTANTS).all(|(at, word)| *std::hint::black_box(word) == at * 0x9e37_79b9)
    }

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn code_and_constants_are_there_after_they_were_released_and_fewer_pages_are() {
        assert!(is_right());
        let before = resident_kib();
        release_code_of_start();
        let after = resident_kib();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert!(is_right());
    }

    #[test]
    fn a_file_whose_code_was_relocated_is_left_alone() {
        assert!(relocates_code(&[[1, 7], [22, 0], [0, 0]]));
        assert!(relocates_code(&[[30, 4 | 8]]));
        assert!(!relocates_code(&[[30, 8], [1, 7], [0, 0], [22, 0]]));
    }
}
