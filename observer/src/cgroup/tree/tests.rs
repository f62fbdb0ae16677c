//! The tree by events and walks, on directories of a temporary file system.

use super::*;

fn tree() -> (tempfile::TempDir, Tree) {
    let root = tempfile::tempdir().unwrap();
    let tree = Tree::new(root.path().to_owned());
    (root, tree)
}

#[test]
fn a_walk_finds_every_directory_by_its_inode() {
    let (root, mut tree) = tree();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    tree.walk(1).unwrap();
    let id = fs::metadata(root.path().join("a/b")).unwrap().ino();
    assert_eq!(&*tree.get(id).unwrap().path, "/a/b");
    assert_eq!(tree.directory(tree.get(id).unwrap()), root.path().join("a/b"));
    assert_eq!(tree.live().count(), 3);
}

#[test]
fn a_removed_cgroup_keeps_its_name_for_two_minutes() {
    let (_root, mut tree) = tree();
    tree.made(7, b"/gone");
    tree.removed(7, 10);
    tree.forget(10 + KEEP_NS - 1);
    assert_eq!(tree.get(7).unwrap().gone_at_ns, Some(10));
    tree.forget(10 + KEEP_NS);
    assert_eq!(tree.get(7), None);
}

#[test]
fn a_walk_heals_lost_events_both_ways() {
    let (root, mut tree) = tree();
    fs::create_dir(root.path().join("lost")).unwrap();
    tree.walk(1).unwrap();
    // Made before the other goes: this file system, unlike the cgroups', uses an inode again.
    fs::create_dir(root.path().join("made")).unwrap();
    fs::remove_dir(root.path().join("lost")).unwrap();
    tree.made(u64::MAX, b"/never/there");
    tree.walk(2).unwrap();
    assert_eq!(tree.get(u64::MAX).unwrap().gone_at_ns, Some(2));
    assert!(tree.live().any(|(_, cgroup)| &*cgroup.path == "/made"));
    assert!(!tree.live().any(|(_, cgroup)| &*cgroup.path == "/lost"));
}

#[test]
fn children_are_the_living_cgroups_right_below() {
    let (_root, mut tree) = tree();
    for (id, path) in [(1, "/"), (2, "/a"), (3, "/a/b"), (4, "/a/c"), (5, "/d")] {
        tree.made(id, path.as_bytes());
    }
    assert_eq!(tree.children(1), [2, 5]);
    tree.removed(3, 1);
    assert_eq!(tree.children(2), [4]);
    tree.removed(4, 1);
    assert_eq!(tree.children(2), [0; 0]);
}

#[test]
fn two_names_never_read_alike() {
    let bytes = Cgroup::new(b"/a\xff", 0);
    let other = Cgroup::new(b"/a\\xff", 0);
    assert_ne!(bytes.path, other.path);
    assert!(bytes.path.starts_with("/a\\xff~"), "{}", bytes.path);
    let imitation = Cgroup::new(bytes.path.as_bytes(), 0);
    assert_ne!(bytes.path, imitation.path);
}

#[test]
fn children_of_a_name_that_is_no_text_are_found() {
    let (_root, mut tree) = tree();
    for (id, path) in [(1, &b"/"[..]), (2, b"/a\xff"), (3, b"/a\xff/b"), (4, b"/a\xff/c\xfe")] {
        tree.made(id, path);
    }
    assert_eq!((tree.children(1), tree.children(2)), (&[2][..], &[3, 4][..]));
}

#[test]
fn what_cannot_be_looked_into_is_told_and_its_cgroups_stay() {
    use std::os::unix::fs::PermissionsExt as _;
    let (root, mut tree) = tree();
    fs::create_dir_all(root.path().join("closed/below")).unwrap();
    fs::create_dir_all(root.path().join("open/below")).unwrap();
    tree.walk(1).unwrap();
    let closed = root.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let everything_is_readable = fs::read_dir(&closed).is_ok();
    let walked = tree.walk(2).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(tree.live().count(), 5, "none is gone");
    // Root reads what it likes.
    assert_eq!(walked.unreadable, usize::from(!everything_is_readable));
}

#[test]
fn what_cannot_be_looked_for_is_not_taken_for_gone() {
    // Not even root gets through a link to itself.
    let (root, mut tree) = tree();
    std::os::unix::fs::symlink("loop", root.path().join("loop")).unwrap();
    tree.made(u64::MAX, b"/loop/below");
    tree.made(u64::MAX - 1, b"/nothing/there");
    tree.walk(1).unwrap();
    assert_eq!((tree.is_live(u64::MAX), tree.is_live(u64::MAX - 1)), (true, false));
}

#[test]
fn a_walk_brings_back_what_was_thought_gone_and_mends_a_name() {
    let (root, mut tree) = tree();
    fs::create_dir(root.path().join("there")).unwrap();
    let id = fs::metadata(root.path().join("there")).unwrap().ino();
    tree.walk(1).unwrap();
    tree.removed(id, 2);
    tree.walk(3).unwrap();
    assert!(tree.is_live(id));
    tree.made(id, b"/the");
    tree.walk(4).unwrap();
    assert_eq!(&*tree.get(id).unwrap().path, "/there");
    let top = fs::metadata(root.path()).unwrap().ino();
    assert_eq!(tree.children(top), [id]);
}
