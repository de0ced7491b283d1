//! The progress of a pull on stderr: a bar on a terminal, else a line when something is done.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cli::output;
use crate::image::{Event, Progress};

/// Cells of a bar.
const BAR: u64 = 30;
/// Least time between two drawings.
const REDRAW: Duration = Duration::from_millis(100);

/// Progress for people.
pub(super) struct Shown {
    is_terminal: bool,
    state: RefCell<State>,
}

struct State {
    image: String,
    layers: usize,
    unpacked: usize,
    bytes: u64,
    fetched: u64,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            state: RefCell::new(State {
                image: String::new(),
                layers: 0,
                unpacked: 0,
                bytes: 0,
                fetched: 0,
                begun: Instant::now(),
                drawn: None,
            }),
        }
    }
}

/// Nobody may be there to see it.
fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _seen = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

impl Progress for Shown {
    fn event(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        let mut line = None;
        match event {
            Event::Found { image, layers, missing, bytes } => {
                state.image = image.to_string();
                (state.layers, state.bytes) = (missing, bytes);
                state.begun = Instant::now();
                line = Some(match missing {
                    0 => format!("{image}: all {layers} layers are here"),
                    _ => format!(
                        "{image}: fetching {missing} of {layers} layers, {}",
                        output::size(bytes)
                    ),
                });
            }
            Event::Fetched(bytes) => state.fetched += bytes,
            Event::Dropped(bytes) => state.fetched = state.fetched.saturating_sub(bytes),
            Event::Retry { layer, why } => {
                line = Some(format!("layer {}: {why}; trying again", layer.short()));
            }
            Event::Unpacked(layer) => {
                state.unpacked += 1;
                let (done, all) = (state.unpacked, state.layers);
                line = Some(format!("layer {}: done ({done} of {all})", layer.short()));
            }
        }
        match line {
            Some(line) if self.is_terminal => say(&format!("\r\x1b[K{line}\n{}", state.bar())),
            Some(line) => say(&format!("{line}\n")),
            None if self.is_terminal && state.is_due() => say(&format!("\r\x1b[K{}", state.bar())),
            None => {}
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.is_terminal {
            say("\r\x1b[K");
        }
    }
}

impl State {
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= REDRAW);
        if due {
            self.drawn = Some(now);
        }
        due
    }

    fn bar(&self) -> String {
        if self.bytes == 0 || self.unpacked == self.layers {
            return String::new();
        }
        let fetched = self.fetched.min(self.bytes);
        let cells = usize::try_from(BAR * fetched / self.bytes).unwrap_or(0);
        let speed = u128::from(self.fetched) * 1000 / self.begun.elapsed().as_millis().max(1);
        format!(
            "[{:<30}] {:>3}%  {} of {}  {}/s",
            "=".repeat(cells),
            fetched * 100 / self.bytes,
            output::size(fetched),
            output::size(self.bytes),
            output::size(u64::try_from(speed).unwrap_or(0)),
        )
    }
}
