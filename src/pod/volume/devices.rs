//! `volumeDevices`: block volumes as devices of a container.

use std::os::unix::fs::MetadataExt;

use k8s_openapi::api::core::v1::{Container, VolumeDevice};
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::source::{self, Source};
use super::{Place, StartFailure};
use crate::pod::member::{self, spec::Device};

/// The devices that a container gets by its claims.
///
/// # Errors
/// `CreateContainerConfigError` in the kubelet's words.
pub fn devices(place: &Place<'_>, container: &Container) -> Result<Vec<Device>, StartFailure> {
    let wanted = container.volume_devices.iter().flatten();
    wanted.map(|wanted| device(place, container, wanted).map_err(member::config_error)).collect()
}

fn device(
    place: &Place<'_>,
    container: &Container,
    wanted: &VolumeDevice,
) -> Result<Device, String> {
    let (name, container) = (&wanted.name, &container.name);
    let volume = source::volumes(place).find(|volume| volume.name == *name).ok_or_else(|| {
        format!("cannot find volume {name:?} to pass into container {container:?}")
    })?;
    let resolved = source::resolve(place, volume)?;
    let read_only = resolved.read_only;
    let Source::Device(path) = resolved.source else {
        return Err(format!(
            "volume {name} has volumeMode Filesystem, but is specified in volumeDevices"
        ));
    };
    let found = std::fs::metadata(path).map_err(|error| format!("stat {path}: {error}"))?;
    let number = found.rdev();
    let mut device = LinuxDevice::default();
    device
        .set_path(wanted.device_path.clone().into())
        .set_typ(LinuxDeviceType::B)
        .set_major(i64::try_from(major(number)).unwrap_or(0))
        .set_minor(i64::try_from(minor(number)).unwrap_or(0))
        .set_file_mode(Some(0o660));
    Ok(Device { node: device, access: if read_only { "rm" } else { "rwm" } })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Host;
    use super::*;

    #[test]
    fn only_block_volumes_are_devices() {
        let mut host = Host::new(
            r#"{"containers":[{"name":"c","volumeDevices":[{"name":"v","devicePath":"/dev/d"}],
                    "volumeMounts":[{"name":"v","mountPath":"/v"}]}],
                "volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"p"}}]}"#,
        );
        let mut bind = |volume: serde_json::Value| {
            let objects = &mut host.manifest.objects;
            let claim = serde_json::json!({"spec": {"volumeName": "pv"}, "metadata": {}});
            objects.claims.insert("p".into(), serde_json::from_value(claim).unwrap());
            let volume = serde_json::json!({"spec": volume, "metadata": {}});
            objects.volumes.insert("pv".into(), serde_json::from_value(volume).unwrap());
            let container = host.manifest.pod.spec.as_ref().unwrap().containers[0].clone();
            let mounted = super::super::mounts(&host.place(), &container, &[], 0);
            (devices(&host.place(), &container), mounted)
        };
        let message = |failure: StartFailure| failure.message;
        let (devices, _) = bind(serde_json::json!({"local": {"path": "/usr"}}));
        assert_eq!(
            devices.map_err(message),
            Err("volume v has volumeMode Filesystem, but is specified in volumeDevices".into())
        );
        // What it is, `prepare` checks.
        let block = serde_json::json!({"local": {"path": "/dev/null"}, "volumeMode": "Block"});
        let (devices, mounted) = bind(block);
        let devices = devices.unwrap();
        assert_eq!((devices[0].node.major(), devices[0].node.minor()), (1, 3));
        assert_eq!(devices[0].node.path(), std::path::Path::new("/dev/d"));
        assert_eq!(
            mounted.map_err(message),
            Err("volume v has volumeMode Block, but is specified in volumeMounts".into())
        );
    }
}
