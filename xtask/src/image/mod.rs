//! `cargo xtask image`: an OCI image of the agent, written without a container engine. The same commit gives the same
//! digest, wherever and whenever it is built.

mod archive;
mod commit;
mod layer;
mod target;

pub(crate) use archive::{Image, digest};
pub(crate) use commit::Commit;
pub(crate) use layer::{Capabilities, Layer};
pub(crate) use target::Target;

use crate::{
    build, driven,
    toolchain::Pair,
    workspace::{Profile, Workspace},
};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf};

/// The image's name; its tag is the version.
pub(crate) const NAME: &str = "localhost/observer";

/// The users that the image knows: the one that the agent is.
const PASSWD: &str = "nobody:x:65534:65534:nobody:/:/observer\n";
/// That user and its group, by number: a kubelet cannot tell by a name that it is not root.
const USER: &str = "65534:65534";
/// `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`. A pod that is not root gets none by its manifest, which only bounds what a
/// program brings.
const CAPABILITIES: Capabilities = Capabilities::of(&[12, 38, 39]);

/// What `cargo xtask image` takes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// The machines that it is for. Another kind than this one needs a cross compiler.
    #[arg(long, value_enum, value_name = "TRIPLE", default_value_t = Target::of_this_machine())]
    target: Target,
}

/// An image that was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The archive.
    pub(crate) path: PathBuf,
    /// Its size in bytes.
    pub(crate) size: usize,
    /// The digest of its manifest.
    pub(crate) digest: String,
}

/// Builds the agent and its image, and says where it is, how large, and its digest.
///
/// # Errors
/// When the agent does not build, or the image cannot be written.
pub(crate) fn run(workspace: &Workspace, pair: &Pair, args: ImageArgs) -> Result<()> {
    let Written { path, size, digest } = of_agent(workspace, pair, args.target, Profile::Release)?;
    println!("image: {NAME}:{}, linux/{}", env!("CARGO_PKG_VERSION"), args.target.architecture());
    println!("  file    {}", path.display());
    println!("  size    {:.1} MB", size as f64 / 1e6);
    println!("  digest  {digest}");
    println!("  load    ctr images import FILE | docker load -i FILE | kind load image-archive FILE");
    Ok(())
}

/// Builds the agent and its image: one layer with the program and the names of its users, nothing else. That of the tests' profile, which
/// takes half as long to build, has a file of its own.
///
/// # Errors
/// When the agent does not build, or the image cannot be written.
pub(crate) fn of_agent(workspace: &Workspace, pair: &Pair, target: Target, profile: Profile) -> Result<Written> {
    build::embedded(workspace, pair, build::PROGRAMS)?;
    let binaries = if (target, profile) == (Target::of_this_machine(), Profile::TestRelease) {
        driven::build(workspace)?
    } else {
        target.build(workspace, Some(pair), profile, &["observer"])?
    };
    let binary = binaries.join("observer");
    let mut layer = Layer::default();
    let program = fs::read(&binary).with_context(|| format!("read {}", binary.display()))?;
    layer.program("observer", program, CAPABILITIES);
    layer.file("etc/passwd", 0o644, PASSWD.into());
    let commit = Commit::of(workspace)?;
    let image = Image {
        name: NAME.into(),
        tag: env!("CARGO_PKG_VERSION").into(),
        architecture: target.architecture(),
        user: USER,
        entry_point: vec!["/observer".into()],
        command: vec!["agent".into()],
        created: commit.seconds,
        created_text: commit.text.clone(),
        labels: labels(&commit),
        layer,
    };
    let suffix =
        if target == Target::of_this_machine() { String::new() } else { format!("-{}", target.architecture()) };
    let of_tests = if profile == Profile::TestRelease { "-test" } else { "" };
    write(workspace, &image, &format!("image/observer{suffix}{of_tests}.tar"))
}

/// The program of this machine's image, once it is built.
pub(crate) fn program(workspace: &Workspace, profile: Profile) -> PathBuf {
    Target::of_this_machine().directory(workspace, profile).join("observer")
}

/// What the image says of itself: <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>.
fn labels(commit: &Commit) -> Vec<(&'static str, String)> {
    let mut labels = vec![
        ("org.opencontainers.image.title", "observer".to_owned()),
        ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("org.opencontainers.image.licenses", "MIT".to_owned()),
    ];
    labels.extend(commit.revision.clone().map(|revision| ("org.opencontainers.image.revision", revision)));
    labels
}

/// Writes an image below target/, in one step.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(workspace: &Workspace, image: &Image, file: &str) -> Result<Written> {
    let archive = image.archive()?;
    let path = workspace.target().join(file);
    let directory = path.parent().expect("target/ is above it");
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let draft = path.with_extension("tar.draft");
    fs::write(&draft, &archive.bytes).with_context(|| format!("write {}", draft.display()))?;
    fs::rename(&draft, &path).with_context(|| format!("write {}", path.display()))?;
    Ok(Written { path, size: archive.bytes.len(), digest: archive.digest })
}
