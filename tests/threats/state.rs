//! What carob keeps on the host, and by which names.

use crate::support::Host;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_state_directory_is_closed_to_others() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    let mode = fs::metadata(host.state_root().join(c.id())).unwrap().permissions().mode();
    assert_eq!(mode & 0o066, 0, "{mode:o}");
    for entry in fs::read_dir(host.state_root().join(c.id())).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        // The start fifo may be written by the container's user.
        let is_file = entry.file_type().unwrap().is_file();
        assert!(!is_file || mode & 0o022 == 0, "{}: {mode:o}", entry.path().display());
    }
}
