//! A timeline as a picture: SVG that stands for itself, in light and dark surroundings.

use std::fmt;
use std::time::Duration;

use crate::pod::age::exact_duration;
use crate::pod::timeline::{Activity, Lane, LaneKind, Mark, MarkKind, Span, Timeline};

/// Units of the drawing; a browser shows them as pixels.
const WIDTH: f64 = 960.0;
const PLOT_LEFT: f64 = 170.0;
const PLOT_RIGHT: f64 = 940.0;
const TOP: f64 = 72.0;
const ROW: f64 = 30.0;
const BAR: f64 = 18.0;
/// Width of a character at the sizes used here, at most.
const LABEL_CHARACTER: f64 = 7.2;
const BAR_CHARACTER: f64 = 6.2;

/// Fill of bars in light and in dark, and the name of the class.
const CLASSES: &[(&str, &str, &str)] = &[
    ("waiting", "#d0d7de", "#3d444d"),
    ("init", "#b392f0", "#8957e5"),
    ("starting", "#54aeff", "#388bfd"),
    ("not-ready", "#eac54f", "#bb8009"),
    ("ready", "#2da44e", "#2ea043"),
    ("back-off", "#ffa198", "#da3633"),
    ("pre-stop", "#e287b9", "#bf4b8a"),
    ("stopping", "#b08968", "#7d5a3c"),
    ("restart", "#0969da", "#4493f8"),
    ("recovered", "#1b7c83", "#39c5cf"),
    ("probe-failed", "#bc4c00", "#db6d28"),
    ("failed", "#cf222e", "#f85149"),
    ("killed", "#57606a", "#9198a1"),
    ("oom-killed", "#a40e26", "#ff7b72"),
];

/// The whole file.
pub(super) fn draw(timeline: &Timeline) -> String {
    let rows = u32::try_from(timeline.lanes.len()).unwrap_or(0);
    let bottom = TOP + ROW * f64::from(rows);
    let legend = legend(timeline, bottom + 30.0);
    let height = legend.bottom + 20.0;
    let heading = escape(&super::heading(timeline));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         role=\"img\">\n<title>{heading}</title>\n<style>\n{}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height:.0}\"/>\n\
         <text class=\"ink head\" x=\"20\" y=\"28\">{heading}</text>\n",
        style()
    );
    axis(&mut svg, timeline.length, bottom);
    for (number, lane) in (0_u32..).zip(&timeline.lanes) {
        row(&mut svg, lane, timeline.length, TOP + ROW * f64::from(number));
    }
    svg + &legend.svg + "</svg>\n"
}

fn style() -> String {
    let mut style = String::from(
        "text{font:12px ui-sans-serif,system-ui,sans-serif}\n\
         .head{font-size:15px;font-weight:600}\n.small{font-size:11px}\n\
         .in{font-size:10px;fill:#000}\n.sign{font-size:9px;font-weight:700;fill:#fff}\n\
         .paper{fill:#fff}\n.ink{fill:#1f2328}\n.faint{fill:#59636e}\n\
         .grid{stroke:#d1d9e0;stroke-width:1}\n.gone{stroke:#818b98;stroke-dasharray:1 4}\n",
    );
    for (class, light, _) in CLASSES {
        style += &format!(".{class}{{fill:{light}}}\n");
    }
    style += "@media (prefers-color-scheme:dark){\n\
              .paper{fill:#0d1117}\n.ink{fill:#f0f6fc}\n.faint{fill:#9198a1}\n.in{fill:#fff}\n\
              .sign{fill:#0d1117}\n.grid{stroke:#3d444d}\n.gone{stroke:#656c76}\n";
    for (class, _, dark) in CLASSES {
        style += &format!(".{class}{{fill:{dark}}}\n");
    }
    style + "}\n"
}

const fn class(activity: Activity) -> &'static str {
    match activity {
        Activity::Waiting => "waiting",
        Activity::Init => "init",
        Activity::Starting => "starting",
        Activity::NotReady => "not-ready",
        Activity::Ready => "ready",
        Activity::BackOff => "back-off",
        Activity::PreStop => "pre-stop",
        Activity::Stopping => "stopping",
        Activity::Ended { .. } => "gone",
    }
}

const fn sign(kind: MarkKind) -> (&'static str, char) {
    match kind {
        MarkKind::Restart => ("restart", 'R'),
        MarkKind::Recovered => ("recovered", 'S'),
        MarkKind::ProbeFailed => ("probe-failed", '!'),
        MarkKind::Failed => ("failed", 'F'),
        MarkKind::Killed => ("killed", 'K'),
        MarkKind::OomKilled => ("oom-killed", 'M'),
    }
}

