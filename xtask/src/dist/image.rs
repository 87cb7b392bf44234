//! An image for container engines, in the OCI's layout (`image-layout.md`, `manifest.md` and `config.md` of its image
//! specification): made without an engine, for all architectures in one archive.
//!
//! Nothing is in it but the programs and the default configuration.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    archive::{sha256, tar},
    release::Release,
    tree::{PROGRAMS, Tree, set_mode},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Folders that the programs need, and that a volume is mounted at.
const FOLDERS: [&str; 4] = ["run/ipfilter", "sys/fs/bpf", "tmp", "var/lib/ipfilter"];

/// Writes the archive of the layout; where it is.
///
/// # Errors
/// When a file can't be read or written.
pub(super) fn pack(trees: &[Tree], release: &Release, output: &Path) -> Result<PathBuf> {
    let Some(first) = trees.first() else {
        anyhow::bail!("an image takes an architecture");
    };
    let work = first.beside("image");
    let layout = Layout {
        folder: work.join("layout"),
    };
    fs::create_dir_all(layout.folder.join("blobs/sha256"))?;
    let mut manifests = Vec::new();
    for tree in trees {
        manifests.push(layout.manifest(tree, release, &work)?);
    }
    layout.write("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    layout.write(
        "index.json",
        &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}),
    )?;
    let file = output.join(format!("ipfilter-{}-oci.tar", release.version));
    tar(&layout.folder, ".", release.epoch, &file)?;
    fs::remove_dir_all(work)?;
    Ok(file)
}

/// The folder that the layout is made in.
struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Adds one architecture; what the index says of it.
    fn manifest(&self, tree: &Tree, release: &Release, work: &Path) -> Result<Value> {
        let architecture = tree.architecture().debian();
        let root = work.join(architecture);
        fill(tree, &root)?;
        let layer = work.join("layer.tar");
        tar(&root, ".", release.epoch, &layer)?;
        let content = format!("sha256:{}", sha256(&layer)?);
        let compressed = work.join("layer.tar.gz");
        tar(&root, ".", release.epoch, &compressed)?;
        let created = release.date("+%Y-%m-%dT%H:%M:%SZ")?;
        let config = self.blob_of(&json!({
            "created": created,
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Entrypoint": ["/usr/bin/ipfilter"],
                "Cmd": ["run", "--config", "/etc/ipfilter/ipfilter.json"],
                "Env": ["PATH=/usr/bin"],
                "WorkingDir": "/",
                "Labels": {
                    "org.opencontainers.image.title": "ipfilter",
                    "org.opencontainers.image.version": release.full(),
                    "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                },
            },
            "rootfs": {"type": "layers", "diff_ids": [content]},
            "history": [{"created": created, "created_by": "cargo xtask dist"}],
        }))?;
        let mut manifest = self.blob_of(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIG, config),
            "layers": [described(LAYER, self.blob(&compressed)?)],
        }))?;
        manifest.platform = Some(json!({"architecture": architecture, "os": "linux"}));
        manifest.name = Some(release.version.to_owned());
        Ok(described(MANIFEST, manifest))
    }

    fn write(&self, name: &str, value: &Value) -> Result<()> {
        fs::write(self.folder.join(name), serde_json::to_vec(value)?)?;
        Ok(())
    }

    fn blob_of(&self, value: &Value) -> Result<Blob> {
        self.write("blob", value)?;
        self.blob(&self.folder.join("blob"))
    }

    /// Moves a file to the name that its content gives it.
    fn blob(&self, file: &Path) -> Result<Blob> {
        let digest = sha256(file)?;
        let size = fs::metadata(file)?.len();
        let blob = self.folder.join("blobs/sha256").join(&digest);
        fs::rename(file, &blob)?;
        set_mode(&blob, 0o644)?;
        Ok(Blob {
            digest,
            size,
            platform: None,
            name: None,
        })
    }
}

/// A file of the layout.
struct Blob {
    digest: String,
    size: u64,
    platform: Option<Value>,
    name: Option<String>,
}

fn described(kind: &str, blob: Blob) -> Value {
    let mut value = json!({
        "mediaType": kind,
        "digest": format!("sha256:{}", blob.digest),
        "size": blob.size,
    });
    if let (Some(fields), Some(platform)) = (value.as_object_mut(), blob.platform) {
        fields.insert("platform".to_owned(), platform);
        fields.insert(
            "annotations".to_owned(),
            json!({"org.opencontainers.image.ref.name": blob.name}),
        );
    }
    value
}

fn fill(tree: &Tree, root: &Path) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    let programs = PROGRAMS.map(|name| format!("usr/bin/{name}"));
    let settings = ["etc/ipfilter/ipfilter.json", "etc/ipfilter/policy.json"];
    for file in programs.iter().map(String::as_str).chain(settings) {
        let to = root.join(file);
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        fs::copy(tree.root().join(file), to)?;
    }
    Ok(())
}
