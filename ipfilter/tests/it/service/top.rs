//! `ipfilter top` on a real terminal: tmux's.

use std::{fs, ops::Deref};

use rustix::process::{Pid, Signal, kill_process};
use testkit::process::is_gone;

use crate::{
    lab::{GOOD, Lab, ONLY_GOOD, allow, statuses, wait_for},
    terminal::{Terminal, line},
};

/// A terminal in which `ipfilter top` runs.
struct Screen<'l> {
    lab: &'l Lab,
    terminal: Terminal,
}

impl Deref for Screen<'_> {
    type Target = Terminal;

    fn deref(&self) -> &Terminal {
        &self.terminal
    }
}

impl<'l> Screen<'l> {
    /// Runs `ipfilter top` after a line of something else, and stays when it has ended.
    fn new(lab: &'l Lab, name: &str, variables: &str) -> Self {
        let folder = lab.folder.display();
        let command = lab.ipfilter(&["top", "--interval", "0.2"]);
        let line = line(&command, variables);
        lab.write("top", format!("echo $$ > {folder}/pid\n{line}\n"));
        let script = format!(
            "echo what was there\nstty -g > {folder}/before\nsh {folder}/top\n\
             echo ended with $?.\nstty -g > {folder}/after.part\n\
             mv {folder}/after.part {folder}/after\nexec sleep 600\n"
        );
        let script = lab.write("script", script);
        // One that ends is in the way of the next for a moment.
        let socket = format!("{}-{name}", lab.instance);
        Self {
            lab,
            terminal: Terminal::new(&socket, &format!("sh {script}")),
        }
    }

    /// What was on the terminal before is there again, and the terminal is as it was.
    fn is_as_it_was(&self, ended: &str) {
        let done = |line: &str| line.starts_with("ended with ") && line.ends_with('.');
        let shown = self.wait(|shown| shown.lines().any(done));
        let lines: Vec<_> = shown.lines().take(2).collect();
        assert_eq!(lines, ["what was there", ended], "{shown}");
        let after = self.lab.folder.join("after");
        wait_for("the terminal's state", || after.exists());
        let mode = |name: &str| fs::read_to_string(self.lab.folder.join(name)).expect("a file");
        assert_eq!(mode("before"), mode("after"));
        let cursor = self.tmux(&["display", "-p", "#{cursor_flag} #{alternate_on}"]);
        assert_eq!(cursor.trim(), "1 0");
        fs::remove_file(after).expect("a file");
    }

    fn pid(&self) -> Pid {
        let pid = fs::read_to_string(self.lab.folder.join("pid")).expect("a file");
        Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process")
    }
}

#[test]
fn a_terminal_shows_what_happens_and_is_left_as_it_was() {
    let lab = Lab::new("top");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--deny", "reject"]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let screen = Screen::new(&lab, "keys", "NO_COLOR=1");
    let shown = screen.wait(|shown| shown.contains("reject"));
    for part in [
        format!("ipfilter {}  eth0 (native)  plan ", lab.instance),
        "no reload yet".to_owned(),
        "api            eth0       pass ".to_owned(),
        "api            eth0       reject ".to_owned(),
        "PACKETS/S".to_owned(),
        "q quit".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    let coloured = screen.tmux(&["capture-pane", "-p", "-e"]);
    // `39` is the terminal's own colour.
    let colour = |number: u8| coloured.contains(&format!("\u{1b}[{number}m"));
    assert!(!(30..=38).any(colour), "{coloured:?}");
    let denied = |shown: &str| {
        let lines: Vec<_> = shown.lines().collect();
        let sources = ["203.0.113.10 ", "2001:db8:113::10 "];
        sources.iter().all(|source| {
            let mut lines = lines.iter().filter(|line| line.starts_with(source));
            lines.any(|line| line.contains(" api ") && line.ends_with(" ago"))
        })
    };
    screen.wait(denied);
    screen.keys(&["e"]);
    screen.wait(|shown| shown.contains("they agree") && shown.contains("deny ("));
    screen.keys(&["x"]);
    screen.wait(denied);
    screen.keys(&["p"]);
    screen.wait(|shown| shown.contains("PAUSED"));
    screen.keys(&["p", "/", "r", "e", "j", "e", "c", "Enter"]);
    screen.wait(|shown| shown.contains("[filter: rejec") && !shown.contains(" pass "));
    screen.keys(&["Escape"]);
    screen.wait(|shown| shown.contains(" pass "));
    screen.tmux(&["resize-window", "-x", "10", "-y", "5"]);
    screen.wait(|shown| shown.starts_with("pass 0\nreject 0"));
    screen.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    screen.wait(|shown| shown.contains("PACKETS/S"));
    screen.keys(&["q"]);
    screen.is_as_it_was("ended with 0.");
    drop(screen);
    // Ended from outside.
    for (name, signal) in [("term", Signal::TERM), ("int", Signal::INT)] {
        let screen = Screen::new(&lab, name, "");
        screen.wait(|shown| shown.contains("PACKETS/S"));
        kill_process(screen.pid(), signal).expect("it runs");
        screen.is_as_it_was("ended with 0.");
    }
    // The terminal goes away, and there is nobody left to show anything to.
    let screen = Screen::new(&lab, "gone", "");
    screen.wait(|shown| shown.contains("PACKETS/S"));
    let pid = screen.pid().as_raw_nonzero().get().cast_unsigned();
    drop(screen);
    wait_for("its end with its terminal", || is_gone(pid));
    let (code, said) = lab.tell(&["top"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("top needs a terminal"), "{said}");
    lab.detach(filter);
}
