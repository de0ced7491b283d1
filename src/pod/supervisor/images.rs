//! The images that a container needs: its own, and those that are volumes.

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource};

use super::{Supervisor, rootfs};
use crate::error::{Error, Result};
use crate::image::{Owner, Use};
use crate::pod::member::{self, Image, Root};
use crate::pod::record::StartFailure;
use crate::pod::volume;

impl Supervisor {
    /// The image of a container that is about to be started, with its volumes of images mounted;
    /// `None` if something has to be waited for.
    pub(super) fn image(&mut self, container: &Container) -> Result<Option<Image>, StartFailure> {
        let name = container.name.as_str();
        if self.is_pulling(name) {
            return Ok(None);
        }
        let outcome = self.find_images(container);
        if !matches!(outcome, Ok(None)) {
            // What was found is for one start.
            self.pulls.remove(name);
        }
        outcome
    }

    fn find_images(&mut self, container: &Container) -> Result<Option<Image>, StartFailure> {
        let name = container.name.as_str();
        let reference = container.image.as_deref().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref();
        let Some(image) = self.find_image(name, reference, policy)? else { return Ok(None) };
        for (volume, source) in self.image_volumes(container) {
            if !self.mount_volume(name, &volume, &source)? {
                return Ok(None);
            }
        }
        self.hold(name, &image).map_err(not_made)?;
        Ok(Some(image))
    }

    /// An image that a container needs; `None` if it is pulled now.
    fn find_image(
        &mut self,
        container: &str,
        reference: &str,
        policy: Option<&str>,
    ) -> Result<Option<Image>, StartFailure> {
        let store = self.file.dirs.images();
        let known = self.pulls.get(container).and_then(|pulls| pulls.done.get(reference)).cloned();
        if let Some(Some(id)) = known {
            return member::image::by_id(reference, &id, &store).map(Some);
        }
        let found = member::image::find(reference, policy, &store)?;
        if found.is_none() {
            self.begin_pull(container, reference).map_err(|error| StartFailure {
                reason: "ErrImagePull".to_owned(),
                message: format!("failed to pull image {reference:?}: {error}"),
            })?;
        } else if known.is_none() {
            let text = format!("Container image {reference:?} already present on machine");
            self.normal("Pulled", Some(container), text);
            // Not said again when another one has been waited for.
            let pulls = self.pulls.entry(container.to_owned()).or_default();
            pulls.done.insert(reference.to_owned(), None);
        }
        Ok(found)
    }

    /// The volumes of a container that are images.
    fn image_volumes(&self, container: &Container) -> Vec<(String, ImageVolumeSource)> {
        let spec = self.file.manifest.pod.spec.as_ref();
        let volumes = spec.and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let is_mounted = |name: &str| mounts.iter().any(|mount| mount.name == name);
        let wanted = volumes.iter().filter(|volume| is_mounted(&volume.name));
        wanted.filter_map(|volume| Some((volume.name.clone(), volume.image.clone()?))).collect()
    }

    /// Mounts a volume for all containers of the pod; false if its image has to be waited for.
    /// Once mounted, it stays what it is for as long as the pod is there.
    fn mount_volume(
        &mut self,
        container: &str,
        volume: &str,
        source: &ImageVolumeSource,
    ) -> Result<bool, StartFailure> {
        if volume::image::is_mounted(&self.file.dirs, volume) {
            return Ok(true);
        }
        let reference = source.reference.as_deref().unwrap_or_default();
        let policy = source.pull_policy.as_deref();
        let Some(image) = self.find_image(container, reference, policy)? else { return Ok(false) };
        // No container has a dot in its name.
        self.hold(&format!("volume.{volume}"), &image).map_err(not_made)?;
        let sandbox = self.sandbox_record()?;
        rootfs::read_only(sandbox, &image.root)
            .and_then(|tree| volume::image::mount(&self.file.dirs, volume, &tree))
            .map_err(|error| {
                let text = format!("failed to mount image volume {volume:?}: {error}");
                member::create_error(text)
            })?;
        Ok(true)
    }

    /// Keeps the layers of an image from being removed for as long as the pod is there.
    fn hold(&self, name: &str, image: &Image) -> Result<()> {
        let Root::Layers { store, image, layers } = &image.root else { return Ok(()) };
        let _lock = store.lock_content()?;
        // Removed since it was looked up?
        store.open_layers(layers)?;
        let owner = Owner::Pod { state: self.file.dirs.state.clone() };
        let begun = Use { image: image.clone(), layers: layers.clone(), owner };
        store.begin_use(&format!("pod-{}-{name}", self.rules.uid), &begun).map(drop)
    }
}

fn not_made(error: Error) -> StartFailure {
    member::create_error(error.to_string())
}
