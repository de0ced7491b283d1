//! Command lines through clap's tree; no process is started.

use super::*;

#[test]
fn the_tree_is_consistent() {
    let mut tree = tree();
    tree.build();
    tree.debug_assert();
}
