//! Forms of values that rules of several topics share.
//!
//! `field` is anything that displays as the JSON path; it is formatted only for an error.

use std::{ffi::OsStr, fmt::Display, os::unix::ffi::OsStrExt, path::Path};

use oci_spec::runtime::LinuxIdMapping;

use crate::{
    error::{Error, Result},
    oci::user::MAX_ID,
};

/// Longest name of a network interface, in bytes. Source: `IFNAMSIZ` - 1.
const MAX_INTERFACE_NAME: usize = 15;
/// Most ranges that a map may have. Source: user_namespaces(7).
const MAX_MAPPINGS: usize = 340;
/// Largest number in a list of CPUs or memory nodes; no kernel is built for more.
const MAX_LIST_NUMBER: u32 = 65535;

/// A broken rule.
pub(super) fn fail<T>(field: impl Display, reason: impl Display) -> Result<T> {
    Err(Error::config(field.to_string(), reason))
}

/// Strings that go through C end at the first NUL.
pub(super) fn no_nul(field: impl Display, value: impl AsRef<OsStr>) -> Result<()> {
    let value = value.as_ref();
    match value.as_bytes().contains(&0) {
        true => fail(field, format_args!("{value:?} contains a NUL byte")),
        false => Ok(()),
    }
}

/// As [`no_nul`], for every element.
pub(super) fn no_nuls(field: impl Display, values: Option<&[String]>) -> Result<()> {
    for (i, value) in values.unwrap_or_default().iter().enumerate() {
        no_nul(format_args!("{field}[{i}]"), value)?;
    }
    Ok(())
}

/// A path from the root.
pub(super) fn absolute(field: impl Display, path: &Path) -> Result<()> {
    if !path.is_absolute() {
        return fail(field, format_args!("{path:?} must be an absolute path"));
    }
    no_nul(field, path)
}

/// `KEY=value`, with a key.
pub(super) fn environment(field: impl Display, env: Option<&[String]>) -> Result<()> {
    for (i, entry) in env.unwrap_or_default().iter().enumerate() {
        let field = format_args!("{field}[{i}]");
        match entry.find('=') {
            None => return fail(field, format_args!("{entry:?} has no '=', must be KEY=value")),
            Some(0) => return fail(field, format_args!("{entry:?} has no key, must be KEY=value")),
            Some(_) => no_nul(field, entry)?,
        }
    }
    Ok(())
}

/// A user or group.
pub(super) fn id(field: impl Display, id: u32) -> Result<()> {
    match id {
        0..=MAX_ID => Ok(()),
        _ => fail(field, format_args!("{id} is not an id, allowed are 0 to {MAX_ID}")),
    }
}

/// CPUs or memory nodes, `0-3,7`. Source: cpuset(7), *List format*.
pub(super) fn number_list(field: impl Display, list: &str) -> Result<()> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n: &u32| digits && *n <= MAX_LIST_NUMBER)
    };
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => {}
            _ => {
                let allowed = "must be numbers and ranges like 0-3,7";
                return fail(field, format_args!("{list:?}: {part:?} is no range, {allowed}"));
            }
        }
    }
    Ok(())
}

/// A name that a network interface can have.
pub(super) fn interface_name(field: impl Display, name: &str) -> Result<()> {
    let clean = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    if matches!(name, "" | "." | "..")
        || name.len() > MAX_INTERFACE_NAME
        || !name.bytes().all(clean)
    {
        let allowed = format_args!(
            "must be 1 to {MAX_INTERFACE_NAME} characters without spaces, '/' and ':'"
        );
        return fail(field, format_args!("{name:?} is no interface name, {allowed}"));
    }
    Ok(())
}

/// One map of a user namespace or of a mount: what the kernel will take.
pub(super) fn id_mappings(field: impl Display, mappings: &[LinuxIdMapping]) -> Result<()> {
    if mappings.len() > MAX_MAPPINGS {
        let count = mappings.len();
        return fail(field, format_args!("{count} ranges, allowed are at most {MAX_MAPPINGS}"));
    }
    for (i, mapping) in mappings.iter().enumerate() {
        let field = |name| format!("{field}[{i}].{name}");
        if mapping.size() == 0 {
            return fail(field("size"), "0 maps nothing, must be at least 1");
        }
        for (name, first) in
            [("containerID", mapping.container_id()), ("hostID", mapping.host_id())]
        {
            if first.checked_add(mapping.size()).is_none() {
                let size = mapping.size();
                let text = format_args!("{first} with size {size} goes beyond {MAX_ID}");
                return fail(field(name), text);
            }
        }
    }
    no_overlap(&field, "containerID", mappings, |mapping| mapping.container_id())?;
    no_overlap(&field, "hostID", mappings, |mapping| mapping.host_id())
}

fn no_overlap(
    field: impl Display,
    name: &str,
    mappings: &[LinuxIdMapping],
    first: impl Fn(&LinuxIdMapping) -> u32,
) -> Result<()> {
    let mut ranges: Vec<_> =
        mappings.iter().enumerate().map(|(i, m)| (first(m), m.size(), i)).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let ((low, size, before), (next, _, index)) = (pair[0], pair[1]);
        if next - low < size {
            let text = format_args!("{next} overlaps the range of {size} from {low} in [{before}]");
            return fail(format_args!("{field}[{index}].{name}"), text);
        }
    }
    Ok(())
}
