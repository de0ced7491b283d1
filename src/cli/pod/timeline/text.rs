//! A timeline as bars of characters.

use std::time::Duration;

use crate::cli::output::{Colour, Paint, plain, shortened};
use crate::pod::age::exact_duration;
use crate::pod::timeline::{Activity, Lane, LaneKind, MarkKind, Timeline};

/// Narrower bars show nothing.
const LEAST_CELLS: usize = 10;
/// Longest name of a lane that is shown whole.
const LONGEST_LABEL: usize = 28;

/// Every line fits into `width` characters, if that is 40 or more.
pub(super) fn draw(timeline: &Timeline, width: usize, paint: Paint) -> String {
    let labels: Vec<String> = timeline.lanes.iter().map(label).collect();
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let label_width = longest.min(LONGEST_LABEL).min(width / 3);
    let cells = width.saturating_sub(label_width + 2).max(LEAST_CELLS);
    let mut text = shortened(&super::heading(timeline), width).into_owned() + "\n\n";
    text += &format!("{:label_width$}  {}\n", "", axis(timeline.length, cells));
    for (lane, label) in timeline.lanes.iter().zip(&labels) {
        let label = shortened(label, label_width);
        let bar = bar(lane, timeline.length, cells);
        text += &format!("{label:label_width$}  {}\n", painted(&bar, paint));
    }
    text.push('\n');
    text += &wrapped("", &legend(timeline), "   ", width);
    text.push('\n');
    for (lane, label) in timeline.lanes.iter().zip(&labels) {
        let label = shortened(label, label_width);
        text += &wrapped(&format!("{label:label_width$}  "), &summary(lane), ", ", width);
    }
    text
}

fn label(lane: &Lane) -> String {
    let name = plain(&lane.name);
    match lane.kind {
        LaneKind::Pod | LaneKind::App => name.into_owned(),
        LaneKind::Init => format!("{name} (init)"),
        LaneKind::Sidecar => format!("{name} (sidecar)"),
    }
}

/// One character of a bar: what most of its time was spent with, or what happened then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Activity(Activity),
    Mark(MarkKind),
    Nothing,
}

impl Cell {
    const fn glyph(self) -> char {
        match self {
            Self::Activity(activity) => glyph(activity),
            Self::Mark(mark) => mark_glyph(mark),
            Self::Nothing => ' ',
        }
    }

    const fn colour(self) -> Colour {
        match self {
            Self::Activity(activity) => match activity {
                Activity::Waiting => Colour::Dim,
                Activity::Init | Activity::Starting => Colour::Blue,
                Activity::NotReady => Colour::Yellow,
                Activity::Ready => Colour::Green,
                Activity::BackOff => Colour::Red,
                Activity::PreStop | Activity::Stopping | Activity::Ended { .. } => Colour::Magenta,
            },
            Self::Mark(MarkKind::Restart | MarkKind::Recovered) => Colour::Yellow,
            Self::Mark(_) => Colour::Red,
            Self::Nothing => Colour::Dim,
        }
    }
}

const fn glyph(activity: Activity) -> char {
    match activity {
        Activity::Waiting => '·',
        Activity::Init => '▓',
        Activity::Starting => '░',
        Activity::NotReady => '▒',
        Activity::Ready => '█',
        Activity::BackOff => '~',
        Activity::PreStop => '<',
        Activity::Stopping => '-',
        Activity::Ended { .. } => ' ',
    }
}

const fn mark_glyph(mark: MarkKind) -> char {
    match mark {
        MarkKind::Restart => 'R',
        MarkKind::Recovered => 'S',
        MarkKind::ProbeFailed => '!',
        MarkKind::Failed => 'F',
        MarkKind::Killed => 'K',
        MarkKind::OomKilled => 'M',
    }
}

fn bar(lane: &Lane, length: Duration, cells: usize) -> Vec<Cell> {
    let edges: Vec<Duration> = (0..=cells).map(|cell| share(length, cell, cells)).collect();
    let mut bar: Vec<Cell> = edges.windows(2).map(|edges| cell(lane, edges[0], edges[1])).collect();
    for mark in &lane.marks {
        let after = edges.iter().rposition(|edge| *edge <= mark.at).unwrap_or(0);
        let Some(cell) = bar.get_mut(after.min(cells - 1)) else { continue };
        match cell {
            Cell::Mark(there) if *there >= mark.kind => {}
            _ => *cell = Cell::Mark(mark.kind),
        }
    }
    bar
}

/// The part `number` of `count` of a duration.
fn share(length: Duration, number: usize, count: usize) -> Duration {
    let part = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    length.saturating_mul(part(number)) / part(count).max(1)
}

fn cell(lane: &Lane, from: Duration, to: Duration) -> Cell {
    let within =
        |span: &&crate::pod::timeline::Span| span.to.min(to).saturating_sub(span.from.max(from));
    let longest = lane.spans.iter().rev().max_by_key(within);
    match longest {
        Some(span) if within(&span) > Duration::ZERO => Cell::Activity(span.activity),
        _ => Cell::Nothing,
    }
}

fn painted(bar: &[Cell], paint: Paint) -> String {
    let runs = bar.chunk_by(|one, other| one.colour() == other.colour());
    let text = runs.map(|run| {
        let glyphs: String = run.iter().map(|cell| cell.glyph()).collect();
        let colour = run.first().map_or(Colour::Dim, |cell| cell.colour());
        if glyphs.trim().is_empty() { glyphs } else { paint.paint(colour, &glyphs) }
    });
    text.collect::<String>().trim_end().to_owned()
}

