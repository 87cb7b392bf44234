//! A screen on a terminal of any size.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line as Text, Span},
    widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap},
};

use super::{Line, Screen};
use crate::state::Outcome;

/// The keys, for the last line.
const KEYS: &str = "q quit  p pause  s sort  / filter  ↑↓ select  e explain";

/// Below this width or height only the sums are shown.
const LEAST: (u16, u16) = (40, 8);

/// Draws a screen.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return sums(frame, area, screen);
    }
    let lines = screen.lines();
    let wanted = u16::try_from(lines.len().max(1)).unwrap_or(u16::MAX);
    let rates = wanted.saturating_add(1).min((area.height - 3) / 2 + 1);
    let [head, state, upper, lower, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(rates),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(heading(screen), head);
    frame.render_widget(condition(screen), state);
    draw_rates(frame, upper, screen, &lines);
    draw_talkers(frame, lower, screen);
    frame.render_widget(footer(screen), foot);
    if let Some((text, scrolled)) = &screen.told {
        let popup = inner(area);
        let block = Block::bordered().title(" explain (any key closes) ");
        let text = Paragraph::new(text.as_str()).wrap(Wrap { trim: false });
        frame.render_widget(Clear, popup);
        frame.render_widget(text.scroll((*scrolled, 0)).block(block), popup);
    }
}

/// A little smaller on each side.
fn inner(area: Rect) -> Rect {
    Rect {
        x: area.x + 2,
        y: area.y + 1,
        width: area.width.saturating_sub(4),
        height: area.height.saturating_sub(2),
    }
}

/// What fits the smallest terminal: how many packets a second have which verdict.
fn sums(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let all: Vec<_> = screen.history.shown().collect();
    let mut texts: Vec<Text<'_>> = Vec::new();
    for verdict in ["pass", "drop", "reject", "respond"] {
        let of_it = all.iter().filter(|line| line.verdict == verdict);
        let rate: u64 = of_it.clone().map(|line| line.last()).sum();
        if of_it.count() > 0 {
            texts.push(Text::styled(
                format!("{verdict} {}", short(rate)),
                style(screen, verdict),
            ));
        }
    }
    frame.render_widget(Paragraph::new(texts), area);
}

fn heading(screen: &Screen) -> Paragraph<'_> {
    let sample = &screen.sample;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled(format!("ipfilter {}", sample.instance), bold)];
    let interfaces = match sample.interfaces.as_slice() {
        [] => "filters nothing".to_owned(),
        [one, two, rest @ ..] if !rest.is_empty() => {
            format!("{one}, {two} and {} more", rest.len())
        }
        some => some.join(", "),
    };
    spans.push(Span::raw(format!("  {interfaces}")));
    if let Some(deployed) = sample.record.current() {
        let digest = deployed.digest.get(..8).unwrap_or(&deployed.digest);
        let age = sample
            .age
            .map_or_else(String::new, |age| format!(" for {}", span(age)));
        spans.push(Span::raw(format!("  plan {digest}{age}")));
    }
    for lenient in sample.record.current().iter().flat_map(|now| &now.apis) {
        if let Some(leniency) = lenient.share().leniency() {
            let text = format!("  {}: {leniency}", lenient.name);
            spans.push(Span::styled(text, bold));
        }
    }
    if screen.paused {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        spans.push(Span::styled("  PAUSED", reversed));
    }
    Paragraph::new(Text::from(spans))
}

/// What may be wrong, or else how the last reload went.
fn condition(screen: &Screen) -> Paragraph<'_> {
    let record = &screen.sample.record;
    let bad = style(screen, "drop");
    let mut spans: Vec<Span<'_>> = Vec::new();
    if let Some(why) = &screen.trouble {
        spans.push(Span::styled(format!("{why}  "), bad));
    }
    if record.why_degraded().is_some() {
        spans.push(Span::styled("degraded, see `ipfilter status`  ", bad));
    }
    if !record.waiting.is_empty() {
        let waiting = record.waiting.join(", ");
        spans.push(Span::styled(format!("waiting for {waiting}  "), bad));
    }
    match &record.last_reload {
        None => spans.push(Span::raw("no reload yet")),
        Some(reload) => {
            let (how, look) = match reload.outcome {
                Outcome::Deployed => ("deployed", Style::new()),
                Outcome::Failed => ("FAILED, the old plan stays", bad),
            };
            let told = format!("last reload {how} {:.0} ({})", reload.time, reload.cause);
            spans.push(Span::styled(told, look));
        }
    }
    if screen.sample.pid.is_none() {
        spans.push(Span::styled("  kept current by nobody", bad));
    }
    Paragraph::new(Text::from(spans))
}

