use std::{env, process};

use super::*;

fn file(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("ipfilter-activity-{}-{name}", process::id()));
    let _: io::Result<()> = fs::remove_dir_all(&folder);
    folder.join("instance/activity.jsonl")
}

fn remove(path: &Path) {
    fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
}

fn entry(kind: Kind, what: &str) -> Entry {
    Entry::now(kind, Requester::Clock, Some("0f".into()), what)
}

#[test]
fn what_was_noted_is_read_again_in_its_order() {
    let path = file("order");
    assert!(read(&path).unwrap().is_empty());
    let all: Vec<_> = Kind::ALL.iter().map(|kind| entry(*kind, "x")).collect();
    for entry in &all {
        append(&path, std::slice::from_ref(entry)).unwrap();
    }
    append(&path, &all).unwrap();
    assert_eq!(read(&path).unwrap(), [all.clone(), all].concat());
    remove(&path);
}

#[test]
fn half_a_line_costs_no_other_line() {
    let path = file("torn");
    append(&path, &[entry(Kind::Start, "first")]).unwrap();
    let whole = fs::read(&path).unwrap();
    for end in 1..whole.len() {
        let half = whole.get(..end).unwrap();
        fs::write(&path, [&whole, half].concat()).unwrap();
        append(&path, &[entry(Kind::Stop, "last")]).unwrap();
        let read = read(&path).unwrap();
        let kinds: Vec<_> = read.iter().map(|entry| entry.kind).collect();
        // All of a line but its end is a line.
        let half = (end == whole.len() - 1).then_some(Kind::Start);
        let expected: Vec<_> = [Some(Kind::Start), half, Some(Kind::Stop)]
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(kinds, expected, "{end} bytes");
    }
    // A power cut leaves zeros, and a later version other kinds.
    fs::write(&path, b"\0\0\0\n{\"kind\":\"unheard\"}\n").unwrap();
    append(&path, &[entry(Kind::Stop, "last")]).unwrap();
    assert_eq!(read(&path).unwrap().len(), 1);
    remove(&path);
}

#[test]
fn the_file_stays_short_and_bans_push_out_no_reload() {
    let path = file("short");
    append(&path, &[entry(Kind::Reload, "the reload")]).unwrap();
    let ban = entry(Kind::OverrideAdded, &"ban ".repeat(60));
    let many = vec![ban; 100];
    for _ in 0..60 {
        append(&path, &many).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= LONG + (64 << 10));
    }
    let kept = read(&path).unwrap();
    assert_eq!(kept.first().unwrap().what, "the reload");
    let reloads = entry(Kind::Reload, &"reload ".repeat(40));
    append(&path, &vec![reloads; 2000]).unwrap();
    let kept = read(&path).unwrap();
    assert_eq!(kept.len(), 2 * KEPT);
    assert_eq!(kept.last().unwrap().kind, Kind::Reload);
    remove(&path);
}

#[test]
fn descriptions_are_one_line_that_can_be_shown() {
    assert_eq!(one_line("  two\n lines\u{1b}[31m \t"), "two lines [31m");
    assert_eq!(one_line(&"é".repeat(1000)).chars().count(), WIDEST + 2);
    assert_eq!(one_line(""), "");
}

#[test]
fn links_are_not_followed() {
    let path = file("links");
    let folder = path.parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("victim"), "precious").unwrap();
    std::os::unix::fs::symlink(folder.join("victim"), &path).unwrap();
    assert!(append(&path, &[entry(Kind::Start, "")]).is_err());
    assert_eq!(fs::read(folder.join("victim")).unwrap(), b"precious");
    remove(&path);
}
