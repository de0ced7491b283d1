//! An image of busybox, in the form that every engine imports: what `docker save` writes.

use crate::support::rootfs;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The name under which engines know it.
pub const BUSYBOX: &str = "localhost/busybox:latest";
/// The same files, with a program that ends at SIGTERM and reaps: for the sandbox of a pod.
pub const PAUSE: &str = "localhost/pause:latest";

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

/// Writes both into the archive `file`.
pub fn write(file: &Path) {
    let dir = file.with_extension("parts");
    fs::create_dir(&dir).unwrap();
    tar(&rootfs(), &dir.join("layer.tar"), &["."]);
    let sum = Command::new("sha256sum").arg(dir.join("layer.tar")).output().unwrap();
    let digest = format!("sha256:{}", &String::from_utf8(sum.stdout).unwrap()[..64]);
    let mut manifest = Vec::new();
    for (name, command) in [(BUSYBOX, json!(["sh"])), (PAUSE, json!(["sh", "-c", WAIT]))] {
        let config = format!("{}.json", manifest.len());
        let text = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/sbin"], "Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
            // Buildah counts them against the layers.
            "history": [{"created_by": "tests/clients"}],
        });
        fs::write(dir.join(&config), text.to_string()).unwrap();
        manifest.push(json!({"Config": config, "RepoTags": [name], "Layers": ["layer.tar"]}));
    }
    fs::write(dir.join("manifest.json"), json!(manifest).to_string()).unwrap();
    tar(&dir, file, &["manifest.json", "0.json", "1.json", "layer.tar"]);
    fs::remove_dir_all(dir).unwrap();
}

fn tar(dir: &Path, file: &Path, names: &[&str]) {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--numeric-owner", "--owner=0", "--group=0", "--mtime=@0"]);
    let done = command.arg("-cf").arg(file).arg("-C").arg(dir).args(names).status();
    assert!(done.unwrap().success(), "tar of {}", dir.display());
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
