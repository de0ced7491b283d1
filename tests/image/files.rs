//! Images in files: what other tools write is read, what carob writes they read.

use std::fs;

use crate::made::{layout, listing, sh};
use crate::scene::Scene;

#[test]
#[ignore = "needs root: run scripts/test"]
fn archives_of_other_tools_become_the_same_image() {
    let scene = Scene::new();
    let dir = scene.dir().display();
    let from = format!("oci:{}/layout:two", layout().display());
    sh(&format!("skopeo copy -q {from} docker-archive:{dir}/docker.tar:two:v1"));
    sh(&format!("skopeo copy -q {from} oci-archive:{dir}/oci.tar:two"));
    sh(&format!("skopeo copy -q --dest-compress-format zstd --dest-compress {from} dir:{dir}/dir"));
    sh(&format!("skopeo copy -q --dest-compress-format zstd {from} oci:{dir}/zstd:two"));
    sh(&format!("gzip -k {dir}/docker.tar"));
    scene.import("two");
    let inspect = |name: &str| scene.image_verb("inspect", &[name]).ok().json();
    let expected = inspect("two");
    for source in [
        format!("docker-archive:{dir}/docker.tar"),
        format!("docker-archive:{dir}/docker.tar:two:v1"),
        format!("docker-archive:{dir}/docker.tar.gz:@0"),
        format!("oci-archive:{dir}/oci.tar:two"),
        format!("oci:{dir}/zstd"),
        format!("dir:{dir}/dir"),
    ] {
        // An empty store each time: the layers must come out of this source.
        scene.image_verb("prune", &["--all"]).ok();
        assert!(scene.in_store("layers").is_empty());
        scene.image_verb("import", &[&source, "again"]).ok();
        let image = inspect("again");
        for key in ["id", "config"] {
            assert_eq!(image[key], expected[key], "{source}: {key}");
        }
        let (tree, original) = (scene.dir().join("tree"), scene.dir().join("original"));
        fs::create_dir(&tree).unwrap();
        scene.image_verb("unpack", &["again", tree.to_str().unwrap()]).ok();
        sh(&format!(
            "umoci raw unpack --image {}/layout:two {} >/dev/null",
            layout().display(),
            original.display()
        ));
        assert_eq!(listing(&tree), listing(&original), "{source}");
        fs::remove_dir_all(&tree).unwrap();
        fs::remove_dir_all(&original).unwrap();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_exported_is_the_same_image_to_other_tools() {
    let scene = Scene::new();
    let dir = scene.dir().display();
    scene.import("two");
    let id = scene.image_verb("inspect", &["two"]).ok().json()["id"].clone();
    for (to, from) in [
        (format!("docker-archive:{dir}/docker.tar"), format!("docker-archive:{dir}/docker.tar")),
        (format!("oci-archive:{dir}/oci.tar:two"), format!("oci-archive:{dir}/oci.tar:two")),
        (format!("oci:{dir}/layout:two"), format!("oci:{dir}/layout:two")),
    ] {
        scene.image_verb("export", &["two", &to]).ok();
        // skopeo checks every digest on the way.
        let copy = format!("{dir}/copy");
        sh(&format!("skopeo copy -q {from} dir:{copy}"));
        let manifest = fs::read_to_string(format!("{copy}/manifest.json")).unwrap();
        assert!(manifest.contains(id.as_str().unwrap()), "{to}: {manifest}");
        fs::remove_dir_all(copy).unwrap();
        scene.image_verb("export", &["two", &to]).fails(1, &["File exists"]);
    }
    // A layer that was changed in the store is not passed off as what it was.
    let layer = &scene.in_store("layers")[0];
    let file = scene.store().join("layers").join(layer).join("diff/etc/plain");
    fs::write(file, "changed by somebody").unwrap();
    let to = format!("oci:{dir}/other:two");
    scene.image_verb("export", &["two", &to]).fails(1, &["no longer the file"]);
    assert!(!scene.dir().join("other").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn wrong_sources_are_named() {
    let scene = Scene::new();
    let dir = scene.dir().display().to_string();
    fs::write(scene.dir().join("text"), "no archive".repeat(100)).unwrap();
    let layout = layout().display();
    for (source, words) in [
        (format!("oci:{layout}/layout:none"), vec!["no image \"none\"", "one, two"]),
        (format!("oci:{dir}"), vec!["index.json is not in it"]),
        (format!("oci:{dir}/none"), vec!["No such file"]),
        (format!("docker-archive:{dir}/text"), vec!["not a tar archive"]),
        (format!("docker-archive:{dir}"), vec!["is a directory"]),
        (format!("dir:{dir}"), vec!["manifest.json is not in it"]),
        ("busybox".to_owned(), vec!["carob image pull"]),
    ] {
        scene.image_verb("import", &[&source]).fails(1, &words);
    }
    scene.image_verb("import", &["oci:"]).fails(1, &["TRANSPORT:PATH"]);
    assert!(scene.in_store("layers").is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn owners_devices_and_capabilities_are_kept() {
    let scene = Scene::new();
    let dir = scene.dir().display();
    sh(&format!(
        r#"cd {dir}; mkdir t; cd t; mkdir -m 1777 d; echo x > d/f; chown 4000000000:70000 d/f
        chmod 4755 d/f; mknod null c 1 3; mknod disk b 7 200; mkfifo -m 600 pipe
        cp /bin/busybox cap; setfattr -n security.capability \
            -v 0x0000000200040000000000000000000000000000 cap
        setfattr -n user.note -v hello d; truncate -s 1M sparse; echo end >> sparse
        ln d/f hard; ln -s /nowhere soft; touch -h -d @12345.5 soft
        tar --xattrs --xattrs-include='*' --format=posix -S -cf ../layer.tar ."#
    ));
    let layer = format!("{dir}/layer.tar");
    sh(&format!(
        r#"cd {dir}; umoci init --layout made; umoci new --image made:x
        umoci raw add-layer --image made:x {layer}"#
    ));
    scene.image_verb("import", &[&format!("oci:{dir}/made:x"), "x"]).ok();
    let tree = scene.dir().join("tree");
    fs::create_dir(&tree).unwrap();
    scene.image_verb("unpack", &["x", tree.to_str().unwrap()]).ok();
    assert_eq!(listing(&tree), listing(&scene.dir().join("t")));
    let attributes = |tree: &str| sh(&format!("cd {dir}/{tree}; getfattr -m - -d -e hex cap d"));
    assert_eq!(attributes("tree"), attributes("t"));
    let numbers = |tree: &str| sh(&format!("cd {dir}/{tree}; stat -c '%t %T' null disk"));
    assert_eq!(numbers("tree"), numbers("t"));
    let blocks = sh(&format!("stat -c %b {dir}/data/images/layers/*/diff/sparse"));
    assert!(blocks.trim().parse::<u64>().unwrap() < 100, "no hole: {blocks}");
}
