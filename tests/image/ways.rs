//! Ways to a registry: with TLS, through proxies, by tokens; and answers that have no end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::registry::{Access, Registry};
use crate::scene::{Output, Scene};

/// The name that registries with TLS have here; no name server knows it.
const HOST: &str = "registry.invalid";

/// Writes a certificate for the registry, and `ca.pem`, whose key has signed it.
fn certificates(scene: &Scene) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new([HOST.to_owned(), "localhost".to_owned()]).unwrap();
    let own = own.signed_by(&own_key, &issuer).unwrap();
    for (name, kind, der) in [
        ("ca.pem", "CERTIFICATE", authority.der().to_vec()),
        ("chain.pem", "CERTIFICATE", own.der().to_vec()),
        ("key.pem", "PRIVATE KEY", own_key.serialize_der()),
    ] {
        let text = STANDARD.encode(der);
        let pem = format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
        fs::write(scene.dir().join(name), pem).unwrap();
    }
}

/// `carob image pull` with these variables.
fn pull(scene: &Scene, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let data = scene.dir().join("data");
    let start = ["image", "pull", "--data-root", data.to_str().unwrap()];
    let mut command = scene.command(&[&start, args].concat());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let out = command.envs(variables.iter().copied()).output().unwrap();
    Output {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// A proxy that leads every name to one place, as a company's does.
struct WebProxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl WebProxy {
    fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let of_thread = Arc::clone(&asked);
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let asked = Arc::clone(&of_thread);
                thread::spawn(move || serve(client, to, &asked));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// One request of each connection is understood; what follows goes the same way.
fn serve(client: TcpStream, to: SocketAddr, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line);
    }
    asked.lock().unwrap().push(head[0].trim().to_owned());
    let Ok(mut server) = TcpStream::connect(to) else { return };
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    if method == "CONNECT" {
        let _answered = (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    } else {
        let path = target.splitn(4, '/').nth(3).unwrap_or_default();
        let rest: String = head[1..]
            .iter()
            .filter(|line| !line.to_lowercase().starts_with("proxy-"))
            .cloned()
            .collect();
        // The next request comes by a connection of its own.
        let request = format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n{rest}\r\n");
        let _sent = server.write_all(request.as_bytes());
    }
    let mut back = client.try_clone().unwrap();
    let mut from_server = server.try_clone().unwrap();
    let answers = thread::spawn(move || {
        let _passed = std::io::copy(&mut from_server, &mut back);
        let _closed = back.shutdown(std::net::Shutdown::Both);
    });
    let _passed = std::io::copy(&mut reader, &mut server);
    let _closed = server.shutdown(std::net::Shutdown::Write);
    let _ended = answers.join();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_registry_with_tls_needs_a_certificate_that_is_trusted() {
    let scene = Scene::with_own_network();
    certificates(&scene);
    let registry = Registry::new(&scene, Access::Tls);
    let hosts = format!("127.0.0.1 localhost\n127.0.0.1 {HOST} other.invalid");
    let bind = format!("echo '{hosts}' > /etc/cni/hosts; mount --bind /etc/cni/hosts /etc/hosts");
    scene.sh_on_machine(&bind).ok();
    let port = registry.address.port();
    let name = format!("{HOST}:{port}/two");
    let authority = scene.dir().join("ca.pem").display().to_string();
    let trusted = [("SSL_CERT_FILE", authority.as_str())];
    pull(&scene, &[], &[&name]).fails(1, &["certificate", HOST]);
    assert!(scene.in_store("layers").is_empty());
    pull(&scene, &trusted, &[&name]).ok();
    assert_eq!(scene.in_store("layers").len(), 2);
    // The right name on the certificate of somebody else.
    let other = format!("other.invalid:{port}/two");
    pull(&scene, &trusted, &[&other]).fails(1, &["certificate"]);
    // Plain HTTP is not tried in its place.
    pull(&scene, &trusted, &["--plain-http", &name]).fails(1, &[HOST]);
    // One on this machine may have it or not; having it, it has to be trusted as any other.
    let here = format!("localhost:{port}/two");
    pull(&scene, &[], &[&here]).fails(1, &["certificate"]);
    pull(&scene, &trusted, &[&here]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn proxies_of_the_environment_are_used() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let proxy = WebProxy::new(registry.address);
    let name = format!("{HOST}:5000/two");
    let url = proxy.url.as_str();
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        pull(&scene, &[(variable, url)], &["--plain-http", &name]).ok();
        let asked = proxy.asked();
        let manifest = format!("GET http://{HOST}:5000/v2/two/manifests/latest HTTP/1.1");
        assert!(asked.contains(&manifest), "{variable}: {asked:?}");
        scene.image_verb("prune", &["--all"]).ok();
    }
    // Names that are excepted are asked for directly: there is nobody.
    let variables = [("HTTP_PROXY", url), ("NO_PROXY", "example.com,.invalid")];
    pull(&scene, &variables, &["--plain-http", &name]).fails(1, &[HOST]);
    assert!(proxy.asked().is_empty());
    // What is on this machine no proxy can reach.
    pull(&scene, &[("HTTP_PROXY", url)], &[&registry.name("one")]).ok();
    assert!(proxy.asked().is_empty());
    pull(&scene, &[("HTTP_PROXY", "http://127.0.0.1:1")], &["--plain-http", &name])
        .fails(1, &[HOST, "Connection refused"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn tls_goes_through_a_proxy_as_it_is() {
    let scene = Scene::new();
    certificates(&scene);
    let registry = Registry::new(&scene, Access::Tls);
    let proxy = WebProxy::new(registry.address);
    let name = format!("{HOST}/two");
    let authority = scene.dir().join("ca.pem").display().to_string();
    let variables = [("HTTPS_PROXY", proxy.url.as_str()), ("SSL_CERT_FILE", &authority)];
    pull(&scene, &variables, &[&name]).ok();
    assert_eq!(scene.in_store("layers").len(), 2);
    let asked = proxy.asked();
    assert!(!asked.is_empty(), "nobody asked");
    for line in asked {
        assert_eq!(line, format!("CONNECT {HOST}:443 HTTP/1.1"));
    }
    // The proxy of the other protocol is none.
    let variables = [("HTTP_PROXY", proxy.url.as_str()), ("SSL_CERT_FILE", &authority)];
    pull(&scene, &variables, &[&name]).fails(1, &[HOST]);
}

/// A registry in front of a registry: it wants tokens, and gives them for identity tokens.
struct TokenServer {
    address: SocketAddr,
    exchanges: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    /// Tokens are good for this many seconds.
    fn new(registry: SocketAddr, seconds: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let of_thread = Arc::clone(&exchanges);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let exchanges = Arc::clone(&of_thread);
                thread::spawn(move || answer(client, (address, registry), &exchanges, seconds));
            }
        });
        Self { address, exchanges }
    }
}

fn answer(
    client: TcpStream,
    (own, registry): (SocketAddr, SocketAddr),
    exchanges: &Mutex<Vec<String>>,
    seconds: u64,
) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        head.push(line);
    }
    let reply = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let _sent = (&client).write_all(text.as_bytes());
    };
    if head[0].starts_with("POST /token ") {
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let number = {
            let mut exchanges = exchanges.lock().unwrap();
            exchanges.push(body.clone());
            exchanges.len()
        };
        if body.ends_with("refresh_token=identity%2B1") {
            let grant = format!(r#"{{"access_token": "a{number}", "expires_in": {seconds}}}"#);
            reply("200 OK", "", &grant);
        } else {
            reply("401 Unauthorized", "", r#"{"details": "who is that?"}"#);
        }
        return;
    }
    let granted = exchanges.lock().unwrap().len();
    let is_granted = |line: &String| {
        (1..=granted).any(|number| {
            line.trim().eq_ignore_ascii_case(&format!("authorization: bearer a{number}"))
        })
    };
    if !head.iter().any(is_granted) {
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"s\"\r\n");
        reply("401 Unauthorized", &challenge, "{}");
        return;
    }
    let Ok(mut server) = TcpStream::connect(registry) else { return };
    let rest: String =
        head[1..].iter().filter(|l| !l.to_lowercase().starts_with("connection")).cloned().collect();
    let request = format!("{}Connection: close\r\n{rest}\r\n", head[0]);
    server.write_all(request.as_bytes()).unwrap();
    let _passed = std::io::copy(&mut server, &mut &client);
    let _closed = client.shutdown(std::net::Shutdown::Both);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_identity_token_is_exchanged_for_others() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    // Good for a while, and used up before the next request.
    for (seconds, exchanges) in [(300, 1), (0, 4)] {
        let server = TokenServer::new(registry.address, seconds);
        let name = format!("{}/two", server.address);
        let auth = |text: String| {
            let path = scene.dir().join("auth.json");
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let entry = |token: &str| {
            format!(
                r#"{{"auths": {{"{}": {{"auth": "", "identitytoken": "{token}"}}}}}}"#,
                server.address
            )
        };
        let file = auth(entry("other"));
        scene
            .image_verb("pull", &["--authfile", &file, &name])
            .fails(1, &["exchange of the identity token", "who is that?"]);
        server.exchanges.lock().unwrap().clear();
        let file = auth(entry("identity+1"));
        scene.image_verb("pull", &["--authfile", &file, &name]).ok();
        let asked = server.exchanges.lock().unwrap().clone();
        // Manifest, configuration, two layers.
        assert_eq!(asked.len(), exchanges, "{asked:?}");
        assert!(asked[0].contains("scope=repository%3Atwo%3Apull"), "{asked:?}");
        scene.image_verb("prune", &["--all"]).ok();
    }
    // By a helper, under the name that all of them use for it.
    let server = TokenServer::new(registry.address, 300);
    let helper = scene.dir().join("docker-credential-token");
    let script = "#!/bin/sh\ncat >/dev/null; echo '{\"Username\": \"<token>\", \"Secret\": \"identity+1\"}'\n";
    fs::write(&helper, script).unwrap();
    crate::made::sh(&format!("chmod 755 {}", helper.display()));
    let file = scene.dir().join("auth.json");
    fs::write(&file, r#"{"credsStore": "token"}"#).unwrap();
    let path = format!("{}:{}", scene.dir().display(), std::env::var("PATH").unwrap());
    let name = format!("{}/two", server.address);
    pull(&scene, &[("PATH", &path)], &["--authfile", file.to_str().unwrap(), &name]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_manifest_without_an_end_is_not_read_to_its_end() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/endless", listener.local_addr().unwrap());
    let sent = Arc::new(Mutex::new(0_u64));
    let of_thread = Arc::clone(&sent);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut first = String::new();
            let _request = reader.read_line(&mut first);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            if !first.contains("/manifests/") {
                let _sent = (&client).write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
                continue;
            }
            let _sent = (&client).write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n\
                  Connection: close\r\n\r\n",
            );
            while (&client).write_all(&[b' '; 64 << 10]).is_ok() {
                *of_thread.lock().unwrap() += 64 << 10;
            }
        }
    });
    scene.image_verb("pull", &[&name]).fails(1, &["larger than 4194304 bytes"]);
    // What was on its way beyond the limit is in buffers of sockets.
    let sent = *sent.lock().unwrap();
    assert!(sent < 64 << 20, "{sent} bytes");
}
