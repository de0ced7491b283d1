//! Writes settings and device rules into an open cgroup.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::write;

use super::controller::Controller;
use super::device_program::program;
use super::device_rules::{Exceptions, Rule};
use super::dir::Dir;
use super::plan::DeviceForm;
use super::settings::{Missing, Setting, Value};
use crate::error::{Error, OsContext, Result};
use crate::sys::bpf;

/// Writes each setting.
///
/// Some limits bound each other (memory and memory plus swap, period, quota and burst), so which
/// one may be written first depends on what is there. Instead of reading that, what is refused
/// with `EINVAL` is tried again after the others, as long as that gets anything further.
pub(super) fn settings<'a>(dir: &Dir, list: impl Iterator<Item = &'a Setting>) -> Result<()> {
    let mut pending: Vec<&Setting> = list.collect();
    loop {
        let mut refused = Vec::new();
        for setting in &pending {
            match write_setting(dir, setting) {
                Err((Errno::EINVAL, _)) => refused.push(*setting),
                Err((errno, file)) => return Err(explain(dir, setting, &file, errno)),
                Ok(()) => {}
            }
        }
        match refused.first() {
            None => return Ok(()),
            Some(first) if refused.len() == pending.len() => {
                let (file, _) = &first.files[0];
                return Err(explain(dir, first, file, Errno::EINVAL));
            }
            Some(_) => pending = refused,
        }
    }
}

/// Writes one setting to the first of its files that exists.
fn write_setting(dir: &Dir, setting: &Setting) -> std::result::Result<(), (Errno, String)> {
    for (file, value) in &setting.files {
        let result = match value {
            Value::Text(text) => dir.write_raw(file, text),
            Value::CpuPeriod(period) => with_current_quota(dir, file, *period),
        };
        match result {
            Err(Errno::ENOENT) => {}
            other => return other.map_err(|errno| (errno, file.to_string())),
        }
    }
    match setting.missing {
        Missing::Fine => Ok(()),
        Missing::Error => Err((Errno::ENOENT, setting.files[0].0.to_string())),
    }
}

fn with_current_quota(dir: &Dir, file: &str, period: u64) -> nix::Result<()> {
    let current = dir
        .read_raw(file)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let quota = current.split_whitespace().next().unwrap_or("max");
    dir.write_raw(file, &format!("{quota} {period}"))
}

/// The kernel's refusal in terms of the configuration.
fn explain(dir: &Dir, setting: &Setting, file: &str, errno: Errno) -> Error {
    let value = setting.files.iter().find_map(|(name, value)| match value {
        Value::Text(text) if name == file => Some(text.clone()),
        Value::Text(_) => None,
        Value::CpuPeriod(period) => Some(period.to_string()),
    });
    let value = value.unwrap_or_default();
    let path = dir.path().display();
    if errno == Errno::ENOENT {
        // Not the errno's own words: clients take them for a missing executable.
        return Error::config(
            &*setting.field,
            format!("{value}: this kernel has no {file} in {path}"),
        );
    }
    if errno == Errno::EBUSY && file.starts_with("memory.") {
        let number = |names: &[&str]| {
            let read = |name: &&str| Some(dir.read_raw(name).ok()?.trim().to_owned());
            names.iter().find_map(read).unwrap_or_else(|| "unknown".to_owned())
        };
        let usage = number(&["memory.usage_in_bytes", "memory.current"]);
        let peak = number(&["memory.max_usage_in_bytes", "memory.peak"]);
        return Error::config(
            &*setting.field,
            format!("cannot set {file} to {value} (current usage: {usage}, peak usage: {peak})"),
        );
    }
    if setting.controller == Controller::Cpuset
        && let Some(allowed) = cpuset_above(dir, file)
    {
        let cause = std::io::Error::from(errno);
        let reason =
            format!("{value:?}: allowed here are {allowed} (write {path}/{file}: {cause})");
        return Error::config(&*setting.field, reason);
    }
    Error::Os {
        op: "write",
        target: format!("{value:?} to {path}/{file} ({})", setting.field),
        source: errno.into(),
    }
}

/// The CPUs or memory nodes that the cgroup above may give away.
fn cpuset_above(dir: &Dir, file: &str) -> Option<String> {
    let above = Dir::open(dir.path().parent()?.to_owned()).ok()?;
    // v2 has it in a file of its own; v1 in the one that is set, too.
    let read = |name: &str| above.read_raw(name).ok().map(|list| list.trim().to_owned());
    read(&format!("{file}.effective")).or_else(|| read(file)).filter(|list| !list.is_empty())
}

