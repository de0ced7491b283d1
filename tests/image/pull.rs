//! Pulls: from a registry that works, and from one that does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::made::{layout, listing, sh};
use crate::proxy::{Proxy, Way};
use crate::registry::{Access, Registry};
use crate::scene::Scene;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_image_is_pulled_once() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let proxy = Proxy::new(registry.address, Way::Through);
    let name = proxy.name("two");
    let out = scene.image_verb("pull", &[&name]).ok();
    assert!(out.stdout.starts_with("sha256:"), "{out:?}");
    assert!(out.stderr.contains("fetching 2 of 2 layers"), "{out:?}");
    assert!(out.stderr.contains("done (2 of 2)"), "{out:?}");
    let again = scene.image_verb("pull", &[&name]).ok();
    assert_eq!(again.stdout, out.stdout);
    assert!(again.stderr.contains("all 2 layers are here"), "{again:?}");
    // By digest as well, and with one layer in common.
    let image = scene.image_verb("inspect", &[&name]).ok().json();
    let by_digest = image["digests"][0].as_str().unwrap();
    assert_eq!(scene.image_verb("pull", &["--quiet", by_digest]).ok().stdout, out.stdout);
    let one = scene.image_verb("pull", &[&proxy.name("one")]).ok();
    assert!(one.stderr.contains("all 1 layers are here"), "{one:?}");
    assert!(scene.in_store("downloads").is_empty());
    assert!(scene.image_verb("pull", &["--quiet", &name]).ok().stderr.is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn layers_may_be_compressed_by_zstd_and_images_for_many_platforms() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let from = format!("oci:{}/layout:two", layout().display());
    registry.push(&from, "zstd", "--dest-compress-format zstd");
    let zstd = scene.image_verb("pull", &[&registry.name("zstd")]).ok().stdout;
    assert_eq!(zstd, scene.image_verb("pull", &[&registry.name("two")]).ok().stdout);

    // An index over two images of the same layers.
    let dir = scene.dir().display();
    sh(&format!(
        r#"cd {dir}; cp -r {}/layout many; umoci config --image many:one --architecture arm64
        skopeo copy -q --dest-tls-verify=false oci:many:one docker://{}/many:arm64
        skopeo copy -q --dest-tls-verify=false oci:many:two docker://{}/many:amd64
        buildah --storage-driver vfs --root {dir}/b --runroot {dir}/br manifest create m
        for a in arm64 amd64; do buildah --storage-driver vfs --root {dir}/b --runroot {dir}/br \
            manifest add --tls-verify=false m docker://{}/many:$a; done
        buildah --storage-driver vfs --root {dir}/b --runroot {dir}/br manifest push --all \
            --tls-verify=false m docker://{}/many:all"#,
        layout().display(),
        registry.address,
        registry.address,
        registry.address,
        registry.address,
    ));
    let name = registry.name("many:all");
    scene.image_verb("pull", &["--platform", "linux/arm64", &name]).ok();
    assert_eq!(scene.image_verb("inspect", &[&name]).ok().json()["platform"], "linux/arm64");
    // One for a single platform is taken as it is, and said to be.
    let only = registry.name("many:arm64");
    let out = scene.image_verb("pull", &["--quiet", "--platform", "linux/s390x", &only]).ok();
    assert!(out.stderr.contains("is for linux/arm64 only, not for linux/s390x"), "{out:?}");
    scene
        .image_verb("pull", &["--platform", "linux/s390x", &name])
        .fails(1, &["no image for the platform linux/s390x", "linux/arm64"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn credentials_come_from_files_and_helpers() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::User);
    let name = registry.name("one");
    let auth = |text: &str| {
        let path = scene.dir().join("auth.json");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let file = auth("{}");
    scene
        .image_verb("pull", &["--authfile", &file, &name])
        .fails(1, &["unauthorized", "--authfile"]);
    // user:wrong
    let file = auth(&format!(
        r#"{{"auths": {{"{}": {{"auth": "dXNlcjp3cm9uZw=="}}}}}}"#,
        registry.address
    ));
    scene
        .image_verb("pull", &["--authfile", &file, &name])
        .fails(1, &["unauthorized", "does not accept the credentials"]);
    // user:secret
    let file = auth(&format!(
        r#"{{"auths": {{"{}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#,
        registry.address
    ));
    scene.image_verb("pull", &["--authfile", &file, &name]).ok();

    scene.image_verb("prune", &["--all"]).ok();
    let helper = scene.dir().join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {} ] || exit 1\n\
         echo '{{\"Username\": \"user\", \"Secret\": \"secret\"}}'\n",
        registry.address
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let file = auth(&format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.address));
    let data = scene.dir().join("data");
    let args = ["image", "pull", "--data-root", data.to_str().unwrap(), &name];
    let mut command = scene.command(&args);
    let path = format!("{}:{}", scene.dir().display(), std::env::var("PATH").unwrap());
    let out = command.env("PATH", path).env("REGISTRY_AUTH_FILE", &file).output().unwrap();
    assert!(out.status.success(), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_transfer_that_is_cut_off_goes_on() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let proxy = Proxy::new(registry.address, Way::CutAfter(300_000, 2));
    let out = scene.image_verb("pull", &[&proxy.name("one")]).ok();
    assert!(out.stderr.contains("trying again"), "{out:?}");
    let requests = proxy.requests().to_lowercase();
    let resumed = requests.lines().any(|line| {
        line.strip_prefix("range: bytes=").is_some_and(|range| !range.starts_with("0-"))
    });
    assert!(resumed, "{requests}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_spoilt_layer_is_not_taken() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let proxy = Proxy::new(registry.address, Way::Spoil(400_000));
    let out = scene.image_verb("pull", &[&proxy.name("one")]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("layer "), "{out:?}");
    assert!(scene.in_store("layers").is_empty() && scene.in_store("downloads").is_empty());
    assert!(scene.image_verb("ls", &["--format", "name"]).ok().stdout.is_empty());
    proxy.set(Way::Through);
    scene.image_verb("pull", &[&proxy.name("one")]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_killed_pull_is_gone_on_with_by_the_next() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let proxy = Proxy::new(registry.address, Way::StallAfter(500_000));
    let name = proxy.name("one");
    let data = scene.dir().join("data");
    let args = ["image", "pull", "--data-root", data.to_str().unwrap(), &name];
    let mut pull =
        scene.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + LIMIT;
    let fetched = || {
        let downloads = scene.store().join("downloads");
        let sizes = fs::read_dir(downloads).into_iter().flatten().flatten();
        sizes.map(|entry| entry.metadata().map_or(0, |is| is.len())).sum::<u64>()
    };
    while fetched() < 400_000 {
        assert!(Instant::now() < end, "{} bytes have come", fetched());
        std::thread::sleep(Duration::from_millis(20));
    }
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert!(scene.image_verb("ls", &["--format", "name"]).ok().stdout.is_empty());
    assert!(scene.in_store("layers").is_empty());

    proxy.set(Way::Through);
    scene.image_verb("pull", &[&name]).ok();
    let requests = proxy.requests().to_lowercase();
    let resumed = |line: &str| {
        let range = line.strip_prefix("range: bytes=");
        range.and_then(|range| range.trim().trim_end_matches('-').parse::<u64>().ok())
    };
    let from = requests.lines().filter_map(resumed).max();
    assert!(from >= Some(400_000), "{from:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pulls_at_the_same_time_fetch_a_layer_once() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let proxy = Proxy::new(registry.address, Way::Through);
    let name = proxy.name("one");
    let data = scene.dir().join("data");
    let args = ["image", "pull", "--data-root", data.to_str().unwrap(), &name];
    let pulls: Vec<_> =
        (0..3).map(|_| scene.command(&args).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success());
    }
    let manifest = scene.image_verb("inspect", &[&name]).ok().json()["manifest"].clone();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let requests = proxy.requests();
    assert_eq!(requests.matches(&format!("blobs/{layer}")).count(), 1, "{requests}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn mirrors_are_asked_first() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let conf = scene.dir().join("registries.conf");
    let text = format!(
        "[[registry]]\nprefix = \"example.invalid/team\"\nlocation = \"{}\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n",
        registry.address
    );
    fs::write(&conf, text).unwrap();
    let data = scene.dir().join("data");
    let pull = |name: &str| {
        let args = ["image", "pull", "--data-root", data.to_str().unwrap(), name];
        scene.command(&args).env("CONTAINERS_REGISTRIES_CONF", &conf).output().unwrap()
    };
    let out = pull("example.invalid/team/one");
    assert!(out.status.success(), "{out:?}");
    scene.image_verb("inspect", &["example.invalid/team/one"]).ok();
    let out = pull("example.invalid/team/none");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.contains("127.0.0.1:1") && stderr.contains("not found"), "{stderr}");
}