fn x(at: Duration, length: Duration) -> f64 {
    let part = at.as_secs_f64() / length.as_secs_f64().max(f64::MIN_POSITIVE);
    PLOT_LEFT + part.clamp(0.0, 1.0) * (PLOT_RIGHT - PLOT_LEFT)
}

fn axis(svg: &mut String, length: Duration, bottom: f64) {
    for (at, text) in super::ticks(length, 10) {
        let x = x(at, length);
        line(
            svg,
            format_args!(
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\"/>\n\
             <text class=\"faint small\" x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{text}\
             </text>",
                TOP - 8.0,
                TOP - 14.0
            ),
        );
    }
}

fn row(svg: &mut String, lane: &Lane, length: Duration, y: f64) {
    let kind = match lane.kind {
        LaneKind::Pod | LaneKind::App => "",
        LaneKind::Init => " (init)",
        LaneKind::Sidecar => " (sidecar)",
    };
    let name = format!("{}{kind}", lane.name);
    let short = crate::cli::output::shortened(&name, 20);
    line(
        svg,
        format_args!(
            "<text class=\"ink\" x=\"20\" y=\"{:.0}\">{}<title>{}</title></text>",
            y + 15.0,
            escape(&short),
            escape(&name)
        ),
    );
    for span in &lane.spans {
        bar(svg, span, length, y);
    }
    for mark in &lane.marks {
        sign_of(svg, mark, length, y);
    }
}

fn bar(svg: &mut String, span: &Span, length: Duration, y: f64) {
    let (from, to) = (x(span.from, length), x(span.to, length));
    let time = exact_duration(span.to.saturating_sub(span.from));
    let begin = exact_duration(span.from);
    let middle = y + 1.0 + BAR / 2.0;
    if let Activity::Ended { exit_code } = span.activity {
        return end(svg, exit_code, (from, to), middle, &begin);
    }
    let (name, class) = (span.activity.name(), class(span.activity));
    // What is too short to be seen is what one looks for: half a pixel at least.
    let width = (to - from).max(0.5);
    line(
        svg,
        format_args!(
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
         height=\"{BAR}\"><title>{name} for {time}, from {begin}</title></rect>",
            y + 1.0
        ),
    );
    let label = format!("{name} {time}");
    let label = if fits(&label, width) { label } else { time };
    if fits(&label, width) {
        let (x, y) = (from + width / 2.0, middle + 3.5);
        line(
            svg,
            format_args!(
                "<text class=\"in\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" \
             pointer-events=\"none\">{label}</text>"
            ),
        );
    }
}

/// A line for the time after the end, behind the exit code where that fits.
fn end(svg: &mut String, exit_code: Option<i32>, (from, to): (f64, f64), y: f64, begin: &str) {
    let label = exit_code.map(|code| format!("exit {code}")).unwrap_or_default();
    let mut left = from;
    if !label.is_empty() && fits(&label, to - from) {
        left += 12.0 + text_width(&label, BAR_CHARACTER);
        line(
            svg,
            format_args!(
                "<text class=\"faint small\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                from + 4.0,
                y + 4.0
            ),
        );
    }
    line(
        svg,
        format_args!(
            "<line class=\"gone\" x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\">\
             <title>ended at {begin} {label}</title></line>"
        ),
    );
}

fn fits(label: &str, width: f64) -> bool {
    text_width(label, BAR_CHARACTER) + 8.0 <= width
}

fn text_width(text: &str, character: f64) -> f64 {
    f64::from(u32::try_from(text.chars().count()).unwrap_or(u32::MAX)) * character
}

fn sign_of(svg: &mut String, mark: &Mark, length: Duration, y: f64) {
    let (x, y) = (x(mark.at, length), y + BAR + 3.0);
    let (class, sign) = sign(mark.kind);
    line(
        svg,
        format_args!(
            "<g><title>{} at {}: {}</title><circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" \
         r=\"6\"/><text class=\"sign\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{sign}\
         </text></g>",
            mark.kind.name(),
            exact_duration(mark.at),
            escape(&mark.message),
            y + 3.2
        ),
    );
}

fn line(svg: &mut String, text: fmt::Arguments) {
    *svg += &format!("{text}\n");
}

