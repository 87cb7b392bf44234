//! Screens, drawn on terminals that are not there.

use std::time::Duration;

use ipfilter_ebpf::abi::{Counter, Reason};
use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::*;

fn count(interface: &str, api: Option<u32>, reason: Reason, packets: u64) -> Count {
    Count {
        interface: Some(interface.to_owned()),
        api,
        reason,
        total: Counter {
            packets,
            bytes: packets * 60,
        },
    }
}

fn requests(api: Option<&str>, allowed: bool, requests: u64) -> RequestCount {
    RequestCount {
        api: api.map(str::to_owned),
        allowed,
        requests,
    }
}

fn sample(factor: u64) -> Sample {
    let talker = |last: u8, packets, ago| TopSourceRow {
        source: IpAddr::from([203, 0, 113, last]),
        api: "petstore".to_owned(),
        packets,
        ago: Duration::from_secs(ago),
    };
    Sample {
        instance: "default".to_owned(),
        pid: Some(7),
        interfaces: vec!["eth0 (native)".to_owned()],
        age: Some(Duration::from_secs(3700)),
        record: Record::default(),
        counts: vec![
            count("eth0", None, Reason::OtherPort, 40 * factor),
            count("eth0", Some(0), Reason::Allowed, 100 * factor),
            count("eth0", Some(0), Reason::Denied, 50_000 * factor),
            count("eth0", Some(0), Reason::NoRoom, 10_000 * factor),
            count("eth1", Some(0), Reason::Forbidden, 0),
        ],
        requests: vec![
            requests(Some("petstore"), true, 30 * factor),
            requests(Some("petstore"), true, 20 * factor),
            requests(None, false, 4 * factor),
        ],
        top_sources: Some(vec![
            talker(9, 3, 1),
            talker(10, 70_000, 60),
            talker(11, 5, 100_000),
        ]),
        since: Duration::from_secs(2),
    }
}

fn screen() -> Screen {
    let mut screen = Screen::new(false);
    (1..40).for_each(|factor| screen.take(sample(factor)));
    screen
}

fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| {
        (0..width)
            .map(move |x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height).map(|y| row(y).trim_end().to_owned()).collect()
}

#[test]
fn rates_totals_and_sources_are_shown() {
    let lines = drawn(&screen(), 80, 24);
    assert_eq!(lines[0], "ipfilter default  eth0 (native)");
    assert!(lines[1].starts_with("no reload yet"), "{lines:#?}");
    for (line, wanted) in [
        (3, "#0             eth0       drop         30.0k      2.3M"),
        (4, "#0             eth0       pass            50      3900"),
        (5, "petstore       requests   allow           25      1950"),
        (6, "-              eth0       pass            20      1560"),
        (7, "-              requests   deny             2       156"),
    ] {
        assert!(lines[line].starts_with(wanted), "{lines:#?}");
        // Every sample but the first, which has nothing to be compared with, is as high.
        assert!(lines[line].ends_with("█████"), "{lines:#?}");
    }
    assert_eq!(lines[8], "DENIED SOURCES (3, by most packets)");
    assert!(lines[10].starts_with("203.0.113.10 "), "{lines:#?}");
    assert!(
        lines[10].ends_with("petstore       70.0k     1m 0s ago"),
        "{lines:#?}"
    );
    assert!(lines[12].ends_with("3         1s ago"), "{lines:#?}");
    assert!(lines[23].starts_with("q quit"), "{lines:#?}");
    assert!(!lines.concat().contains("eth1"), "{lines:#?}");
}

#[test]
fn no_terminal_is_too_small_or_too_large() {
    let mut screen = screen();
    for answer in [None, Some("203.0.113.9 is denied\n".repeat(50))] {
        if let Some(answer) = answer {
            screen.explain(answer);
        }
        for width in (0..60).chain([80, 300]) {
            for height in (0..30).chain([200]) {
                if width > 0 && height > 0 {
                    drawn(&screen, width, height);
                }
            }
        }
    }
    assert_eq!(drawn(&screen, 10, 5), ["pass 70", "drop 30.0k", "", "", ""]);
    // Without anything to show, too.
    for (width, height) in [(1, 1), (10, 5), (80, 24)] {
        drawn(&Screen::new(true), width, height);
    }
}

#[test]
fn keys_pause_sort_filter_select_and_explain() {
    let mut screen = screen();
    let first = |screen: &Screen| screen.top_sources[0].source.to_string();
    for wanted in ["203.0.113.9", "203.0.113.9", "203.0.113.10"] {
        screen.press(Key::Character('s'));
        assert_eq!(first(&screen), wanted, "{:?}", screen.order);
    }
    screen.press(Key::Down);
    screen.press(Key::Down);
    screen.press(Key::Down);
    assert_eq!(screen.selected, 2);
    // It stays with its source, whatever comes before it.
    let selected = screen.top_sources[2].source;
    screen.press(Key::Character('s'));
    assert_eq!(screen.press(Key::Enter), Wish::Explain(selected));
    for key in "/.10q".chars() {
        assert_eq!(screen.press(Key::Character(key)), Wish::None);
    }
    screen.press(Key::Backspace);
    screen.press(Key::Enter);
    assert_eq!(screen.top_sources.len(), 1);
    assert!(drawn(&screen, 80, 24)[23].starts_with("[filter: .10, Esc clears]"));
    screen.press(Key::Escape);
    assert_eq!(screen.top_sources.len(), 3);
    screen.press(Key::Character(' '));
    let before = drawn(&screen, 80, 24);
    assert!(before[0].ends_with("PAUSED"));
    screen.take(sample(1000));
    assert_eq!(drawn(&screen, 80, 24), before);
    screen.press(Key::Character('p'));
    screen.take(sample(1001));
    assert_ne!(drawn(&screen, 80, 24), before);
    screen.fail("no counters".to_owned());
    assert!(drawn(&screen, 80, 24)[1].starts_with("no counters  no reload yet"));
    screen.explain("because\nof this".to_owned());
    let answer = drawn(&screen, 80, 24);
    assert!(answer[2].contains("because"), "{answer:#?}");
    // The key closes the text, and does nothing else.
    assert_eq!(screen.press(Key::Character('q')), Wish::None);
    assert_eq!(screen.press(Key::Character('q')), Wish::End);
}

#[test]
fn colours_are_used_where_they_may_be() {
    for colours in [true, false] {
        let mut screen = Screen::new(colours);
        screen.take(sample(1));
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &screen)).unwrap();
        let cells = terminal.backend().buffer().content().iter();
        let plain = cells
            .clone()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset);
        assert_eq!(plain, !colours);
    }
}
