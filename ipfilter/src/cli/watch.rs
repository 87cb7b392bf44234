//! Showing something again and again, until Ctrl-C: on the whole terminal, or one below the other where
//! there is none.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::{DefaultTerminal, widgets::Paragraph};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::format::Format;
use crate::view::status::Size;

/// How soon a signal is noticed.
const NOTICE: Duration = Duration::from_millis(50);

/// The size of the terminal; where there is none, that of any.
pub(super) fn size() -> Size {
    let least = Size::default();
    let seen = io::stdout().is_terminal().then(crossterm::terminal::size);
    match seen {
        Some(Ok((width, height))) if width > 0 && height > 0 => Size {
            width: width.into(),
            height: height.into(),
        },
        _ => least,
    }
}

/// A flag that a signal to end raises.
pub(super) fn ended() -> anyhow::Result<Arc<AtomicBool>> {
    let end = Arc::new(AtomicBool::new(false));
    // SIGHUP ends it at once, as is its wont: the terminal has gone, and who reads from it reads nothing
    // for ever.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&end)).context("can't receive signals")?;
    }
    Ok(end)
}

/// Shows `text` anew after each `interval`.
pub(super) fn show(
    interval: Duration,
    format: Format,
    mut text: impl FnMut(Size) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let end = ended()?;
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !is_terminal || format == Format::Json {
        return print(interval, format, &end, text);
    }
    // Looked at before the terminal is another's: what is wrong stays readable.
    text(size())?;
    // The log would be written over the screen.
    log::set_max_level(log::LevelFilter::Off);
    let mut terminal = ratatui::try_init().context("can't use the terminal")?;
    let outcome = draw(&mut terminal, interval, &end, text);
    // Nothing can be done where the terminal has gone.
    let _: io::Result<()> = ratatui::try_restore();
    outcome
}

fn draw(
    terminal: &mut DefaultTerminal,
    interval: Duration,
    end: &AtomicBool,
    mut text: impl FnMut(Size) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    while !end.load(Ordering::Relaxed) {
        let shown = text(size()).unwrap_or_else(|error| format!("{error:#}\n"));
        terminal.draw(|frame| frame.render_widget(Paragraph::new(shown.as_str()), frame.area()))?;
        let due = Instant::now() + interval;
        while Instant::now() < due && !end.load(Ordering::Relaxed) {
            let wait = due.saturating_duration_since(Instant::now());
            if !event::poll(wait.min(NOTICE))? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if key.code == KeyCode::Char('q') => return Ok(()),
                Event::Key(key) if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                Event::Resize(..) => break,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Without a terminal: JSON one object a line, text with an empty line between.
fn print(
    interval: Duration,
    format: Format,
    end: &AtomicBool,
    mut text: impl FnMut(Size) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    while !end.load(Ordering::Relaxed) {
        write!(out, "{}", text(size())?)?;
        if format == Format::Text {
            writeln!(out)?;
        }
        out.flush()?;
        let due = Instant::now() + interval;
        while Instant::now() < due && !end.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()).min(NOTICE));
        }
    }
    Ok(())
}
