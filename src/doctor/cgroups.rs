//! The cgroups of this host, and what of them the caller may use.

use super::{Check, Status};
use crate::cgroup::{self, Survey};

const SECTION: &str = "cgroups";

pub(super) fn checks() -> Vec<Check> {
    let survey = match cgroup::survey() {
        Ok(survey) => survey,
        Err(error) => return vec![none(error.to_string())],
    };
    let mut checks = vec![
        Check::new(SECTION, "layout", Status::Ok, survey.layout),
        controllers(&survey),
        rights(&survey),
    ];
    if let Some(delegated) = &survey.delegated {
        let found = if delegated.is_empty() { "none" } else { delegated };
        let check = Check::new(SECTION, "delegated controllers", Status::Ok, found);
        checks.push(check);
    }
    checks
}

fn none(error: String) -> Check {
    let root = nix::unistd::geteuid().is_root();
    let status = if root { Status::Fatal } else { Status::Missing };
    Check::new(SECTION, "layout", status, error)
        .advise("mount them: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
}

/// Limits that people set.
const EXPECTED: &[&str] = &["cpu", "cpuset", "memory", "pids"];

fn controllers(survey: &Survey) -> Check {
    let found = survey.controllers.join(" ");
    let missing: Vec<_> = EXPECTED
        .iter()
        .filter(|name| !survey.controllers.iter().any(|there| there == *name))
        .copied()
        .collect();
    if missing.is_empty() {
        return Check::new(SECTION, "controllers", Status::Ok, found);
    }
    let missing = missing.join(" ");
    Check::new(SECTION, "controllers", Status::Warn, format!("{found}; not there: {missing}"))
        .advise(
            "limits that need them are refused; see cgroup_disable= of the kernel's command line",
        )
}

fn rights(survey: &Survey) -> Check {
    const NAME: &str = "your rights";
    if survey.denied.is_empty() {
        let found = format!("containers get cgroups in {}", survey.place.display());
        return Check::new(SECTION, NAME, Status::Ok, found);
    }
    let found = if survey.usable == 0 {
        "you may not make any: containers run without limits, pause and statistics".to_owned()
    } else {
        format!("you may not make cgroups in {}", survey.denied.join(" "))
    };
    let check = Check::new(SECTION, NAME, Status::Missing, found);
    check.advise(
        "have one delegated: systemd-run --user --scope -p Delegate=yes carob …, or as root",
    )
}
