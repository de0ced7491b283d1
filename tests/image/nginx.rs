//! From a manifest as it is written for a cluster to a server that answers: bundles/pods/nginx.yaml.

use std::path::Path;

use crate::made::{layout, sh};
use crate::registry::{Access, Registry};
use crate::scene::Scene;

/// Debian's nginx with the libraries it needs, as an image that is run as the one of docker.io is.
fn make_image(scene: &Scene) -> String {
    let dir = scene.dir().display();
    sh(&format!(
        r#"cd {dir}
        umoci init --layout server
        umoci new --image server:nginx
        umoci unpack --image server:nginx bundle >/dev/null
        cd bundle/rootfs
        mkdir -p etc/nginx run tmp usr/sbin usr/share/nginx/html var/lib/nginx var/log/nginx
        mkdir -p usr/lib usr/lib64; ln -s usr/lib lib; ln -s usr/lib64 lib64
        cp -p /usr/sbin/nginx usr/sbin/
        for file in $(ldd /usr/sbin/nginx | grep -o '/[^ ]*'); do
            mkdir -p ".${{file%/*}}"
            cp -pL "$file" ".$file"
        done
        cp /etc/nginx/mime.types etc/nginx/
        echo 'root:x:0:0::/:/bin/sh
www-data:x:33:33::/:/bin/false' > etc/passwd
        echo 'root:x:0:
www-data:x:33:' > etc/group
        echo 'welcome from nginx' > usr/share/nginx/html/index.html
        ln -s /dev/stdout var/log/nginx/access.log
        ln -s /dev/stderr var/log/nginx/error.log
        echo 'user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {{}}
http {{
  include mime.types;
  access_log /var/log/nginx/access.log;
  server {{ listen 80; root /usr/share/nginx/html; }}
}}' > etc/nginx/nginx.conf
        cd ../..
        umoci repack --image server:nginx bundle >/dev/null
        umoci config --image server:nginx --config.env PATH=/usr/sbin --config.stopsignal SIGQUIT \
            --config.cmd nginx --config.cmd -g --config.cmd 'daemon off;'
        rm -r bundle"#
    ));
    format!("oci:{dir}/server:nginx")
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_manifest_of_a_cluster_runs_as_it_is() {
    let scene = Scene::with_own_network();
    let registry = Registry::new(&scene, Access::Everybody);
    registry.push(&make_image(&scene), "library/nginx:1.25", "");
    let busybox = format!("oci:{}/layout:one", layout().display());
    registry.push(&busybox, "library/busybox:1.36", "");
    // This machine has no way to docker.io but its mirror.
    let conf = format!(
        "mkdir -p /etc/containers; mount -t tmpfs conf /etc/containers
        echo '[[registry]]
location = \"docker.io\"
[[registry.mirror]]
location = \"{}\"' > /etc/containers/registries.conf",
        registry.address
    );
    scene.sh_on_machine(&conf).ok();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/pods/nginx.yaml");
    let args = scene.run_args("run", &["-d", "--network=carob"], &[&manifest]);
    let out = scene.carob(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("pod/nginx created\n", ""));

    let object = scene.wait_ready("nginx");
    assert!(object["status"]["podIP"].as_str().unwrap().starts_with("10.84.0."), "{object:#}");
    let events = scene.pod(&["events", "nginx"]).ok().stdout;
    for image in ["nginx:1.25", "busybox:1.36"] {
        assert!(events.contains(&format!("Successfully pulled image \"{image}\"")), "{events}");
    }
    // By the machine's port and by the pod's address.
    let fetch = |url: &str| {
        let script = format!("busybox timeout 20 busybox wget -qO- http://{url} 2>&1 || true");
        scene.sh_on_machine(&script).ok().stdout
    };
    let ip = object["status"]["podIP"].as_str().unwrap();
    for host in ["127.0.0.1:8089", ip] {
        assert_eq!(fetch(&format!("{host}/")), "welcome from nginx\n", "{host}");
    }
    assert!(fetch("127.0.0.1:8089/by-port").contains("404"));
    // The sidecar has seen the probe and the requests.
    let log = scene.wait_log("nginx", "log", "GET /by-port HTTP/1.1\" 404");
    assert!(log.contains("kube-probe/"), "{log}");
    let user = scene.pod(&["exec", "-c", "log", "nginx", "--", "stat", "-c", "%u", "/logs"]);
    assert_eq!(user.ok().stdout, "0\n");
    let names = scene.image_verb("ls", &["--format", "name"]).ok().stdout;
    assert!(names.contains("docker.io/library/nginx:1.25"), "{names}");

    // SIGQUIT, as the image says, lets nginx end by itself.
    scene.pod(&["stop", "nginx"]).ok();
    let ended = scene.container("nginx", "nginx")["state"]["terminated"].clone();
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&0.into(), &"Completed".into()), "{ended}");
    scene.pod(&["rm", "nginx"]).ok();
    let image = scene.image_verb("prune", &["--all"]).ok().stdout;
    assert!(image.contains("freed: "), "{image}");
}
