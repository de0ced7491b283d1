//! The files of a sandbox that its containers mount in `/etc`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::Options;
use crate::error::{Error, OsContext, Result};
use crate::pod::sandbox::write;
use crate::sys::fd;

/// Writes them below the state directory of a sandbox.
pub(super) fn write_files(state: &Path, options: &Options, name: &str) -> Result<()> {
    const HOSTNAME: &str = "/etc/hostname";
    const RESOLV_CONF: &str = "/etc/resolv.conf";
    let etc = state.join("etc");
    DirBuilder::new().mode(0o755).create(&etc).os("mkdir", || etc.display())?;
    let hostname =
        if options.host_network { of_host(HOSTNAME)? } else { format!("{name}\n").into_bytes() };
    let resolv_conf = match &options.resolv_conf {
        Some(text) => text.clone().into_bytes(),
        None => of_host(RESOLV_CONF)?,
    };
    for (file, text) in [("hostname", hostname), ("resolv.conf", resolv_conf)] {
        write(&etc.join(file), 0o644, &text)?;
    }
    write_hosts(state, options, name, (&[], ""))
}

/// Writes `hosts` anew, for containers that are still to come: its own addresses, and lines of
/// others.
pub(super) fn write_hosts(
    state: &Path,
    options: &Options,
    name: &str,
    (ips, others): (&[String], &str),
) -> Result<()> {
    const HOSTS: &str = "/etc/hosts";
    let mut hosts =
        if options.host_network { of_host(HOSTS)? } else { hosts_file(name, ips).into_bytes() };
    for (address, names) in &options.hosts {
        hosts.extend_from_slice(format!("{address}\t{}\n", names.join("\t")).as_bytes());
    }
    hosts.extend_from_slice(others.as_bytes());
    let path = state.join("etc/hosts");
    let _of_another_life = std::fs::remove_file(&path);
    write(&path, 0o644, &hosts)
}

fn of_host(path: &str) -> Result<Vec<u8>> {
    const HOST_FILE_BYTES: u64 = 1 << 20;
    match fd::read_file(path, HOST_FILE_BYTES) {
        Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

/// The names every host has, and its own: on the loopback device if there is no other.
fn hosts_file(name: &str, ips: &[String]) -> String {
    let loopback = ["127.0.0.1".to_owned()];
    let own = if ips.is_empty() { &loopback[..] } else { ips };
    let own = own.iter().map(|ip| format!("{ip}\t{name}\n")).collect::<String>();
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n{own}"
    )
}

/// It becomes a line of a file, too.
pub(super) fn check_hostname(name: &str) -> Result<()> {
    const MAX_BYTES: usize = 64;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || name.len() > MAX_BYTES || !name.bytes().all(allowed) {
        return Err(Error::Invalid(format!(
            "host name {name:?}: allowed are 1 to {MAX_BYTES} letters, digits and the characters - . _"
        )));
    }
    Ok(())
}
