//! Who a member runs as: user, groups, and the promise not to be root.
//!
//! The image's `/etc/passwd` and `/etc/group` are hostile: they are read as far as a bound, inside
//! the rootfs, and only if they are regular files. What looks like a number is one and never looked
//! up as a name (CVE-2026-46680), and numbers end where the API's do (CVE-2024-40635).

use std::fs::File;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use oci_spec::runtime::User;

use super::{Image, Root, StartFailure, config_error, create_error, pod_name, pod_spec};
use crate::error::{Error, OsContext, Result as Outcome};
use crate::sys::fd::{proc_path, read_bounded};
use crate::sys::path::Rootfs;

/// Largest id of the API.
const MAX_ID: i64 = 0x7fff_ffff;
/// Longest passwd or group file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most supplementary groups of a process. Source: `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65_536;

/// The user part of an image's USER.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ImageUser<'a> {
    /// A number, in range.
    Id(u32),
    /// A name that could be in a passwd file.
    Name(&'a str),
    /// Neither.
    Malformed(&'a str),
}

impl<'a> ImageUser<'a> {
    fn of(text: &'a str) -> Self {
        match number(text) {
            _ if text.is_empty() => Self::Id(0),
            Some(id) => Self::Id(id),
            None if is_name(text) => Self::Name(text),
            None => Self::Malformed(text),
        }
    }
}

/// A decimal number of the API's range; no sign, no base.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id: i64 = text.parse().ok()?;
    id_of(id).filter(|_| digits)
}

/// What could be a name: it does not begin like a number.
fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-$@\\".contains(&b);
    text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
}

fn id_of(id: i64) -> Option<u32> {
    u32::try_from(id).ok().filter(|_| id <= MAX_ID)
}

/// The user and groups of a member.
///
/// # Errors
/// `CreateContainerConfigError` where `runAsNonRoot` is or may be broken, or an id is none;
/// `CreateContainerError` where the image does not have the user or group, or its files are odd.
pub fn user(pod: &Pod, container: &Container, image: &Image) -> Result<User, StartFailure> {
    let spec = pod_spec(pod);
    let context = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let run_as = own.run_as_user.or(context.run_as_user);
    let as_group = own.run_as_group.or(context.run_as_group);
    let (image_user, image_group) = image.user.split_once(':').unwrap_or((&image.user, ""));
    let image_user = ImageUser::of(image_user);
    if own.run_as_non_root.or(context.run_as_non_root) == Some(true) {
        check_not_root(pod, container, run_as, &image_user)?;
    }
    let strict = context.supplemental_groups_policy.as_deref() == Some("Strict");
    let mut files = Files::new(&image.root);

    let known = match (run_as, image_user) {
        (Some(uid), _) => files.by_id(checked("runAsUser", uid)?, strict, as_group)?,
        (None, ImageUser::Id(uid)) => files.by_id(uid, strict, as_group)?,
        (None, ImageUser::Name(name)) => files.by_name(name)?,
        (None, ImageUser::Malformed(text)) => {
            let allowed = format!("a name or a number from 0 to {MAX_ID}");
            return Err(config_error(format!("image has user {text:?}, allowed is {allowed}")));
        }
    };
    let gid = match (as_group, run_as, image_group) {
        (Some(gid), _, _) => checked("runAsGroup", gid)?,
        (None, Some(_), _) | (None, None, "") => known.gid,
        (None, None, group) => files.group(group)?,
    };
    let mut groups = vec![gid];
    if let (false, Some(name)) = (strict, &known.name) {
        groups.extend(files.groups_of(name)?);
    }
    groups.extend(pod_groups(&context)?);
    Ok(make(known.uid, gid, groups))
}

/// `fsGroup` and `supplementalGroups`.
fn pod_groups(context: &PodSecurityContext) -> Result<Vec<u32>, StartFailure> {
    let fs_group = context.fs_group.iter().map(|gid| checked("fsGroup", *gid));
    let given = context.supplemental_groups.iter().flatten();
    fs_group.chain(given.map(|gid| checked("supplementalGroups", *gid))).collect()
}

/// The primary group is among the supplementary ones: otherwise a process could get rid of it, and
/// with it of the denials that files have for it (CVE-2022-36109).
fn make(uid: u32, gid: u32, groups: Vec<u32>) -> User {
    let mut once: Vec<u32> = Vec::with_capacity(groups.len());
    let mut seen = std::collections::HashSet::new();
    once.extend(groups.into_iter().filter(|group| seen.insert(*group)).take(MAX_GROUPS));
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid).set_additional_gids(Some(once));
    user
}

