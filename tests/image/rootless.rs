//! Images of an ordinary user, whose own id is root among those that are granted to it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::made::{layout, listing, sh};
use crate::registry::{Access, Registry};
use crate::scene::Scene;
use crate::support::call::Output;
use crate::support::user::{FIRST_SUBID, UID};
use crate::support::{Cgroups, Host, Ids, User};

/// A user, with images where the user can read them.
struct Place {
    host: Host,
    data: PathBuf,
}

impl Place {
    fn new(ids: Ids) -> Self {
        let host = Host::of(User::new(ids, Cgroups::None));
        let data = host.dir().join("run/data");
        let images = host.dir().join("images");
        sh(&format!(
            "cp -r {}/layout {i}; chmod -R a+rX {i}",
            layout().display(),
            i = images.display()
        ));
        if ids == Ids::Own {
            // Nothing is granted.
            fs::write(host.dir().join("etc/subids"), "").unwrap();
        }
        Self { host, data }
    }

    fn carob(&self, verb: &[&str], args: &[&str]) -> Output {
        let data = ["--data-root", self.data.to_str().unwrap()];
        self.host.call(&[verb, &data, args].concat()).output()
    }

    fn layout(&self, image: &str) -> String {
        format!("oci:{}/images:{image}", self.host.dir().display())
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.data.join("images/layers")).unwrap().count()
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_has_a_store_of_its_own() {
    let place = Place::new(Ids::Granted);
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let name = registry.name("two");
    place.carob(&["image", "pull"], &["--quiet", &name]).ok();
    place.carob(&["image", "import"], &[&place.layout("one"), "one"]).ok();
    assert_eq!(place.layers(), 2);
    let names = place.carob(&["image", "ls"], &["--format", "name"]).ok();
    let expected = format!("{name}:latest\ndocker.io/library/one:latest");
    assert_eq!(names.text(), expected);
    // Who is outside sees the granted ids as owners.
    let srv = sh(&format!("echo {}/images/layers/*/diff/srv", place.data.display()));
    let srv = fs::metadata(srv.trim()).unwrap();
    assert_eq!((srv.uid(), srv.gid()), (FIRST_SUBID + 6, FIRST_SUBID + 7));

    let tree = place.host.dir().join("run/tree");
    let copy = |verb: &[&str]| place.carob(verb, &[&name, tree.to_str().unwrap()]);
    sh(&format!("mkdir {t}; chown {UID}:{UID} {t}", t = tree.display()));
    copy(&["image", "unpack"]).ok();
    let expected = scene.dir().join("expected");
    sh(&format!(
        "umoci raw unpack --image {}/layout:two {} >/dev/null",
        layout().display(),
        expected.display()
    ));
    let shifted = |text: &str| {
        let ids = [(FIRST_SUBID + 6, "7"), (FIRST_SUBID + 7, "8"), (UID, "0")];
        let id = |word: &str| {
            let found = ids.iter().find(|(outside, _)| outside.to_string() == word);
            found.map_or(word.to_owned(), |(_, inside)| (*inside).to_owned())
        };
        text.lines()
            .map(|line| line.split(' ').map(id).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(shifted(&listing(&tree)), shifted(&listing(&expected)));

    place.carob(&["image", "rm"], &["one"]).ok();
    place.carob(&["image", "prune"], &["--all"]).ok();
    assert_eq!(place.layers(), 0);
    sh(&format!("rm -r {}", tree.display()));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_runs_an_image() {
    let place = Place::new(Ids::Granted);
    place.carob(&["image", "import"], &[&place.layout("two"), "two"]).ok();
    let script = "id -u; id -g; stat -c %u:%g /srv /home/new; cat /home/linked; ls /bin/vi; \
        echo x > /tmp/x; chown 5:6 /tmp/x && stat -c %u:%g /tmp/x; cat /proc/self/uid_map";
    let command = ["--pull", "never", "--image", "two"];
    // As the image says, uid 1000 of those that are granted.
    let out = place.carob(&["run"], &[&command[..], &["by-default"]].concat()).ok();
    assert_eq!(out.text(), "said by-default", "{out:?}");
    place.carob(&["image", "import"], &[&place.layout("one"), "one"]).ok();
    let out = place.carob(&["run"], &["--image", "one", "sh", "-c", script]).ok();
    let expected = ["0", "0", "7:8"];
    assert_eq!(out.text().lines().take(3).collect::<Vec<_>>(), expected, "{out:?}");
    assert!(out.text().contains("5:6"), "{out:?}");
    // What it has written goes with it, whoever it belonged to.
    assert_eq!(fs::read_dir(place.data.join("images/uses")).unwrap().count(), 0);

    // A bundle is the user's own, with the same ids.
    let bundle = place.host.dir().join("run/bundle");
    let (path, config) = (bundle.to_str().unwrap(), bundle.join("config.json"));
    sh(&format!("mkdir {path}; chown {UID}:{UID} {path}"));
    place.carob(&["spec"], &["--image", "two", "--bundle", path]).ok();
    sh(&format!("sed -i 's/\"terminal\": true/\"terminal\": false/' {}", config.display()));
    let out = place.host.call(&["run", "--bundle", path, "b"]).output().ok();
    assert_eq!(out.text(), "said by-default", "{out:?}");

    // Detached, it is in reach of all verbs from outside of its user namespace.
    let args =
        ["--detach", "--name", "c", "--image", "one", "sh", "-c", "chown 9 /srv; sleep 1000"];
    place.carob(&["run"], &args).ok();
    place.carob(&["image", "rm"], &["one"]).fails(1, &["used by container c"]);
    let verb = |args: &[&str]| place.host.call(args).output();
    let out = verb(&["exec", "c", "sh", "-c", "id -u; cat /proc/1/cmdline"]).ok();
    assert!(out.text().starts_with("0\n") && out.text().contains("sleep"), "{out:?}");
    verb(&["delete", "--force", "c"]).ok();
    assert_eq!(fs::read_dir(place.data.join("images/uses")).unwrap().count(), 0);
    place.host.adopt_orphans();
    place.carob(&["image", "prune"], &["--all"]).ok();
    assert_eq!(place.layers(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn without_granted_ids_all_files_must_be_the_users() {
    let place = Place::new(Ids::Own);
    let out = place.carob(&["image", "import"], &[&place.layout("one"), "one"]);
    out.fails(1, &["home/user", "1000:1000", "/etc/subuid"]);
    assert_eq!(place.layers(), 0);
    // One whose files are all root's.
    let dir = place.host.dir().display();
    sh(&format!(
        "cd {dir}; umoci init --layout mine; umoci new --image mine:x
        mkdir -p t/bin t/proc t/dev t/sys; cp /bin/busybox t/bin/sh; tar -C t -cf l.tar .
        umoci raw add-layer --image mine:x l.tar; umoci config --image mine:x --config.cmd /bin/sh
        chmod -R a+rX mine"
    ));
    place.carob(&["image", "import"], &[&format!("oci:{dir}/mine:x"), "mine"]).ok();
    let out = place.carob(&["run"], &["--image", "mine", "/bin/sh", "-c", "echo $((6 * 7))"]).ok();
    assert_eq!(out.text(), "42");
    let point = place.host.dir().join("run/point");
    place
        .carob(&["image", "mount"], &["mine", point.to_str().unwrap()])
        .fails(1, &["needs root", "carob image unpack"]);
}
