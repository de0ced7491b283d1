//! Images made by umoci from `bundles/busybox`, once, and what tests do with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::scene::{Output, Scene};

/// An OCI layout with two images: `one` is busybox, `two` has a layer more that adds, changes and
/// deletes.
pub fn layout() -> &'static Path {
    static LAYOUT: OnceLock<PathBuf> = OnceLock::new();
    LAYOUT.get_or_init(|| {
        let layout = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images-1");
        if layout.join("complete").exists() {
            return layout;
        }
        let work = layout.with_extension(std::process::id().to_string());
        let _of_a_killed_run = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).unwrap();
        make(&work);
        fs::write(work.join("complete"), "").unwrap();
        // Another run may have been faster.
        let _made_twice = fs::rename(&work, &layout);
        let _rest = fs::remove_dir_all(&work);
        layout
    })
}

fn make(work: &Path) {
    let rootfs = format!("{}/bundles/busybox/rootfs", env!("CARGO_MANIFEST_DIR"));
    let script = format!(
        r#"
        cd "{}"
        umoci init --layout layout
        umoci new --image layout:one
        umoci unpack --image layout:one bundle >/dev/null
        cp -a "{rootfs}/." bundle/rootfs/
        mkdir -m 2775 bundle/rootfs/srv
        chown 7:8 bundle/rootfs/srv
        umoci repack --image layout:one bundle >/dev/null
        umoci config --image layout:one --config.cmd /bin/sh --config.env FROM=image \
            --config.env PATH=/bin
        rm -r bundle
        umoci unpack --image layout:one bundle >/dev/null
        rm -r bundle/rootfs/home bundle/rootfs/bin/vi
        mkdir bundle/rootfs/home
        echo new > bundle/rootfs/home/new
        echo changed > bundle/rootfs/etc/plain
        ln bundle/rootfs/home/new bundle/rootfs/home/linked
        umoci repack --image layout:two bundle >/dev/null
        umoci config --image layout:two --clear=config.cmd --config.entrypoint /bin/echo \
            --config.entrypoint said --config.cmd by-default --config.user user \
            --config.workingdir /srv --config.volume /var/data --config.stopsignal SIGUSR1
        rm -r bundle
        "#,
        work.display()
    );
    sh(&script);
}

/// Runs a script of other tools, which must succeed.
#[track_caller]
pub fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-euc", script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{script}\n{stderr}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Scene {
    /// `carob image VERB ARGS`, in the store of the test.
    pub fn image_verb(&self, verb: &str, args: &[&str]) -> Output {
        let data = self.dir().join("data");
        let start = ["image", verb, "--data-root", data.to_str().unwrap()];
        self.carob(&[&start, args].concat())
    }

    /// Imports an image of the layout under its name.
    #[track_caller]
    pub fn import(&self, name: &str) {
        let source = format!("oci:{}/layout:{name}", layout().display());
        self.image_verb("import", &[&source, name]).ok();
    }

    /// The store's directory.
    pub fn store(&self) -> PathBuf {
        self.dir().join("data/images")
    }

    /// Names of what is in a directory of the store.
    pub fn in_store(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.store().join(directory)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `carob run ARGS`, in the store of the test.
    pub fn run_image(&self, args: &[&str]) -> Output {
        let data = self.dir().join("data");
        self.carob(&[&["run", "--data-root", data.to_str().unwrap()], args].concat())
    }
}

/// Everything about the files of a tree, a line each.
pub fn listing(tree: &Path) -> String {
    sh(&format!(
        r#"cd "{}"; find . -mindepth 1 -printf '%P %y %m %U %G %n %l ' \( -type f -printf '%s %T@\n' -o -printf '\n' \) | sort"#,
        tree.display()
    ))
}
