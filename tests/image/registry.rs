//! Debian's docker-registry, started and stopped by the test.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::made::layout;
use crate::scene::Scene;

/// How long it may take to listen.
const LIMIT: Duration = Duration::from_secs(60);
/// The password of `user` is `secret`.
const HTPASSWD: &str = "user:$2b$04$axQh8zNTMSSEo5Tt78u8B.gEyYJbgSl9wkU4yyOUbFvf/P3Di0tK2\n";

pub struct Registry<'a> {
    scene: &'a Scene,
    process: Child,
    pub address: SocketAddr,
}

/// Who may pull, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Everybody,
    User,
    /// By HTTPS, with the certificates that the test has written to `key.pem` and `chain.pem`.
    Tls,
}

impl<'a> Registry<'a> {
    /// One with the images `one` and `two` of the layout, on the machine of the scene.
    pub fn new(scene: &'a Scene, access: Access) -> Self {
        let dir = scene.dir().join("registry");
        fs::create_dir_all(&dir).unwrap();
        // Free until somebody else takes it: nobody on this machine asks for a fixed one here.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
        let auth = match access {
            Access::Everybody | Access::Tls => String::new(),
            Access::User => {
                format!("auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n", dir.display())
            }
        };
        let tls = match access {
            Access::Tls => format!(
                ", tls: {{certificate: {dir}/chain.pem, key: {dir}/key.pem}}",
                dir = scene.dir().display()
            ),
            Access::Everybody | Access::User => String::new(),
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/content}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}'{tls}}}\n{auth}",
            dir.display()
        );
        fs::write(dir.join("config.yml"), config).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let process = scene
            .on_machine("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self { scene, process, address };
        let end = Instant::now() + LIMIT;
        while !scene.connects(address) {
            let log = fs::read_to_string(dir.join("log")).unwrap();
            assert!(Instant::now() < end, "the registry does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let credentials = if access == Access::User { "--dest-creds user:secret" } else { "" };
        for image in ["one", "two"] {
            registry.push(
                &format!("oci:{}/layout:{image}", layout().display()),
                image,
                credentials,
            );
        }
        registry
    }

    /// Copies an image into it.
    pub fn push(&self, from: &str, name: &str, flags: &str) {
        let to = format!("docker://{}/{name}", self.address);
        let copy = format!("skopeo copy --quiet --dest-tls-verify=false {flags} {from} {to}");
        self.scene.sh_on_machine(&copy).ok();
    }

    /// The name of an image in it.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
