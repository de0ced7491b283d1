//! Who has layers mounted: they are not removed as long as it is there.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Store, open_dir, read_json, replace, to_json};
use crate::error::{Error, OsContext, Result};
use crate::image::digest::Digest;
use crate::sys::{dir, path, process};

/// The content of `use.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Use {
    /// The image.
    pub image: Digest,
    /// Chain ids of its layers.
    pub layers: Vec<Digest>,
    /// Who uses it.
    pub owner: Owner,
}

/// Who uses an image, and how to see that it is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Owner {
    /// A pod: as long as its state directory is there.
    Pod {
        /// `<root>/@pods/<namespace>_<name>`.
        state: PathBuf,
    },
    /// A container: as long as its state directory is there, or who is making it lives.
    Container {
        /// `<root>/<id>`.
        state: PathBuf,
        /// Pid of its maker.
        maker: i32,
        /// When its maker was started, as in field 22 of `/proc/<pid>/stat`.
        maker_started: u64,
    },
    /// `image mount`: as long as something is mounted there.
    Mount {
        /// The mount point.
        point: PathBuf,
    },
}

impl Owner {
    /// A container that this process is about to make.
    ///
    /// # Errors
    /// [`Error::Os`] if this process cannot be looked at.
    pub fn container(state: PathBuf) -> Result<Self> {
        let me = nix::unistd::getpid();
        let maker_started = process::stat(me)?.map_or(0, |stat| stat.start_time);
        Ok(Self::Container { state, maker: me.as_raw(), maker_started })
    }

    /// Whether it still uses the image.
    ///
    /// # Errors
    /// [`Error::Os`] if that cannot be told.
    pub fn is_there(&self) -> Result<bool> {
        let exists = |path: &Path| path.try_exists().os("look for", || path.display());
        match self {
            Self::Pod { state } => exists(state),
            Self::Container { state, maker, maker_started } => {
                let maker = process::stat(nix::unistd::Pid::from_raw(*maker))?;
                let lives =
                    maker.is_some_and(|is| is.is_alive() && is.start_time == *maker_started);
                Ok(lives || exists(state)?)
            }
            Self::Mount { point } => {
                Ok(path::mount_table()?.iter().any(|mount| mount.point == *point))
            }
        }
    }

    /// For people.
    #[must_use]
    pub fn show(&self) -> String {
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Self::Pod { state } => format!("pod {}", name(state)),
            Self::Container { state, .. } => format!("container {}", name(state)),
            Self::Mount { point } => format!("the mount at {}", point.display()),
        }
    }
}

impl Store {
    /// Makes a directory of this name for a use that begins; what was there is gone.
    /// [`Store::lock_content`] must be held until the owner is there.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn begin_use(&self, name: &str, begun: &Use) -> Result<PathBuf> {
        let uses = open_dir(&self.path("uses"))?;
        dir::remove(&uses, name).os("remove", || name.to_owned())?;
        let place = self.path("uses").join(name);
        DirBuilder::new().mode(0o700).create(&place).os("mkdir", || place.display())?;
        replace(&place.join("use.json"), &to_json(begun)?)?;
        Ok(place)
    }

    /// Ends a use; none is fine.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn end_use(&self, name: &str) -> Result<()> {
        match open_dir(&self.path("uses")) {
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(()),
            uses => dir::remove(&uses?, name).os("remove", || name.to_owned()),
        }
    }

    /// All uses with their names, also those whose owner is gone.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn uses(&self) -> Result<Vec<(String, Use)>> {
        let mut all = Vec::new();
        for name in super::names(&self.path("uses"))? {
            // One that was never finished has no owner.
            if let Some(found) = read_json::<Use>(&self.path("uses").join(&name).join("use.json"))?
            {
                all.push((name, found));
            }
        }
        Ok(all)
    }

    /// Who uses an image at present.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn owners(&self, image: &Digest) -> Result<Vec<Owner>> {
        let uses = self.uses()?.into_iter().map(|(_, found)| found);
        let mut owners = Vec::new();
        for found in uses.filter(|found| found.image == *image) {
            if found.owner.is_there()? {
                owners.push(found.owner);
            }
        }
        Ok(owners)
    }
}

/// An error that says who is in the way.
pub(super) fn in_use(image: &str, owners: &[Owner]) -> Error {
    let owners: Vec<String> = owners.iter().map(Owner::show).collect();
    Error::Invalid(format!("image {image} is used by {}", owners.join(", ")))
}