fn checked(field: &str, id: i64) -> Result<u32, StartFailure> {
    id_of(id).ok_or_else(|| {
        config_error(format!("{field} {id} must be between 0 and {MAX_ID}, inclusive"))
    })
}

fn check_not_root(
    pod: &Pod,
    container: &Container,
    run_as: Option<i64>,
    image: &ImageUser<'_>,
) -> Result<(), StartFailure> {
    let whose = format!("(pod: {:?}, container: {})", pod_name(pod), container.name);
    match (run_as, image) {
        (Some(0), _) => {
            Err(config_error(format!("container's runAsUser breaks non-root policy {whose}")))
        }
        (Some(_), _) => Ok(()),
        (None, ImageUser::Id(0)) => Err(config_error(format!(
            "container has runAsNonRoot and image will run as root {whose}"
        ))),
        (None, ImageUser::Id(_)) => Ok(()),
        (None, ImageUser::Name(text) | ImageUser::Malformed(text)) => Err(config_error(format!(
            "container has runAsNonRoot and image has non-numeric user ({text}), cannot verify \
             user is non-root {whose}"
        ))),
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    uid: u32,
    /// 0 for a number that no account has.
    gid: u32,
    name: Option<String>,
}

/// The accounts and groups of an image, read when they are needed.
struct Files<'a> {
    root: &'a Root,
    opened: Option<Rootfs>,
}

impl<'a> Files<'a> {
    fn new(root: &'a Root) -> Self {
        Self { root, opened: None }
    }

    fn read(&mut self, path: &str) -> Result<String, StartFailure> {
        if self.opened.is_none() {
            let rootfs = self.root.open().map_err(|error| create_error(error.to_string()))?;
            self.opened = Some(Rootfs::new(rootfs));
        }
        let Some(rootfs) = &self.opened else { return Ok(String::new()) };
        read_inside(rootfs, Path::new(path)).map_err(|error| create_error(error.to_string()))
    }

    /// The account with a number. Nothing is looked up if nothing of it is needed.
    fn by_id(&mut self, uid: u32, strict: bool, gid: Option<i64>) -> Result<Known, StartFailure> {
        if strict && gid.is_some() {
            return Ok(Known { uid, gid: 0, name: None });
        }
        let text = self.read("/etc/passwd")?;
        let found = accounts(&text).find(|(_, id, _)| *id == uid);
        Ok(match found {
            Some((name, uid, gid)) => Known { uid, gid, name: Some(name.to_owned()) },
            None => Known { uid, gid: 0, name: None },
        })
    }

    fn by_name(&mut self, name: &str) -> Result<Known, StartFailure> {
        let text = self.read("/etc/passwd")?;
        let found = accounts(&text).find(|(known, _, _)| *known == name);
        let (name, uid, gid) = found.ok_or_else(|| {
            create_error(format!("unable to find user {name}: no entry in the image's /etc/passwd"))
        })?;
        Ok(Known { uid, gid, name: Some(name.to_owned()) })
    }

    /// The number of a group of USER.
    fn group(&mut self, group: &str) -> Result<u32, StartFailure> {
        if let Some(gid) = number(group) {
            return Ok(gid);
        }
        let text = if is_name(group) { self.read("/etc/group")? } else { String::new() };
        let found = groups(&text).find(|(name, _, _)| *name == group).map(|(_, gid, _)| gid);
        found.ok_or_else(|| {
            create_error(format!(
                "unable to find group {group}: no entry in the image's /etc/group"
            ))
        })
    }

    /// The groups that have a user as a member.
    fn groups_of(&mut self, user: &str) -> Result<Vec<u32>, StartFailure> {
        let text = self.read("/etc/group")?;
        let is_member = |members: &str| members.split(',').any(|member| member.trim() == user);
        let found = groups(&text).filter(|(_, _, members)| is_member(members));
        Ok(found.map(|(_, gid, _)| gid).collect())
    }
}

/// Reads a regular file of a rootfs; what is not there is empty. Nothing else is opened: a device
/// could do something, a FIFO would wait.
fn read_inside(rootfs: &Rootfs, path: &Path) -> Outcome<String> {
    let name = || format!("{} in the rootfs", path.display());
    let found = match rootfs.find(path) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        other => other.os("open", name)?,
    };
    let kind = fstat(&found).os("stat", name)?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        return Err(Error::Invalid(format!("{} must be a regular file", name())));
    }
    let file = File::open(proc_path(&found).as_str()).os("open", name)?;
    let content = read_bounded(file, MAX_FILE, &name())?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Name, uid and gid of each well-formed line. Source: passwd(5).
fn accounts(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        Some((name, number(fields.next()?)?, number(fields.next()?)?))
    })
}

/// Name, gid and members of each well-formed line. Source: group(5).
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let gid = number(fields.next()?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
