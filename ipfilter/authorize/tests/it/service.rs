//! A running service, and a client for it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process::Guard;

/// How long something may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service, deciding by one policy until it is dropped.
pub(crate) struct Service {
    pub(crate) guard: Guard,
    folder: TempDir,
}

impl Service {
    /// Runs it with a configuration of one API, whose options are `api`.
    pub(crate) fn start(policy: &Value, api: &Value, authorize: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.json"), policy.to_string()).unwrap();
        let socket = folder.path().join("authorize.sock");
        let mut api = api.clone();
        for (key, value) in [
            ("name", json!("api")),
            ("ports", json!([8080])),
            ("policy", json!("policy.json")),
            ("allow_partial", json!(true)),
        ] {
            api[key] = value;
        }
        let mut authorize = authorize.clone();
        authorize["listen"] = json!(format!("unix:{}", socket.display()));
        let config = json!({"interfaces": ["lo"], "apis": [api], "authorize": authorize});
        let file = folder.path().join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let guard = run(&file, folder.path());
        let service = Self { guard, folder };
        let start = Instant::now();
        while UnixStream::connect(service.socket()).is_err() {
            let said = service.said();
            assert!(
                start.elapsed() < PATIENCE,
                "never listens: {said}\n{config}"
            );
            assert!(!said.contains("error"), "{said}\n{config}");
            std::thread::sleep(Duration::from_millis(5));
        }
        service
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("authorize.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn run(config: &Path, folder: &Path) -> Guard {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipfilter-authorize"));
    command.arg("--config").arg(config).arg("--reveal");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Guard::spawn(&mut command).unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// Sends `head` as it is, and reads the answer. The connection can be used again.
pub(crate) fn ask(stream: &mut (impl Read + Write), head: &[u8]) -> std::io::Result<Answer> {
    stream.write_all(head)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let mut body = Vec::new();
    if head.starts_with(b"HEAD ") {
        return Ok(Answer {
            status,
            headers,
            body: String::new(),
        });
    }
    match headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
    {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        None => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(Answer {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
