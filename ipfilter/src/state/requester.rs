//! Who or what asked for something.

use std::{fmt, fs};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

/// Where users' names are ("passwd(5)").
const USERS: &str = "/etc/passwd";

/// The login of a process that belongs to none ("proc_pid_loginuid(5)").
const NOBODY: u32 = u32::MAX;

/// Who or what asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requester {
    /// A process of a user, by a command.
    User(User),
    /// SIGHUP, SIGTERM or SIGINT, whose senders are not known.
    Signal,
    /// A time that came.
    Clock,
    /// A file that changed.
    FileWatch,
    /// The kernel: an interface appeared, went away or was renamed.
    Kernel,
}

/// A user, as they were known then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Whose rights the process had.
    pub uid: u32,
    /// Their name, or the number.
    pub name: String,
    /// Who had logged in, whatever `sudo` has made of them since, where the kernel knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
}

impl Requester {
    /// The user of this process.
    #[must_use]
    pub fn own() -> Self {
        Self::user(geteuid().as_raw(), Some("self"))
    }

    /// The user of the process at the other end of a socket.
    pub(crate) fn of_process(uid: u32, pid: Option<i32>) -> Self {
        let pid = pid.map(|pid| pid.to_string());
        Self::user(uid, pid.as_deref())
    }

    fn user(uid: u32, process: Option<&str>) -> Self {
        let login = process.and_then(|process| {
            let text = fs::read_to_string(format!("/proc/{process}/loginuid")).ok()?;
            text.trim().parse().ok().filter(|login| *login != NOBODY)
        });
        let users = fs::read_to_string(USERS).unwrap_or_default();
        let login = login.filter(|login| *login != uid);
        Self::User(User {
            uid,
            name: name(&users, uid),
            login: login.map(|login| name(&users, login)),
        })
    }
}

/// The name of a user; the number if they have none there.
fn name(users: &str, uid: u32) -> String {
    let own = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    own.map_or_else(|| format!("uid {uid}"), Into::into)
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(User {
                name,
                login: Some(login),
                ..
            }) => f.pad(&format!("{login} as {name}")),
            Self::User(User { name, .. }) => f.pad(name),
            Self::Signal => f.pad("signal"),
            Self::Clock => f.pad("clock"),
            Self::FileWatch => f.pad("file watch"),
            Self::Kernel => f.pad("kernel"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_the_names_that_the_host_gives_them() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name(users, 0), "root");
        assert_eq!(name(users, 1000), "alice");
        assert_eq!(name(users, 7), "uid 7");
    }

    #[test]
    fn a_requester_is_shown_and_kept() {
        let alice = Requester::User(User {
            uid: 0,
            name: "root".into(),
            login: Some("alice".into()),
        });
        for (requester, shown) in [
            (alice, "alice as root"),
            (Requester::Signal, "signal"),
            (Requester::FileWatch, "file watch"),
        ] {
            assert_eq!(requester.to_string(), shown);
            let kept = serde_json::to_string(&requester).unwrap();
            assert_eq!(serde_json::from_str::<Requester>(&kept).unwrap(), requester);
        }
    }
}
