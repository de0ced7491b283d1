//! `linux.devices`.

use std::path::Component;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::values::{absolute, fail, id};
use crate::{error::Result, oci::Warning};

/// Source: `MINORBITS` of the kernel: 12 bits for the major number, 20 for the minor.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;
/// Permission bits and, because some clients copy `st_mode` whole, the file type.
const MODE_BITS: u32 = 0o177_777;

pub(super) fn devices(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref());
    let devices = devices.unwrap_or_default();
    for (i, device) in devices.iter().enumerate() {
        node(&format!("linux.devices[{i}]"), device)?;
        let same_path = devices[..i].iter().find(|before| before.path() == device.path());
        if same_path.is_some_and(|before| identity(before) != identity(device)) {
            let text = format_args!("{:?} is there twice, as different devices", device.path());
            return fail(format_args!("linux.devices[{i}].path"), text);
        }
    }
    Ok(())
}

fn identity(device: &LinuxDevice) -> (LinuxDeviceType, i64, i64) {
    (device.typ(), device.major(), device.minor())
}

fn node(field: &str, device: &LinuxDevice) -> Result<()> {
    let path = device.path();
    absolute(format_args!("{field}.path"), path)?;
    let is_plain = |part: Component<'_>| !matches!(part, Component::ParentDir);
    if !path.components().all(is_plain) || path.file_name().is_none() {
        let text = format_args!("{path:?} must name a file and not contain \"..\"");
        return fail(format_args!("{field}.path"), text);
    }
    numbers(field, device)?;
    if let Some(mode) = device.file_mode().filter(|mode| mode & !MODE_BITS != 0) {
        let text = format_args!("{mode} is no file mode, allowed are 0 to 4095 (octal 7777)");
        return fail(format_args!("{field}.fileMode"), text);
    }
    id(format_args!("{field}.uid"), device.uid().unwrap_or(0))?;
    id(format_args!("{field}.gid"), device.gid().unwrap_or(0))
}

fn numbers(field: &str, device: &LinuxDevice) -> Result<()> {
    match device.typ() {
        LinuxDeviceType::A => {
            return fail(
                format_args!("{field}.type"),
                "\"a\" is no device, allowed are c, b, u, p",
            );
        }
        LinuxDeviceType::P => return Ok(()),
        LinuxDeviceType::B | LinuxDeviceType::C | LinuxDeviceType::U => {}
    }
    if (device.major(), device.minor()) == (0, 0) {
        return fail(format_args!("{field}.major"), "is missing or 0:0, required unless type is p");
    }
    for (name, number, max) in
        [("major", device.major(), MAX_MAJOR), ("minor", device.minor(), MAX_MINOR)]
    {
        if !(0..=max).contains(&number) {
            let text = format_args!("{number}, allowed are 0 to {max}");
            return fail(format_args!("{field}.{name}"), text);
        }
    }
    Ok(())
}