fn axis(length: Duration, cells: usize) -> String {
    let mut axis = String::new();
    let most = u64::try_from(cells / 10).unwrap_or(u64::MAX).max(1);
    for (at, text) in super::ticks(length, most) {
        let here = (0..cells).rfind(|cell| share(length, *cell, cells) <= at).unwrap_or(0);
        let used = axis.chars().count();
        // The last one may stick out.
        if here >= used && here + text.len() <= cells {
            axis.extend(std::iter::repeat_n(' ', here - used));
            axis += &text;
        }
    }
    axis
}

fn legend(timeline: &Timeline) -> Vec<String> {
    let mut activities: Vec<Activity> = Vec::new();
    let mut marks: Vec<MarkKind> = Vec::new();
    for lane in &timeline.lanes {
        for span in lane.spans.iter().filter(|span| !span.activity.is_end()) {
            if !activities.contains(&span.activity) {
                activities.push(span.activity);
            }
        }
        marks.extend(lane.marks.iter().map(|mark| mark.kind));
    }
    marks.sort_unstable();
    marks.dedup();
    let activities =
        activities.into_iter().map(|activity| format!("{} {}", glyph(activity), activity.name()));
    let marks = marks.into_iter().map(|mark| format!("{} {}", mark_glyph(mark), mark.name()));
    activities.chain(marks).collect()
}

/// `waiting 1.2s`, `ready 14.0s`, `exit code 0`, `2 restarts`.
fn summary(lane: &Lane) -> Vec<String> {
    let mut items: Vec<String> = lane
        .totals()
        .into_iter()
        .map(|(activity, time)| format!("{} {}", activity.name(), exact_duration(time)))
        .collect();
    items.extend(lane.exit_code().map(|code| format!("exit code {code}")));
    for (kind, one, many) in [
        (MarkKind::Restart, "restart", "restarts"),
        (MarkKind::Recovered, "return of the supervisor", "returns of the supervisor"),
        (MarkKind::ProbeFailed, "probe failure", "probe failures"),
        (MarkKind::Failed, "failure", "failures"),
        (MarkKind::OomKilled, "OOM kill", "OOM kills"),
        (MarkKind::Killed, "SIGKILL", "SIGKILLs"),
    ] {
        match lane.count(kind) {
            0 => {}
            1 => items.push(format!("1 {one}")),
            count => items.push(format!("{count} {many}")),
        }
    }
    items
}

/// Items in lines of `width`; the lines after the first are indented as far as the first one's
/// beginning is long.
fn wrapped(begin: &str, items: &[String], separator: &str, width: usize) -> String {
    let indent = begin.chars().count();
    let (mut text, mut used) = (begin.to_owned(), indent);
    for (index, item) in items.iter().enumerate() {
        let last = index + 1 == items.len();
        let comma = if last { "" } else { separator };
        let needs = item.chars().count() + comma.trim_end().len();
        if used > indent && used + needs > width {
            text.truncate(text.trim_end().len());
            text += &format!("\n{:indent$}", "");
            used = indent;
        }
        text += item;
        text += comma;
        used += item.chars().count() + comma.len();
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::timeline::tests::{life, pod, stamp};

    fn timeline() -> Timeline {
        let mut pod = pod();
        pod.record.as_mut().unwrap().ended = Some(stamp(40_000));
        Timeline::new(&pod, &life(), stamp(40_000))
    }

    #[test]
    fn a_life_as_text() {
        let expected = "\
pod demo in default: ended after 40.0s, since 2026-11-20 12:03:04 UTC

               0s            10s           20s           30s
pod            ·░░░░░░░░░░░░████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒████████████-------
setup (init)   ··▓▓▓▓
log (sidecar)  ······██████████████████████████████████████████████████
web            ······░░!░░▒▒████████M~~~~~~~~~~~~~R░░████████████<<<--K

· waiting   ░ starting up   █ ready   ▒ not ready   - stopping
▓ init running   ~ back-off   < preStop   R restart   ! probe failed
K SIGKILL   M out of memory

pod            waiting 1.0s, starting up 8.0s, ready 14.0s,
               not ready 12.0s, stopping 5.0s
setup (init)   waiting 1.2s, init running 2.8s, exit code 0
log (sidecar)  waiting 4.1s, not ready 0.10s, ready 35.0s,
               stopping 0.20s, exit code 0
web            waiting 4.5s, starting up 5.5s, not ready 1.0s,
               ready 14.0s, back-off 10.0s, preStop 2.0s, stopping 2.1s,
               exit code 137, 1 restart, 1 probe failure, 1 OOM kill,
               1 SIGKILL
";
        assert_eq!(draw(&timeline(), 72, Paint::Plain), expected);
    }

    #[test]
    fn lines_fit_whatever_the_names_are() {
        let mut timeline = timeline();
        timeline.lanes[3].name = format!("\x1b[2J{}", "x".repeat(80));
        timeline.name = "\x1b]0;".into();
        for width in [40, 60, 200] {
            let text = draw(&timeline, width, Paint::Plain);
            assert!(!text.contains('\x1b'), "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
                assert_eq!(line, line.trim_end());
            }
        }
        draw(&timeline, 0, Paint::Plain);
        timeline.length = Duration::ZERO;
        draw(&timeline, 72, Paint::Plain);
    }

    #[test]
    fn colours_only_on_terminals() {
        let text = draw(&timeline(), 72, Paint::Colours);
        assert!(text.contains("\x1b[32m█"), "{text}");
        let mut bare = text.clone();
        for code in [0, 2, 31, 32, 33, 34, 35] {
            bare = bare.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(bare, draw(&timeline(), 72, Paint::Plain));
    }
}
