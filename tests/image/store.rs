//! The store: what is kept, what is removed, and what hostile layers leave: nothing.

use std::fs;
use std::process::{Command, Stdio};

use crate::made::{layout, sh};
use crate::scene::Scene;

#[test]
#[ignore = "needs root: run scripts/test"]
fn layers_are_shared_and_removed_with_the_last_image() {
    let scene = Scene::new();
    scene.import("one");
    scene.import("two");
    assert_eq!(scene.in_store("layers").len(), 2);
    let list = scene.image_verb("ls", &["--format", "json"]).ok().json();
    let sizes: Vec<_> =
        list.as_array().unwrap().iter().map(|i| (&i["bytes"], &i["uniqueBytes"])).collect();
    assert_eq!(*sizes[0].1, 0, "{list}");
    assert!(sizes[1].0.as_u64() > sizes[0].0.as_u64() && sizes[1].1.as_u64() > Some(0), "{list}");
    let table = scene.image_verb("ls", &[]).ok().stdout;
    assert!(table.contains("NAME") && table.contains("docker.io/library/two:latest"), "{table}");

    scene.image_verb("rm", &["one"]).ok();
    assert_eq!(scene.in_store("layers").len(), 2, "two needs both");
    scene.image_verb("rm", &["two"]).ok();
    assert!(scene.in_store("layers").is_empty() && scene.in_store("documents").is_empty());
    scene.image_verb("rm", &["two"]).fails(1, &["not here", "carob image ls"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_name_that_moves_leaves_an_image_to_prune() {
    let scene = Scene::new();
    scene.import("two");
    let source = format!("oci:{}/layout:one", layout().display());
    scene.image_verb("import", &[&source, "two"]).ok();
    assert!(scene.image_verb("ls", &[]).ok().stdout.contains("<none>"));
    let out = scene.image_verb("prune", &[]).ok().stdout;
    assert!(out.contains("deleted: sha256:") && out.contains("freed: "), "{out}");
    assert_eq!(scene.in_store("layers").len(), 1);
    scene.image_verb("inspect", &["two"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_mounted_stays() {
    let scene = Scene::new();
    scene.import("two");
    let point = scene.dir().join("point");
    fs::create_dir(&point).unwrap();
    scene.image_verb("mount", &["two", point.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(point.join("home/new")).unwrap(), "new\n");
    assert!(!point.join("home/user").exists(), "the directory is opaque");
    assert!(!point.join("bin/vi").exists() && point.join("bin/cat").exists());
    assert!(fs::write(point.join("x"), "").is_err(), "read-only");
    scene.image_verb("rm", &["two"]).fails(1, &["used by the mount at", "point"]);
    scene.image_verb("prune", &["--all"]).ok();
    assert_eq!(fs::read_to_string(point.join("etc/plain")).unwrap(), "changed\n");
    sh(&format!("umount {}", point.display()));
    scene.image_verb("prune", &["--all"]).ok();
    assert!(scene.in_store("layers").is_empty() && scene.in_store("uses").is_empty());
}

/// Layers that must not be taken, as GNU tar writes them from a script.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hostile_layer_leaves_nothing() {
    let scene = Scene::new();
    let dir = scene.dir().display();
    sh(&format!("echo kept > {dir}/victim"));
    for (name, script, word) in [
        ("dotdot", "echo x > f; tar -cPf ../l.tar --transform 's,^,../../../,' f", ".."),
        (
            "link",
            "ln -s / l; mkdir d; echo x > d/victim; tar -cf ../l.tar l; \
                  tar -rPf ../l.tar --transform \"s,^d,l$(dirname $PWD),\" d/victim",
            "link",
        ),
        (
            "hard",
            "ln ../victim f; tar -cPf ../l.tar ../victim f; \
                  tar --delete -Pf ../l.tar ../victim",
            "..",
        ),
        ("text", "head -c 5000 /dev/urandom > ../l.tar", "not a tar archive"),
        (
            "overlay",
            "mkdir d; setfattr -n trusted.overlay.redirect -v /etc d; \
                     tar --xattrs --xattrs-include='*' --format=posix -cf ../l.tar d",
            "overlayfs",
        ),
    ] {
        sh(&format!(
            "cd {dir}; rm -rf w l.tar; mkdir w; cd w; {script}; cd ..; rm -rf made \
             && umoci init --layout made && umoci new --image made:x \
             && umoci raw add-layer --image made:x l.tar"
        ));
        let out = scene.image_verb("import", &[&format!("oci:{dir}/made:x"), "x"]);
        out.fails(1, &["layer ", word]);
        assert!(scene.in_store("layers").is_empty(), "{name}");
        assert!(!scene.image_verb("ls", &[]).ok().stdout.contains("/x:"), "{name}");
        assert_eq!(fs::read_to_string(scene.dir().join("victim")).unwrap(), "kept\n", "{name}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn content_that_is_not_what_its_digest_says_is_refused() {
    let scene = Scene::new();
    let dir = scene.dir().display();
    for document in ["manifest", "config", "layer"] {
        sh(&format!("rm -rf {dir}/made; cp -r {}/layout {dir}/made", layout().display()));
        let blobs = format!("{dir}/made/blobs/sha256");
        // The layer is by far the largest, manifests and configurations are told apart by content.
        let find = match document {
            "manifest" => format!("grep -l '\"layers\":' {blobs}/*"),
            "config" => format!("grep -l '\"rootfs\":' {blobs}/*"),
            _ => format!("ls -S {blobs}/* | head -1"),
        };
        sh(&format!(
            "for f in $({find}); do s=$(stat -c %s $f); \
             printf X | dd of=$f bs=1 seek=$((s / 2)) conv=notrunc status=none; done"
        ));
        let out = scene.image_verb("import", &[&format!("oci:{dir}/made:one")]);
        assert_eq!(out.code, 1, "{document}: {out:?}");
        assert!(scene.in_store("layers").is_empty(), "{document}");
        assert!(scene.image_verb("ls", &["--format", "name"]).ok().stdout.is_empty());
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn importers_at_the_same_time_unpack_a_layer_once() {
    let scene = Scene::new();
    let source = format!("oci:{}/layout:two", layout().display());
    let data = scene.dir().join("data");
    let spawn = |number: usize| {
        let name = format!("copy:{number}");
        let args = ["image", "import", "--data-root", data.to_str().unwrap(), &source, &name];
        scene.command(&args).stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(spawn).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(scene.in_store("layers").len(), 2);
    let names = scene.image_verb("ls", &["--format", "name"]).ok().stdout;
    assert_eq!(names.lines().count(), 4, "{names}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_killed_importer_leaves_whole_layers_or_none() {
    let scene = Scene::new();
    let source = format!("oci:{}/layout:two", layout().display());
    let data = scene.dir().join("data");
    let args = ["image", "import", "--data-root", data.to_str().unwrap(), &source, "two"];
    for round in 0..8_u32 {
        let mut child = scene.command(&args).stdout(Stdio::null()).spawn().unwrap();
        // Somewhere in the middle: after so many looks at a child that has not ended.
        for _ in 0..(1 << round) * 4 {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::yield_now();
            let _look = scene.in_store("layers");
        }
        let _ended = child.kill();
        child.wait().unwrap();
        for layer in scene.in_store("layers").iter().filter(|name| !name.starts_with("new-")) {
            let place = scene.store().join("layers").join(layer);
            assert!(place.join("layer.json").exists(), "{layer} has no record");
        }
        // What is in the table is complete.
        for name in scene.image_verb("ls", &["--format", "name"]).ok().stdout.lines() {
            scene.image_verb("inspect", &[name]).ok();
        }
    }
    scene.carob(&args).ok();
    let tree = scene.dir().join("tree");
    scene.image_verb("unpack", &["two", tree.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(tree.join("home/linked")).unwrap(), "new\n");
    scene.image_verb("unpack", &["two", tree.to_str().unwrap()]).fails(1, &["must be empty"]);
    scene.image_verb("prune", &[]).ok();
    assert!(scene.in_store("layers").iter().all(|name| !name.starts_with("new-")));
}
