//! Ids that the administrator has given to a user: `/etc/subuid`, `/etc/subgid`.
//!
//! Source: subuid(5).

use std::ops::Range;

/// A range of host ids.
type Ids = Range<u64>;

/// The ranges that the text of such a file gives to a user, by name or by number.
pub(super) fn granted(text: &str, name: Option<&str>, uid: u32) -> Vec<Ids> {
    let uid = uid.to_string();
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let first = first.parse::<u32>().ok()?;
        let count = count.parse::<u32>().ok()?;
        (Some(owner) == name || owner == uid)
            .then(|| u64::from(first)..u64::from(first) + u64::from(count))
    };
    text.lines().filter_map(line).collect()
}

/// Whether every id of `wanted` is in one of the ranges.
pub(super) fn covers(ranges: &[Ids], wanted: &Ids) -> bool {
    let mut next = wanted.start;
    // Each round gets further or ends.
    while next < wanted.end {
        match ranges.iter().filter(|range| range.contains(&next)).map(|range| range.end).max() {
            Some(end) => next = end,
            None => return false,
        }
    }
    true
}

/// The ranges for a message.
pub(super) fn text(ranges: &[Ids]) -> String {
    if ranges.is_empty() {
        return "none".to_owned();
    }
    let range = |ids: &Ids| format!("{}-{}", ids.start, ids.end.saturating_sub(1));
    ranges.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "me:100000:65536\n# no\nyou:200000:10\n1000:300000:5\nme:165536:10\nbad:x\n";

    #[test]
    fn ranges_are_given_by_name_and_by_number() {
        let ranges = granted(TEXT, Some("me"), 1000);
        assert_eq!(ranges, [100_000..165_536, 300_000..300_005, 165_536..165_546]);
        assert_eq!(text(&granted(TEXT, None, 1000)), "300000-300004");
        assert!(granted(TEXT, Some("nobody"), 65534).is_empty());
    }

    #[test]
    fn what_is_wanted_may_lie_in_several_ranges() {
        let ranges = granted(TEXT, Some("me"), 1000);
        assert!(covers(&ranges, &(100_000..165_546)));
        assert!(covers(&ranges, &(165_540..165_546)));
        assert!(!covers(&ranges, &(100_000..165_547)));
        assert!(!covers(&ranges, &(0..1)));
        assert!(covers(&[], &(5..5)));
        assert!(granted("me:4294967295:4294967295", Some("me"), 1).len() == 1);
    }
}
