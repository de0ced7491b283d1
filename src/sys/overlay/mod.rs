//! An overlay of directories, mounted nowhere.

mod many;

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::dir;
use super::fd::proc_path;
use super::mount::{self, NewFileSystem, Refused};

/// Longest value of an option. Source: fs/fsopen.c, `FSCONFIG_SET_STRING`.
const OPTION_BYTES: usize = 255;
/// What the kernel makes in a working directory. Source: fs/overlayfs/super.c, `OVL_WORKDIR_NAME`.
const KERNELS_OWN: &str = "work";

/// The directories of an overlay. Named by descriptors, so that neither the length of a path nor
/// what is in it (`:`, `,`, `\`) matters, and none of the host's paths is shown inside.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Read-only layers, the uppermost first; at least one, at least two without `upper`.
    pub lower: &'a [BorrowedFd<'a>],
    /// The layer that takes changes, and an empty directory of the same file system for the
    /// kernel's own use.
    pub upper: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Further words, e.g. `volatile`, `metacopy=on`.
    pub options: &'a [&'a str],
    /// MOUNT_ATTR_* of the mount.
    pub attributes: u64,
}

/// Makes the overlay.
///
/// More layers than an option has room for have an option each. Before Linux 6.8, which has that, and
/// for layers that are themselves mounted nowhere before Linux 6.15, there is a longer way.
///
/// # Errors
/// [`Refused`] as [`mount::create`].
pub fn create(overlay: &Overlay) -> Result<OwnedFd, Refused> {
    let options = options(overlay);
    let made = mount::create(&NewFileSystem {
        kind: "overlay",
        source: Some("overlay"),
        options: &options,
        attributes: overlay.attributes,
    });
    match made {
        Err(refused) if refused.errno == Errno::EINVAL => {
            // Its mark of an overlay without syncs is there already, and is refused the next time.
            let forgotten =
                overlay.upper.map_or(Ok(()), |(_, work)| dir::remove(work, KERNELS_OWN));
            forgotten
                .and_then(|()| many::create(overlay))
                .map_err(|errno| Refused { errno, ..refused })
        }
        other => other,
    }
}

fn options(overlay: &Overlay) -> Vec<String> {
    let layers: Vec<String> = overlay.lower.iter().map(proc_path).collect();
    let joined = layers.join(":");
    let mut words = if joined.len() <= OPTION_BYTES {
        vec![format!("lowerdir={joined}")]
    } else {
        layers.iter().map(|layer| format!("lowerdir+={layer}")).collect()
    };
    if let Some((upper, work)) = overlay.upper {
        words.push(format!("upperdir={}", proc_path(upper)));
        words.push(format!("workdir={}", proc_path(work)));
    }
    words.extend(overlay.options.iter().map(|&word| word.to_owned()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn many_layers_do_not_outgrow_an_option() {
        let file = std::fs::File::open("/").unwrap();
        let lower = [file.as_fd(); 100];
        let few =
            Overlay { lower: &lower[..2], upper: None, options: &["volatile"], attributes: 0 };
        let path = proc_path(&file);
        let words = vec![format!("lowerdir={path}:{path}"), "volatile".to_owned()];
        assert_eq!(options(&few), words);
        let many = options(&Overlay { lower: &lower, upper: Some((lower[0], lower[0])), ..few });
        assert_eq!(many.len(), 103);
        assert_eq!(many[0], format!("lowerdir+={path}"));
        assert_eq!(many[100..102], [format!("upperdir={path}"), format!("workdir={path}")]);
    }
}
