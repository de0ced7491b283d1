//! What cgroups this host has, and what of them the caller may use: for people to read.

use std::fs;
use std::path::PathBuf;

use super::layout::{self, Hierarchy, Tree};
use super::{Cgroup, Chosen, plan};
use crate::error::Result;

/// The cgroups of a container that nobody makes.
#[derive(Debug, Clone)]
pub struct Survey {
    /// `cgroup v2`, `cgroup v1`, or both of them.
    pub layout: &'static str,
    /// Of all hierarchies, by the names that limits go by.
    pub controllers: Vec<String>,
    /// Where containers without `linux.cgroupsPath` get theirs, in the first hierarchy.
    pub place: PathBuf,
    /// Mount points of hierarchies in which the caller may not make any.
    pub denied: Vec<String>,
    /// How many hierarchies are left.
    pub usable: usize,
    /// On pure v2, the controllers that the caller can use in that place; `None` on others.
    pub delegated: Option<String>,
}

/// Looks; makes nothing.
///
/// # Errors
/// [`crate::error::Error::Unsupported`] where none is mounted.
pub fn survey() -> Result<Survey> {
    let hierarchies = layout::hierarchies(None, "container")?;
    let all = Cgroup { hierarchies, limited: None, unit: None };
    let has_v1 = all.hierarchies.iter().any(|hierarchy| hierarchy.tree != Tree::Unified);
    let has_v2 = all.hierarchies.iter().any(|hierarchy| hierarchy.tree == Tree::Unified);
    let layout = match (has_v1, has_v2) {
        (false, _) => "cgroup v2",
        (true, true) => "hybrid: cgroup v1, and a unified tree beside it",
        (true, false) => "cgroup v1",
    };
    let controllers = all.hierarchies.iter().flat_map(controllers).collect();
    let own = all.clone().within_rights(Chosen::ByDefault)?;
    let denied = own.limited.iter().flat_map(|limited| &limited.denied);
    let place = own.hierarchies.first().or(all.hierarchies.first());
    let place = place.and_then(|hierarchy| Some(hierarchy.dir().parent()?.to_owned()));
    let place = place.unwrap_or_default();
    let delegated = (plan::is_pure_v2(&all.hierarchies) && !own.is_missing())
        .then(|| fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default());
    Ok(Survey {
        layout,
        controllers,
        denied: denied.map(|hierarchy| hierarchy.mount.display().to_string()).collect(),
        usable: own.hierarchies.len(),
        delegated: delegated.map(|text| text.trim_end().to_owned()),
        place,
    })
}

fn controllers(hierarchy: &Hierarchy) -> Vec<String> {
    let words = |text: &str, by: fn(char) -> bool| {
        text.split(by).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    match &hierarchy.tree {
        Tree::V1(names) if names.starts_with("name=") => Vec::new(),
        Tree::V1(names) => words(names, |c| c == ','),
        Tree::Unified => {
            let file = hierarchy.mount.join("cgroup.controllers");
            words(&fs::read_to_string(file).unwrap_or_default(), char::is_whitespace)
        }
    }
}
