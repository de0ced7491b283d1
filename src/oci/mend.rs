//! What the runtime specification allows and oci-spec 0.10 refuses to parse; the outer two
//! levels are read by `oci::parse`.
//!
//! Works on the JSON text's value, after the first parse has failed. Each row of [`MENDS`] is
//! one difference; when oci-spec loses it, the row goes.

use serde_json::{Map, Value};

use super::{Warning, capabilities, load::Document};
use crate::error::{Error, Result};

/// Each returns whether it changed something.
const MENDS: &[fn(&mut Value, Document) -> bool] = &[scheduler_flags, huge_pages];

/// Changes `value` so that oci-spec parses it with the meaning that the specification gives it.
/// Returns whether there was anything to change.
///
/// # Errors
/// A capability name that no kernel can know, which oci-spec might take for another one.
pub(super) fn mend(
    value: &mut Value,
    document: Document,
    warnings: &mut Vec<Warning>,
) -> Result<bool> {
    let changed = unknown_capabilities(value, document, warnings)?;
    Ok(MENDS.iter().fold(changed, |changed, mend| mend(value, document) | changed))
}

fn process(value: &mut Value, document: Document) -> Option<&mut Map<String, Value>> {
    value.pointer_mut(document.process()?)?.as_object_mut()
}

/// A capability that this version does not know is left out with a warning. oci-spec refuses
/// most of these, but takes `CAP_CAP_KILL` for `CAP_KILL` and `kill` for the same.
fn unknown_capabilities(
    value: &mut Value,
    document: Document,
    warnings: &mut Vec<Warning>,
) -> Result<bool> {
    let sets = process(value, document).and_then(|p| p.get_mut("capabilities")?.as_object_mut());
    let mut changed = false;
    for (set, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        for (index, name) in names.iter().enumerate() {
            let field = || format!("process.capabilities.{set}[{index}]");
            match name.as_str() {
                Some(name) if !capabilities::is_well_formed(name) => {
                    return Err(Error::config(field(), capabilities::malformed(name)));
                }
                Some(name) if capabilities::from_name(name).is_none() => {
                    warnings.push(Warning::new(field(), format!("{name:?} is unknown, left out")));
                    changed = true;
                }
                _ => {}
            }
        }
        names.retain(|name| {
            name.as_str().is_none_or(|name| capabilities::from_name(name).is_some())
        });
    }
    Ok(changed)
}

/// oci-spec spells two of the flags in its own way.
fn scheduler_flags(value: &mut Value, document: Document) -> bool {
    let flags = process(value, document)
        .and_then(|p| p.get_mut("scheduler")?.get_mut("flags")?.as_array_mut());
    let mut changed = false;
    for flag in flags.into_iter().flatten() {
        let spelling = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = Value::from(spelling);
        changed = true;
    }
    changed
}

/// The limit is unsigned in the specification; beyond 2⁶³ there is no memory to limit.
fn huge_pages(value: &mut Value, document: Document) -> bool {
    let limits = document
        .resources()
        .and_then(|pointer| value.pointer_mut(pointer)?.get_mut("hugepageLimits")?.as_array_mut());
    let mut changed = false;
    for entry in limits.into_iter().flatten() {
        if let Some(limit) = entry.get_mut("limit")
            && limit.is_u64()
            && !limit.is_i64()
        {
            *limit = Value::from(i64::MAX);
            changed = true;
        }
    }
    changed
}
