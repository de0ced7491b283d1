use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use super::*;

/// A rootfs with `/etc`.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("carob-users-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("etc")).unwrap();
        Self(path)
    }

    fn usual() -> Self {
        let root = Self::new();
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nevil:x:0:0::/:\n\
                      4294967296:x:0:0::/:\n0x0:x:0:0::/:\n-1:x:0:0::/:\nbroken:x:1\n";
        std::fs::write(root.0.join("etc/passwd"), passwd).unwrap();
        let group =
            "root:x:0:\nwww:x:34:\nlogs:x:50:web,root\nmore:x:51:other, web\nweb:x:bad:web\n";
        std::fs::write(root.0.join("etc/group"), group).unwrap();
        root
    }

    fn image(&self, user: &str) -> Image {
        Image { root: super::Root::Directory(self.0.clone()), ..Image::example(user) }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn pod(context: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
        "spec": {"securityContext": context, "containers": []}}))
    .unwrap()
}

fn container(context: serde_json::Value) -> Container {
    serde_json::from_value(json!({"name": "c", "securityContext": context})).unwrap()
}

/// uid, gid, groups.
type Ids = (u32, u32, Vec<u32>);

fn resolve(
    root: &Tree,
    image: &str,
    of_pod: serde_json::Value,
    own: serde_json::Value,
) -> Result<Ids, StartFailure> {
    let user = user(&pod(of_pod), &container(own), &root.image(image))?;
    Ok((user.uid(), user.gid(), user.additional_gids().clone().unwrap()))
}

#[test]
fn ids() {
    let root = Tree::usual();
    let none = json!({});
    for (image, of_pod, own, expected) in [
        ("", none.clone(), none.clone(), (0, 0, vec![0, 50])),
        ("web", none.clone(), none.clone(), (33, 34, vec![34, 50, 51])),
        ("33", none.clone(), none.clone(), (33, 34, vec![34, 50, 51])),
        ("1234", none.clone(), none.clone(), (1234, 0, vec![0])),
        ("33:99", none.clone(), none.clone(), (33, 99, vec![99, 50, 51])),
        ("web:logs", none.clone(), none.clone(), (33, 50, vec![50, 51])),
        ("web", json!({"runAsUser": 5}), none.clone(), (5, 0, vec![0])),
        ("web:www", json!({"runAsUser": 33}), none.clone(), (33, 34, vec![34, 50, 51])),
        ("web", json!({"runAsUser": 5}), json!({"runAsUser": 6}), (6, 0, vec![0])),
        ("web", json!({"runAsGroup": 7}), none.clone(), (33, 7, vec![7, 50, 51])),
        ("", json!({"runAsGroup": 7}), json!({"runAsGroup": 8}), (0, 8, vec![8, 50])),
        (
            "web",
            json!({"fsGroup": 2000, "supplementalGroups": [3000, 50, 3000]}),
            none.clone(),
            (33, 34, vec![34, 50, 51, 2000, 3000]),
        ),
        (
            "web",
            json!({"supplementalGroups": [9], "supplementalGroupsPolicy": "Strict"}),
            none.clone(),
            (33, 34, vec![34, 9]),
        ),
        ("", json!({"runAsUser": 2_147_483_647}), none.clone(), (2_147_483_647, 0, vec![0])),
    ] {
        let found = resolve(&root, image, of_pod.clone(), own.clone()).unwrap();
        assert_eq!(found, expected, "{image} {of_pod} {own}");
    }
}

#[test]
fn not_root() {
    let root = Tree::usual();
    let yes = json!({"runAsNonRoot": true});
    let whose = "(pod: \"p_ns(u1)\", container: c)";
    for (image, of_pod, own, text) in [
        (
            "web",
            json!({"runAsNonRoot": true, "runAsUser": 0}),
            json!({}),
            "container's runAsUser breaks non-root policy",
        ),
        ("7", yes.clone(), json!({"runAsUser": 0}), "container's runAsUser breaks non-root policy"),
        ("7", json!({"runAsUser": 0}), yes.clone(), "container's runAsUser breaks non-root policy"),
        ("", yes.clone(), json!({}), "container has runAsNonRoot and image will run as root"),
        ("0", yes.clone(), json!({}), "container has runAsNonRoot and image will run as root"),
        ("00", yes.clone(), json!({}), "container has runAsNonRoot and image will run as root"),
        ("0:5", yes.clone(), json!({}), "container has runAsNonRoot and image will run as root"),
        ("web", yes.clone(), json!({}), "image has non-numeric user (web), cannot verify user is"),
        ("evil", yes.clone(), json!({}), "image has non-numeric user (evil), cannot verify"),
        ("4294967296", yes.clone(), json!({}), "image has non-numeric user (4294967296)"),
        ("4294967295", yes.clone(), json!({}), "image has non-numeric user (4294967295)"),
        ("-1", yes.clone(), json!({}), "image has non-numeric user (-1)"),
        ("+0", yes.clone(), json!({}), "image has non-numeric user (+0)"),
        ("0x0", yes.clone(), json!({}), "image has non-numeric user (0x0)"),
        (" 0", yes.clone(), json!({}), "image has non-numeric user ( 0)"),
        ("99999999999999999999", yes.clone(), json!({}), "image has non-numeric user (9999999999"),
    ] {
        let error = resolve(&root, image, of_pod, own).unwrap_err();
        assert_eq!(error.reason, "CreateContainerConfigError", "{image}");
        assert!(error.message.contains(text), "{image}: {}", error.message);
        assert!(error.message.ends_with(whose), "{image}: {}", error.message);
    }
    for (image, of_pod, own) in [
        ("7", yes.clone(), json!({})),
        ("", yes.clone(), json!({"runAsUser": 7})),
        ("", yes.clone(), json!({"runAsNonRoot": false})),
    ] {
        assert!(resolve(&root, image, of_pod, own).is_ok(), "{image}");
    }
}

