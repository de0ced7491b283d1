//! Images of many layers.

use std::fs;
use std::process::Command;

use crate::made::{listing, sh};
use crate::scene::{Output, Scene};

const LAYERS: usize = 60;

/// An image whose layers add, change and delete.
fn make(scene: &Scene) -> String {
    let dir = scene.dir().display();
    let rootfs = format!("{}/bundles/busybox/rootfs", env!("CARGO_MANIFEST_DIR"));
    sh(&format!(
        r#"cd {dir}
        umoci init --layout many
        umoci new --image many:x
        tar -C {rootfs} -cf layer.tar .
        umoci raw add-layer --image many:x layer.tar
        for n in $(seq 2 {LAYERS}); do
            rm -rf layer; mkdir -p layer/d; cd layer
            echo $n > d/newest; echo $n > d/of-$n
            touch d/.wh.of-$((n - 2))
            tar -cf ../layer.tar .; cd ..
            umoci raw add-layer --image many:x layer.tar
        done
        rm -r layer layer.tar"#
    ));
    format!("oci:{dir}/many:x")
}

/// `carob ARGS` on a kernel that knows no option for one layer of many.
fn on_older_kernel(scene: &Scene, args: &[&str]) -> Output {
    let mut command = Command::new("strace");
    // The first one is the source of the overlay, the second its uppermost layer.
    command.args(["-qq", "-o"]).arg(scene.dir().join("trace"));
    command.args(["-e", "inject=fsconfig:error=EINVAL:when=2", env!("CARGO_BIN_EXE_carob")]);
    let out = command.arg("--root").arg(scene.root()).args(args).output().unwrap();
    Output {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sixty_layers_are_one_tree_on_older_kernels_too() {
    let scene = Scene::new();
    scene.image_verb("import", &[&make(&scene), "many"]).ok();
    assert_eq!(scene.in_store("layers").len(), LAYERS);
    let data = scene.dir().join("data");
    let data = data.to_str().unwrap();
    let trees = ["expected", "new", "old"].map(|name| scene.dir().join(name));
    let [expected, new, old] = &trees;
    sh(&format!(
        "umoci raw unpack --image {}/many:x {} >/dev/null",
        scene.dir().display(),
        expected.display()
    ));
    fs::create_dir(new).unwrap();
    scene.image_verb("unpack", &["many", new.to_str().unwrap()]).ok();
    assert_eq!(listing(new), listing(expected));

    fs::create_dir(old).unwrap();
    on_older_kernel(
        &scene,
        &["image", "unpack", "--data-root", data, "many", old.to_str().unwrap()],
    )
    .ok();
    assert_eq!(listing(old), listing(expected));
    let trace = fs::read_to_string(scene.dir().join("trace")).unwrap();
    let refused = |line: &str| line.contains("lowerdir+") && line.contains("INJECTED");
    assert!(trace.lines().any(refused), "the way around was not taken");
    // Others mount theirs meanwhile.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let scene_dir = scene.dir().to_str().unwrap();
    let ours: Vec<_> = mounts.lines().filter(|line| line.contains(scene_dir)).collect();
    assert!(ours.is_empty(), "something stays mounted here: {ours:?}");

    // With a layer for what the container writes.
    let script =
        "cat /d/newest; ls /d; echo x > /d/newest; cat /d/newest; ls /proc/self/fd | wc -l";
    let args = ["run", "--data-root", data, "--image", "many", "sh", "-c", script];
    let expected = format!("{LAYERS}\nnewest\nof-{}\nof-{LAYERS}\nx\n4\n", LAYERS - 1);
    for out in [scene.carob(&args), on_older_kernel(&scene, &args)] {
        assert_eq!(out.clone().ok().stdout, expected, "{out:?}");
    }
    assert!(scene.in_store("uses").is_empty());
}
