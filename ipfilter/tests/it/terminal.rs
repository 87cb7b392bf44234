//! A real terminal for programs that want one: tmux's.

use std::{fmt::Write as _, process::Command, thread, time::Instant};

use testkit::process::TICK;

use crate::lab::PATIENCE;

/// A terminal of 80×24. Dropped, it ends with everything in it.
pub(crate) struct Terminal {
    socket: String,
}

impl Terminal {
    /// Runs a line of shell in it.
    pub(crate) fn new(socket: &str, line: &str) -> Self {
        let terminal = Self {
            socket: socket.to_owned(),
        };
        terminal.tmux(&["new", "-d", "-x", "80", "-y", "24", line]);
        terminal
    }

    pub(crate) fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-L", &self.socket, "-f", "/dev/null"])
            .args(arguments)
            .output()
            .expect("tmux, which is needed here: apt-get install tmux");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub(crate) fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub(crate) fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until something is shown, and returns all that is.
    pub(crate) fn wait(&self, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let shown = self.shown();
            if wanted(&shown) {
                return shown;
            }
            assert!(start.elapsed() < PATIENCE, "{shown}");
            thread::sleep(TICK);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Best effort: it may have ended by itself.
        let _: std::io::Result<_> = Command::new("tmux")
            .args(["-L", &self.socket, "kill-server"])
            .output();
    }
}

/// A command as a line of shell that becomes it, with these variables before it.
pub(crate) fn line(command: &Command, variables: &str) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            write!(line, "{}='{}' ", name.display(), value.display()).expect("memory");
        }
    }
    write!(line, "{variables} exec {}", command.get_program().display()).expect("memory");
    for argument in command.get_args() {
        write!(line, " '{}'", argument.display()).expect("memory");
    }
    line
}