#[test]
fn numbers_and_names_that_are_none() {
    let root = Tree::usual();
    for (image, of_pod, reason) in [
        ("4294967296", json!({}), "CreateContainerConfigError"),
        ("2147483648", json!({}), "CreateContainerConfigError"),
        ("-1", json!({}), "CreateContainerConfigError"),
        ("0x0", json!({}), "CreateContainerConfigError"),
        ("", json!({"runAsUser": -1}), "CreateContainerConfigError"),
        ("", json!({"runAsUser": 4_294_967_296_i64}), "CreateContainerConfigError"),
        ("", json!({"runAsGroup": 2_147_483_648_i64}), "CreateContainerConfigError"),
        ("", json!({"fsGroup": -5}), "CreateContainerConfigError"),
        ("", json!({"supplementalGroups": [1, -5]}), "CreateContainerConfigError"),
        ("nobody", json!({}), "CreateContainerError"),
        ("broken", json!({}), "CreateContainerError"),
        ("web:nogroup", json!({}), "CreateContainerError"),
        ("web:-1", json!({}), "CreateContainerError"),
        ("web:4294967296", json!({}), "CreateContainerError"),
    ] {
        let error = resolve(&root, image, of_pod, json!({})).unwrap_err();
        assert_eq!(error.reason, reason, "{image}: {}", error.message);
    }
}

#[test]
fn an_image_without_files_has_numbers_only() {
    let root = Tree::new();
    assert_eq!(resolve(&root, "5:6", json!({}), json!({})).unwrap(), (5, 6, vec![6]));
    std::fs::remove_dir(root.0.join("etc")).unwrap();
    assert_eq!(resolve(&root, "5", json!({}), json!({})).unwrap(), (5, 0, vec![0]));
    assert!(resolve(&root, "web", json!({}), json!({})).is_err());
}

#[test]
fn hostile_files_neither_hang_nor_lead_out() {
    let fifo = Tree::new();
    mkfifo(&fifo.0.join("etc/passwd"), Mode::S_IRWXU).unwrap();
    let directory = Tree::new();
    std::fs::create_dir(directory.0.join("etc/passwd")).unwrap();
    let huge = Tree::new();
    let file = std::fs::OpenOptions::new();
    let file = { file }.write(true).create_new(true).open(huge.0.join("etc/passwd")).unwrap();
    file.set_len(1 << 40).unwrap();
    let circle = Tree::new();
    symlink("passwd", circle.0.join("etc/passwd")).unwrap();
    for root in [&fifo, &directory, &huge, &circle] {
        let error = resolve(root, "5", json!({}), json!({})).unwrap_err();
        assert_eq!(error.reason, "CreateContainerError", "{}", error.message);
        // Who needs nothing of them is not bothered.
        let all = json!({"runAsUser": 5, "runAsGroup": 5, "supplementalGroupsPolicy": "Strict"});
        assert!(resolve(root, "", all, json!({})).is_ok());
    }

    // Links are the image's own: the host's files are not found through them.
    let link = Tree::new();
    symlink("/etc/passwd", link.0.join("etc/shadowed")).unwrap();
    std::fs::write(link.0.join("etc/passwd.real"), "me:x:77:78::/:\n").unwrap();
    symlink("../../../../../../etc/passwd.real", link.0.join("etc/passwd")).unwrap();
    assert_eq!(resolve(&link, "me", json!({}), json!({})).unwrap(), (77, 78, vec![78]));
    assert!(resolve(&link, "root", json!({}), json!({})).is_err());
}