/// Puts the device rules in force.
pub(super) fn devices(dir: &Dir, form: &DeviceForm) -> Result<()> {
    match form {
        DeviceForm::V1(exceptions) => v1_devices(dir, exceptions),
        DeviceForm::V2(rules) => v2_devices(dir, rules),
    }
}

fn v1_devices(dir: &Dir, rules: &Exceptions) -> Result<()> {
    dir.write(rules.reset_file(), "a")?;
    if rules.exceptions.is_empty() {
        return Ok(());
    }
    let name = rules.file();
    let target = || format!("{}/{name}", dir.path().display());
    let file = dir.open_file(name, OFlag::O_WRONLY).os("open", target)?;
    for line in rules.lines() {
        write(&file, line.as_bytes())
            .os("write", || format!("{line:?} to {} (linux.resources.devices)", target()))?;
    }
    Ok(())
}

/// Attaches the program, or puts it in the place of the one that an earlier container left in a
/// cgroup that existed already, so that at no moment the cgroup is without one.
fn v2_devices(dir: &Dir, rules: &[Rule]) -> Result<()> {
    let target = || format!("{} (linux.resources.devices)", dir.path().display());
    let new = load(&program(rules))?;
    let old = bpf::device_programs(dir.fd()).os("query device programs of", target)?;
    if let [old] = old.as_slice()
        && bpf::replace_device_program(dir.fd(), &new, old).is_ok()
    {
        return Ok(());
    }
    bpf::attach_device_program(dir.fd(), &new).os("attach device program to", target)?;
    for old in old {
        bpf::detach_device_program(dir.fd(), &old).os("detach device program from", target)?;
    }
    Ok(())
}

fn load(code: &[bpf::Instruction]) -> Result<OwnedFd> {
    let loaded = match bpf::load_device_program(code) {
        // Before Linux 5.11 programs count against RLIMIT_MEMLOCK, which is small by default.
        Err((Errno::EPERM, _)) => with_memlock_raised(|| bpf::load_device_program(code)),
        other => other,
    };
    loaded.map_err(|(errno, log)| Error::Os {
        op: "load device program",
        target: if log.is_empty() { "(linux.resources.devices)".to_owned() } else { log },
        source: errno.into(),
    })
}

fn with_memlock_raised<T>(load: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::RLIMIT_MEMLOCK);
    let infinity = nix::sys::resource::RLIM_INFINITY;
    let raised = setrlimit(Resource::RLIMIT_MEMLOCK, infinity, infinity);
    let loaded = load();
    if let (Ok((soft, hard)), Ok(())) = (before, raised) {
        // The container must not inherit our limit; lowering cannot fail.
        setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).ok();
    }
    loaded
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::plan::{Plan, Scope};
    use super::super::tests::Fixture;
    use super::*;

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn a_denied_device_stays_denied_while_its_rules_are_replaced() {
        const NONE: &str = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
        const ANOTHER: &str = r#"{"devices":[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"minor":200,"access":"rw"}]}"#;
        let work = std::env::temp_dir().join(format!("carob-replaced-{}", std::process::id()));
        fs::create_dir(&work).unwrap();
        let mut fixture = Fixture::create(NONE);
        // 1:11 is kmsg, which only the rules keep from root.
        fixture.run(&format!(
            "cd {} && mknod kmsg c 1 11 && n=0 && \
             while ! true <kmsg; do n=$((n+1)); echo $n >tries; done; sleep 1000",
            work.display()
        ));
        let tries = || -> u64 {
            let text = fs::read_to_string(work.join("tries")).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        fixture.wait_for("a try", |_| tries() > 0);
        fs::File::open(work.join("kmsg")).unwrap();
        let plans = [ANOTHER, NONE].map(|json| {
            let resources = serde_json::from_str(json).unwrap();
            Plan::new(&fixture.cgroup, Some(&resources), Scope::Create).unwrap()
        });
        let index = (0..).find(|index| plans[0].devices_of(*index).is_some()).unwrap();
        let (_, path) = fixture.cgroup.paths().nth(index).unwrap();
        let dir = Dir::open(path).unwrap();
        for _ in 0..20 {
            let before = tries();
            for plan in plans.iter().cycle().take(20) {
                devices(&dir, plan.devices_of(index).unwrap()).unwrap();
            }
            // Once it has been opened, there are no more.
            fixture.wait_for("more tries", |_| tries() > before);
        }
        if let Some(DeviceForm::V2(_)) = plans[0].devices() {
            assert_eq!(bpf::device_programs(dir.fd()).unwrap().len(), 1);
        }
        drop(fixture);
        fs::remove_dir_all(&work).unwrap();
    }
}
