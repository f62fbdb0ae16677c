//! The archive of an image: an OCI layout, and in the same tar the `manifest.json` that Docker reads. So it loads with
//! `ctr images import`, `docker load` and `kind load image-archive`.
//!
//! Formats: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>, `manifest.md` and `config.md` beside
//! it, and for `manifest.json` <https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md>.

use super::layer::{self, Layer};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use tar::{Builder, EntryType};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What is in an image and how it starts.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Its name without a tag. One that begins with `localhost/` is nobody else's.
    pub(crate) name: String,
    /// Its tag.
    pub(crate) tag: String,
    /// The processors it runs on, by Go's names: `amd64`, `arm64`.
    pub(crate) architecture: &'static str,
    /// Who runs it: `UID:GID`.
    pub(crate) user: &'static str,
    /// What runs.
    pub(crate) entry_point: Vec<String>,
    /// Its arguments unless others are given.
    pub(crate) command: Vec<String>,
    /// When it was made, in seconds since 1970: the time of every file in it.
    pub(crate) created: u64,
    /// The same as people write it: `2026-01-31T12:00:00Z`.
    pub(crate) created_text: String,
    /// What it says of itself: `org.opencontainers.image.*`.
    pub(crate) labels: Vec<(&'static str, String)>,
    /// Its files.
    pub(crate) layer: Layer,
}

/// An image as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// The tar.
    pub(crate) bytes: Vec<u8>,
    /// The digest of the manifest, by which registries and runtimes know the image: `sha256:…`.
    pub(crate) digest: String,
}

/// What a digest stands for.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Image {
    /// Its archive: the same bytes for the same image.
    ///
    /// # Errors
    /// When a path in it is longer than a tar can hold.
    pub(crate) fn archive(&self) -> Result<Archive> {
        let layer = Blob::new(self.layer.tar(self.created)?);
        let config = Blob::new(text(&self.config(&layer)));
        let manifest = Blob::new(text(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
        })));
        let docker = json!([{
            "Config": config.path(),
            "RepoTags": [format!("{}:{}", self.name, self.tag)],
            "Layers": [layer.path()],
        }]);
        let documents = [
            ("oci-layout".to_owned(), text(&json!({ "imageLayoutVersion": "1.0.0" }))),
            ("index.json".to_owned(), text(&self.index(&manifest))),
            ("manifest.json".to_owned(), text(&docker)),
        ];
        let mut blobs = [&layer, &config, &manifest].map(|blob| (blob.path(), blob.bytes.clone()));
        blobs.sort();
        let bytes = self.tar(documents.into_iter().chain(blobs)).context("write the image")?;
        Ok(Archive { bytes, digest: manifest.digest })
    }

    fn config(&self, layer: &Blob) -> Value {
        let labels: serde_json::Map<_, _> =
            self.labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(value.as_str()))).collect();
        json!({
            "created": self.created_text,
            "architecture": self.architecture,
            "os": "linux",
            "config": {
                "User": self.user,
                "Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"],
                "Entrypoint": self.entry_point,
                "Cmd": self.command,
                "WorkingDir": "/",
                "Labels": labels,
            },
            // Of the layer as it is before any compression; this one is not compressed.
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
            "history": [{ "created": self.created_text, "created_by": "cargo xtask image" }],
        })
    }

    fn index(&self, manifest: &Blob) -> Value {
        let mut descriptor = manifest.descriptor(MANIFEST);
        descriptor["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        descriptor["annotations"] = json!({
            // containerd takes the name from the first, everyone else the tag from the second.
            "io.containerd.image.name": format!("{}:{}", self.name, self.tag),
            "org.opencontainers.image.ref.name": self.tag,
        });
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] })
    }

    fn tar(&self, files: impl Iterator<Item = (String, Vec<u8>)>) -> std::io::Result<Vec<u8>> {
        let mut builder = Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = layer::header(EntryType::Regular, 0o644, bytes.len() as u64, self.created);
            builder.append_data(&mut header, path, bytes.as_slice())?;
        }
        builder.into_inner()
    }
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// A document as bytes; its keys are in the order of the alphabet.
fn text(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
