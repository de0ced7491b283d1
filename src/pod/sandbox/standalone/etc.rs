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
    const HOSTS: &str = "/etc/hosts";
    const HOSTNAME: &str = "/etc/hostname";
    const RESOLV_CONF: &str = "/etc/resolv.conf";
    const HOST_FILE_BYTES: u64 = 1 << 20;
    let etc = state.join("etc");
    DirBuilder::new().mode(0o755).create(&etc).os("mkdir", || etc.display())?;
    let of_host = |path: &str| match fd::read_file(path, HOST_FILE_BYTES) {
        Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    };
    let (mut hosts, hostname) = if options.host_network {
        (of_host(HOSTS)?, of_host(HOSTNAME)?)
    } else {
        (hosts_file(name).into_bytes(), format!("{name}\n").into_bytes())
    };
    for (address, names) in &options.hosts {
        hosts.extend_from_slice(format!("{address}\t{}\n", names.join("\t")).as_bytes());
    }
    let resolv_conf = match &options.resolv_conf {
        Some(text) => text.clone().into_bytes(),
        None => of_host(RESOLV_CONF)?,
    };
    for (file, text) in [("hosts", hosts), ("hostname", hostname), ("resolv.conf", resolv_conf)] {
        write(&etc.join(file), 0o644, &text)?;
    }
    Ok(())
}

/// The names every host has, and its own on the loopback device: there is no other.
fn hosts_file(name: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
         127.0.0.1\t{name}\n"
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
