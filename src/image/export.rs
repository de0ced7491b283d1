//! From the store to files: archives of layers are put together again, byte by byte what their
//! digests say, and not compressed.

use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::digest::{Digest, Hashing};
use super::layer::rebuild;
use super::manifest::{Blob, MEDIA_TYPES};
use super::store::{ImageRecord, Store};
use super::transport::Location;
use crate::error::{Error, OsContext, Result};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = MEDIA_TYPES[0];
const MANIFEST: &str = MEDIA_TYPES[1];
/// Source: image-spec, annotations.md.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Writes an image to a new OCI layout, OCI archive or archive of `docker save`; its names there
/// are those that it has, or the one in the location. The file `-` is the standard output.
///
/// # Errors
/// [`Error::Invalid`] if the image is not there or a layer cannot be made again, [`Error::Os`] if
/// the destination is there already.
pub fn export(store: &Store, image: &str, to: &Location) -> Result<()> {
    let _lock = store.lock_content()?;
    let table = store.table()?;
    let image = table.find(image)?;
    match to {
        Location::Oci(path, name) => {
            DirBuilder::new().mode(0o755).create(path).os("mkdir", || path.display())?;
            let mut layout = Directory(path.clone());
            oci(store, image, name.as_deref(), &mut layout).inspect_err(|_failure| {
                let _gone = std::fs::remove_dir_all(path);
            })
        }
        Location::OciArchive(path, name) => {
            to_file(path, |output| oci(store, image, name.as_deref(), output))
        }
        Location::DockerArchive(path, name) => {
            to_file(path, |output| docker(store, image, name.as_deref(), output))
        }
        _ => Err(Error::Invalid(
            "an image can be exported to oci:DIR, oci-archive:FILE or docker-archive:FILE".into(),
        )),
    }
}

/// Where files of an image go.
trait Output {
    /// Writes a file of exactly this size.
    fn file(
        &mut self,
        path: &str,
        size: u64,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<()>;

    fn text(&mut self, path: &str, text: &[u8]) -> Result<()> {
        self.file(path, text.len() as u64, &mut |output| {
            output.write_all(text).os("write", || path)
        })
    }
}

struct Directory(PathBuf);

impl Output for Directory {
    fn file(
        &mut self,
        path: &str,
        _: u64,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).os("mkdir", || parent.display())?;
        }
        let mut file = BufWriter::new(File::create_new(&path).os("create", || path.display())?);
        write(&mut file)?;
        file.flush().os("write", || path.display())
    }
}

/// A tar file.
struct Archive<W>(W);

impl<W: Write> Output for Archive<W> {
    fn file(
        &mut self,
        path: &str,
        size: u64,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).os("name", || path)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        self.0.write_all(header.as_bytes()).os("write", || path)?;
        write(&mut self.0)?;
        let padding = size.next_multiple_of(512) - size;
        let zeros = [0; 512];
        let padding = usize::try_from(padding).unwrap_or(0);
        self.0.write_all(&zeros[..padding]).os("write", || path)
    }
}

fn to_file(path: &Path, fill: impl FnOnce(&mut dyn Output) -> Result<()>) -> Result<()> {
    fn all<W: Write>(writer: W, fill: impl FnOnce(&mut dyn Output) -> Result<()>) -> Result<()> {
        let mut archive = Archive(BufWriter::with_capacity(256 << 10, writer));
        fill(&mut archive)?;
        archive
            .0
            .write_all(&[0; 1024])
            .and_then(|()| archive.0.flush())
            .os("write", || "the archive")
    }
    if path == Path::new("-") {
        return all(io::stdout().lock(), fill);
    }
    let file = File::create_new(path).os("create", || path.display())?;
    all(file, fill).inspect_err(|_failure| {
        let _gone = std::fs::remove_file(path);
    })
}

/// The archive of a layer, found out to be what it was.
fn layer(store: &Store, chain: &Digest) -> Result<Blob> {
    let mut hashing = Hashing::new(io::sink());
    write_layer(store, chain, &mut hashing)?;
    let (digest, size) = hashing.so_far();
    let diff_id = store.layer(chain)?.diff_id;
    if digest == diff_id {
        return Ok(Blob { digest, size });
    }
    Err(Error::Invalid(format!(
        "layer {}: the archive that it was made from cannot be made again; it has been changed in \
         the store",
        diff_id.short()
    )))
}

fn write_layer(store: &Store, chain: &Digest, output: &mut (impl Write + ?Sized)) -> Result<()> {
    let tree = store.open_layer(chain)?;
    rebuild(store.open_skeleton(chain)?, tree.as_fd(), &mut &mut *output)
}

fn descriptor(kind: &str, blob: &Blob) -> Value {
    json!({"mediaType": kind, "digest": blob.digest.to_string(), "size": blob.size})
}

fn blob_of(text: &[u8]) -> Blob {
    Blob { digest: Digest::of(text), size: text.len() as u64 }
}

fn to_text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn oci(
    store: &Store,
    image: &ImageRecord,
    name: Option<&str>,
    output: &mut dyn Output,
) -> Result<()> {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    output.text("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut layers: Vec<Blob> = Vec::new();
    for chain in &image.layers {
        let blob = layer(store, chain)?;
        // The same layer twice in an image is one blob.
        if !layers.contains(&blob) {
            let write = &mut |to: &mut dyn Write| write_layer(store, chain, to);
            output.file(&path(&blob.digest), blob.size, write)?;
        }
        layers.push(blob);
    }
    let config = store.document(&image.id)?;
    output.text(&path(&image.id), &config)?;
    let manifest = to_text(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &blob_of(&config)),
        "layers": layers.iter().map(|blob| descriptor(LAYER, blob)).collect::<Vec<_>>(),
    }));
    let blob = blob_of(&manifest);
    output.text(&path(&blob.digest), &manifest)?;
    let names: Vec<String> = match name {
        Some(name) => vec![name.to_owned()],
        None => image.names.clone(),
    };
    let mut entries: Vec<Value> = Vec::new();
    for name in &names {
        let mut entry = descriptor(MANIFEST, &blob);
        entry["annotations"] = json!({REF_NAME: name});
        entries.push(entry);
    }
    if entries.is_empty() {
        entries.push(descriptor(MANIFEST, &blob));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    output.text("index.json", &to_text(&index))
}

fn docker(
    store: &Store,
    image: &ImageRecord,
    name: Option<&str>,
    output: &mut dyn Output,
) -> Result<()> {
    let mut paths: Vec<String> = Vec::new();
    for chain in &image.layers {
        let blob = layer(store, chain)?;
        let path = format!("{}.tar", blob.digest.hex());
        if !paths.contains(&path) {
            let write = &mut |to: &mut dyn Write| write_layer(store, chain, to);
            output.file(&path, blob.size, write)?;
        }
        paths.push(path);
    }
    let config = format!("{}.json", image.id.hex());
    output.text(&config, &store.document(&image.id)?)?;
    let names = name.map_or_else(|| image.names.clone(), |name| vec![name.to_owned()]);
    let list = json!([{"Config": config, "RepoTags": names, "Layers": paths}]);
    output.text("manifest.json", &to_text(&list))
}