struct Legend {
    svg: String,
    bottom: f64,
}

fn legend(timeline: &Timeline, top: f64) -> Legend {
    let mut entries: Vec<(&str, &str, String)> = Vec::new();
    let spans = timeline.lanes.iter().flat_map(|lane| &lane.spans);
    for span in spans.filter(|span| !span.activity.is_end()) {
        entries.push((class(span.activity), span.activity.name(), String::new()));
    }
    let mut kinds: Vec<MarkKind> =
        timeline.lanes.iter().flat_map(|lane| &lane.marks).map(|mark| mark.kind).collect();
    kinds.sort_unstable();
    for kind in kinds {
        let (class, sign) = sign(kind);
        entries.push((class, kind.name(), sign.to_string()));
    }
    let mut legend = Legend { svg: String::new(), bottom: top };
    let mut x = 20.0;
    for (index, (class, name, sign)) in entries.iter().enumerate() {
        if entries[..index].iter().any(|(before, ..)| before == class) {
            continue;
        }
        let width = 34.0 + text_width(name, LABEL_CHARACTER);
        if x + width > PLOT_RIGHT {
            (x, legend.bottom) = (20.0, legend.bottom + 22.0);
        }
        let y = legend.bottom;
        line(
            &mut legend.svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" \
             rx=\"{}\"/>\n<text class=\"sign\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">\
             {sign}</text>\n<text class=\"ink\" x=\"{:.1}\" y=\"{y:.1}\">{name}</text>",
                y - 10.0,
                if sign.is_empty() { 1 } else { 6 },
                x + 6.0,
                y - 0.8,
                x + 18.0
            ),
        );
        x += width;
    }
    legend
}

/// Text for content and attributes; characters that XML cannot hold, and those that would turn or
/// hide other text, are replaced.
fn escape(text: &str) -> String {
    let text = crate::cli::output::plain(text);
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
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

    /// Fails on anything but nested elements with quoted attributes and escaped text.
    fn check_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find(['<', '&']) {
            assert!(
                !open.is_empty() || rest[..start].trim().is_empty(),
                "text outside: {rest:.80}"
            );
            rest = &rest[start..];
            if rest.starts_with('&') {
                let end = rest.find(';').unwrap();
                assert!(
                    ["&amp", "&lt", "&gt", "&quot", "&#39"].contains(&&rest[..end]),
                    "{rest:.80}"
                );
                rest = &rest[end..];
                continue;
            }
            let (tag, after) = rest[1..].split_once('>').unwrap();
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
                continue;
            }
            let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            while !attributes.trim().is_empty() {
                let (_, value) = attributes.split_once("=\"").unwrap();
                attributes = value.split_once('"').unwrap().1;
            }
            if !empty {
                open.push(name);
            }
        }
        assert_eq!(open, [""; 0]);
        assert!(rest.trim().is_empty(), "{rest}");
        let allowed = |c: char| c == '\n' || !c.is_control();
        assert!(svg.chars().all(allowed));
    }

    #[test]
    fn the_picture_is_well_formed_whatever_the_texts_are() {
        let mut timeline = timeline();
        check_well_formed(&draw(&timeline));
        let hostile = "</title><script>alert('1')</script>\"&]]>\u{0}\u{1b}[31m\u{ffff}\u{202e}";
        timeline.name = hostile.into();
        timeline.lanes[3].name = hostile.into();
        timeline.lanes[3].marks[0].message = hostile.into();
        let svg = draw(&timeline);
        check_well_formed(&svg);
        assert!(!svg.contains("<script"), "{svg}");
        timeline.length = Duration::ZERO;
        let svg = draw(&timeline);
        check_well_formed(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    }

    #[test]
    fn the_picture_says_what_was_when() {
        let svg = draw(&timeline());
        for part in [
            "viewBox=\"0 0 960 ",
            "prefers-color-scheme:dark",
            "<title>init running for 2.8s, from 1.2s</title>",
            "<title>back-off for 10.0s, from 15.0s</title>",
            "back-off 10.0s</text>",
            "probe failed at 6.0s: Unhealthy: Startup probe failed: &lt;no&gt;\\u{1b}[31m",
            ">web<title>web</title></text>",
            ">log (sidecar)<title>",
            ">20s</text>",
        ] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        for class in CLASSES.iter().map(|(class, ..)| class) {
            assert_eq!(svg.matches(&format!(".{class}{{")).count(), 2, "{class}");
        }
    }
}
