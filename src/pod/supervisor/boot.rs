//! A state root that survives a reboot: nothing of what its records say runs any more.

use crate::pod::clock::Stamp;
use crate::pod::decide::transition;
use crate::pod::record::{Ended, PodRecord};
use crate::pod::rules::PodRules;

/// The record of a pod whose machine has been booted anew since it was written, where the state
/// root survives that: nothing of it runs, and a new life begins.
pub(super) fn after_boot(rules: &PodRules, record: PodRecord, boot: &str) -> PodRecord {
    let is_old = record.started.is_some() && !record.boot.is_empty() && record.boot != boot;
    let mut record = if is_old && record.ended.is_none() { reborn(rules, record) } else { record };
    boot.clone_into(&mut record.boot);
    record
}

fn reborn(rules: &PodRules, mut old: PodRecord) -> PodRecord {
    let now = Stamp::now();
    let running: Vec<(String, String)> = old
        .containers()
        .filter_map(|container| Some((container.name.clone(), container.running()?.id.clone())))
        .collect();
    for (name, id) in running {
        transition::on_exit(
            &mut old,
            &name,
            Ended {
                id,
                exit_code: 137,
                signal: None,
                reason: "ContainerStatusUnknown".to_owned(),
                message: String::new(),
                started: None,
                finished: now,
                killed: None,
            },
        );
    }
    PodRecord::new(rules, now).continuing(Some(&old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::decide::transition::Instance;

    #[test]
    fn a_boot_ends_all_instances_and_counts_on() {
        let pod = serde_json::json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "rootfs:/"}]},
        });
        let rules = PodRules::from_pod(&serde_json::from_value(pod).unwrap()).unwrap();
        let mut record = PodRecord::new(&rules, Stamp::now());
        record = after_boot(&rules, record, "first");
        record.started = Some(Stamp::now());
        let instance = Instance { id: "p_c_0".into(), pid: 1, since: Stamp::now() };
        transition::on_started(&rules, &mut record, "c", instance);
        assert_eq!(after_boot(&rules, record.clone(), "first"), record, "the same boot");

        let reborn = after_boot(&rules, record, "second");

        let container = reborn.container("c").unwrap();
        assert!(container.running().is_none() && reborn.started.is_none());
        assert_eq!(container.last.as_ref().unwrap().reason, "ContainerStatusUnknown");
        assert_eq!(container.next_restart_count(), 1);
        assert_eq!(reborn.boot, "second");
    }
}