fn footer(screen: &Screen) -> Paragraph<'_> {
    if screen.typing {
        return Paragraph::new(format!("filter: {}_", screen.filter));
    }
    let filter = match screen.filter.as_str() {
        "" => String::new(),
        text => format!("[filter: {text}, Esc clears]  "),
    };
    Paragraph::new(format!("{filter}{KEYS}"))
}

fn title(text: String) -> Block<'static> {
    let look = Style::new().add_modifier(Modifier::UNDERLINED);
    Block::new().title(Text::styled(text, look))
}

fn draw_rates(frame: &mut Frame<'_>, area: Rect, screen: &Screen, lines: &[&Line]) {
    let block = title(format!(
        "{:<14} {:<10} {:<8} {:>9} {:>9}",
        "API", "INTERFACE", "VERDICT", "PACKETS/S", "TOTAL"
    ));
    let rows = block.inner(area);
    frame.render_widget(block, area);
    if lines.is_empty() {
        return frame.render_widget(Paragraph::new("no packet yet"), rows);
    }
    for (line, y) in lines.iter().zip(rows.top()..rows.bottom()) {
        let row = Rect {
            y,
            height: 1,
            ..rows
        };
        let [text, graph] =
            Layout::horizontal([Constraint::Length(55), Constraint::Min(0)]).areas(row);
        let look = style(screen, line.verdict);
        let told = format!(
            "{} {} {:<8} {:>9} {:>9}",
            fitted(&line.api, 14),
            fitted(&line.interface, 10),
            line.verdict,
            short(line.last()),
            short(line.total)
        );
        frame.render_widget(Paragraph::new(told).style(look), text);
        let width = usize::from(graph.width);
        let first = line.rates.len().saturating_sub(width);
        let rates: Vec<u64> = line.rates.iter().skip(first).copied().collect();
        frame.render_widget(Sparkline::default().data(&rates).style(look), graph);
    }
}

fn draw_talkers(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let count = screen.top_sources.len();
    let block = title(format!(
        "DENIED SOURCES ({count}, by {})",
        screen.order.name()
    ));
    if screen.sample.top_sources.is_none() {
        return;
    }
    if count == 0 {
        let none = Paragraph::new("none, as far as is remembered");
        return frame.render_widget(none.block(block), area);
    }
    let rows = screen.top_sources.iter().map(|one| {
        Row::new([
            one.source.to_string(),
            one.api.clone(),
            short(one.packets),
            format!("{} ago", span(one.ago)),
        ])
    });
    let widths = [
        Constraint::Length(39),
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Min(8),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(["SOURCE", "API", "PACKETS", "LAST SEEN"]))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(block);
    let mut state = TableState::new().with_selected(screen.selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn style(screen: &Screen, verdict: &str) -> Style {
    if !screen.colours {
        return Style::new();
    }
    Style::new().fg(match verdict {
        "pass" | "allow" => Color::Green,
        "drop" | "deny" => Color::Red,
        "reject" => Color::Yellow,
        _ => Color::Magenta,
    })
}

/// A name in exactly so many columns, as far as its characters are one wide.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let kept: String = text.chars().take(width - 1).collect();
    format!("{kept}…")
}

/// A number in six characters or fewer.
fn short(number: u64) -> String {
    let units = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (10_000, "k"),
    ];
    let unit = units.iter().find(|(least, _)| number >= *least);
    match unit {
        None => number.to_string(),
        Some((10_000, _)) => format!("{}.{}k", number / 1000, number / 100 % 10),
        Some((unit, name)) => format!("{}.{}{name}", number / unit, number / (unit / 10) % 10),
    }
}

/// A time in its largest unit, or two.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}
