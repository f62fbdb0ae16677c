//! What runs in the tests' pods: the images that a cluster starts with, and the programs that go with them, built from the
//! crate of the cluster's tests.

use super::layout::{IMAGE_TAG, Layout, PAUSE_IMAGE, TEST_IMAGE};
use crate::{
    driven,
    image::{self, Image, Layer, Target},
    setup::static_busybox,
    toolchain::probe::said,
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{fs, path::Path, process::Command};

/// The program that a kubelet holds a pod together with.
const PAUSE: &str = "pause";
/// The program by which the tests' pods send known amounts.
const TALK: &str = "talk";
/// The program that stands before runc where limits cannot be set.
const RUNC: &str = "runc-without-limits";

/// Builds the programs and writes the images.
///
/// # Errors
/// When a build fails or there is no static busybox.
pub(super) fn build(workspace: &Workspace) -> Result<()> {
    let layout = Layout::of(workspace);
    let binaries = driven::build(workspace)?;
    fs::create_dir_all(layout.program("")).context("make target/cluster/bin")?;
    for program in [RUNC, driven::CLUSTER] {
        install(&binaries.join(program), &layout.program(program))?;
    }
    let mut pause = Layer::default();
    pause.file(PAUSE, 0o755, read(&binaries.join(PAUSE))?);
    write(workspace, &image(PAUSE_IMAGE, &["/pause"], pause), "pause")?;
    let busybox = static_busybox(workspace).context("no static busybox here (Debian: busybox-static)")?;
    write(workspace, &image(TEST_IMAGE, &[], test_layer(&busybox, &binaries.join(TALK))?), "test")
}

/// A system of busybox, and the program that sends known amounts.
fn test_layer(busybox: &Path, talk: &Path) -> Result<Layer> {
    let applets = said(Command::new(busybox).arg("--list")).context("busybox does not say what it can do")?;
    let mut layer = Layer::default();
    layer.file("bin/busybox", 0o755, read(busybox)?);
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox");
    }
    layer.file(&format!("bin/{TALK}"), 0o755, read(talk)?);
    layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n".to_vec());
    layer.directory("root", 0o700);
    layer.directory("tmp", 0o1777);
    Ok(layer)
}

fn image(name: &str, entry_point: &[&str], layer: Layer) -> Image {
    Image {
        name: name.into(),
        tag: IMAGE_TAG.into(),
        architecture: Target::of_this_machine().architecture(),
        user: "0:0",
        entry_point: entry_point.iter().map(ToString::to_string).collect(),
        command: Vec::new(),
        created: 0,
        created_text: "1970-01-01T00:00:00Z".into(),
        labels: Vec::new(),
        layer,
    }
}

fn write(workspace: &Workspace, image: &Image, file: &str) -> Result<()> {
    image::write(workspace, image, &format!("cluster/images/{file}.tar")).map(drop)
}

/// In one step: the program may be running.
fn install(from: &Path, to: &Path) -> Result<()> {
    let draft = to.with_extension("draft");
    fs::copy(from, &draft).with_context(|| format!("copy {}", from.display()))?;
    fs::rename(&draft, to).with_context(|| format!("write {}", to.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
