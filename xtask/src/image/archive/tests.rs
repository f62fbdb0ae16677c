use super::*;
use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

fn image() -> Image {
    let mut layer = Layer::default();
    layer.file("observer", 0o755, b"a program".repeat(1000));
    layer.file("etc/passwd", 0o644, b"nobody:x:65534:65534:nobody:/:/observer\n".to_vec());
    Image {
        name: "localhost/observer".into(),
        tag: "0.1.0".into(),
        architecture: "amd64",
        user: "65534:65534",
        entry_point: vec!["/observer".into()],
        command: vec!["agent".into()],
        created: 1_767_225_600,
        created_text: "2026-01-01T00:00:00Z".into(),
        labels: vec![("org.opencontainers.image.title", "observer".into())],
        layer,
    }
}

/// What the tar of this machine makes of an archive: files by their paths.
fn unpacked(bytes: &[u8], into: &Path) {
    let archive = into.with_extension("tar");
    fs::write(&archive, bytes).unwrap();
    fs::create_dir(into).unwrap();
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(into).stdin(Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The digest by another program.
fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let (one, other) = (image().archive().unwrap(), image().archive().unwrap());
    assert_eq!(digest(&one.bytes), digest(&other.bytes));
    assert_eq!(one, other);
}

#[test]
fn another_byte_gives_another_digest() {
    let mut changed = image();
    changed.layer.file("observer", 0o755, b"another program".to_vec());
    assert_ne!(changed.archive().unwrap().digest, image().archive().unwrap().digest);
}

#[test]
fn the_layout_leads_from_the_index_to_every_blob() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("image");
    let archive = image().archive().unwrap();
    unpacked(&archive.bytes, &root);
    assert_eq!(document(&root.join("oci-layout")), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = document(&root.join("index.json"));
    let descriptor = &index["manifests"][0];
    assert_eq!(descriptor["digest"], archive.digest);
    assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "localhost/observer:0.1.0");
    assert_eq!(descriptor["annotations"]["org.opencontainers.image.ref.name"], "0.1.0");
    let blob = |descriptor: &Value| {
        let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = root.join("blobs/sha256").join(hex);
        assert_eq!(sha256sum(&path), hex);
        assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
        path
    };
    let manifest = document(&blob(descriptor));
    let config = document(&blob(&manifest["config"]));
    let layer = blob(&manifest["layers"][0]);
    assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256sum(&layer))]));
    assert_eq!(config["config"]["Entrypoint"], json!(["/observer"]));
    assert_eq!(config["config"]["Cmd"], json!(["agent"]));
    assert_eq!(config["config"]["User"], "65534:65534");
    assert_eq!(fs::read_dir(root.join("blobs/sha256")).unwrap().count(), 3, "and there is no other");
}

#[test]
fn what_docker_reads_leads_to_the_same_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("image");
    unpacked(&image().archive().unwrap().bytes, &root);
    let docker = document(&root.join("manifest.json"));
    assert_eq!(docker[0]["RepoTags"], json!(["localhost/observer:0.1.0"]));
    let config = document(&root.join(docker[0]["Config"].as_str().unwrap()));
    let layer = root.join(docker[0]["Layers"][0].as_str().unwrap());
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256sum(&layer)));
}

#[test]
fn the_layer_holds_the_files_as_they_were_given() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("layer");
    let mut layer = image().layer;
    layer.link("bin/sh", "busybox");
    layer.file(&format!("{}/file", "long".repeat(40)), 0o600, b"x".to_vec());
    unpacked(&layer.tar(1_767_225_600).unwrap(), &root);
    assert_eq!(fs::read(root.join("observer")).unwrap(), b"a program".repeat(1000));
    assert_eq!(fs::read_link(root.join("bin/sh")).unwrap(), Path::new("busybox"));
    assert_eq!(fs::read(root.join("long".repeat(40)).join("file")).unwrap(), b"x");
    let listing = Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(root.with_extension("tar")).output();
    let listing = String::from_utf8(listing.unwrap().stdout).unwrap();
    let owners: HashMap<_, _> = listing.lines().map(|line| (line, line.split_whitespace().nth(1))).collect();
    assert!(owners.values().all(|owner| *owner == Some("0/0")), "{listing}");
}
