//! A host without a filter: its socket for agents, and an agent.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use ipfilter_bundle::{
    Bundle, Digest, LARGEST, PublicKey, SignedRelease, frame,
    message::{Answer, GroupOverrides, HostState, InForce, Outcome, Request},
};
use jiff::Timestamp;
use testkit::process::Guard;

/// What stands for the filter's process.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) state: HostState,
    /// What it refuses bundles for.
    pub(crate) refuses: Option<String>,
    pub(crate) trusted: Vec<PublicKey>,
    /// Every bundle that was ever in force, in order.
    pub(crate) enforced: Vec<Bundle>,
    pub(crate) overrides: GroupOverrides,
    /// How many offers there were.
    pub(crate) offers: usize,
}

/// A host.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) filter: Arc<Mutex<Filter>>,
    pub(crate) socket: PathBuf,
    pub(crate) agent: Option<Guard>,
    pub(crate) log: PathBuf,
}

impl Host {
    /// One with nothing in force, and no agent yet.
    pub(crate) fn new(name: &str, folder: &Path) -> Self {
        let socket = folder.join(format!("{name}.fleet"));
        let filter = Arc::new(Mutex::new(Filter::default()));
        filter.lock().unwrap().state.version = "1.2.3".to_owned();
        let listener = UnixListener::bind(&socket).unwrap();
        let served = Arc::clone(&filter);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                thread::spawn(move || serve(&mut stream.unwrap(), &served));
            }
        });
        Self {
            name: name.to_owned(),
            filter,
            socket,
            agent: None,
            log: folder.join(format!("{name}.log")),
        }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> Option<u64> {
        let filter = self.filter.lock().unwrap();
        filter.state.bundle.map(|it| it.generation)
    }
}

fn serve(stream: &mut UnixStream, filter: &Mutex<Filter>) {
    // The agent goes away when it has its answer.
    while let Ok((request, body)) = frame::read::<Request>(stream, LARGEST) {
        let answer = filter.lock().unwrap().answer(&request, &body);
        if frame::write(stream, &answer, &[]).is_err() {
            return;
        }
    }
}

impl Filter {
    fn answer(&mut self, request: &Request, body: &[u8]) -> Answer {
        match request {
            Request::Offer(release) => Answer::Outcome(self.offer(release, body)),
            Request::Overrides(release) => Answer::Outcome(self.overrule(release, body)),
            _ => Answer::State(Box::new(self.state.clone())),
        }
    }

    fn offer(&mut self, release: &SignedRelease, body: &[u8]) -> Outcome {
        self.offers += 1;
        if let Err(refused) = release.verify(&self.trusted) {
            return Outcome::Refused(refused.to_string());
        }
        let signed = &release.release;
        if Digest::of(body) != signed.digest || signed.generation < self.state.highest {
            return Outcome::Refused("not what was signed, or older".to_owned());
        }
        if let Some(why) = &self.refuses {
            return Outcome::Refused(why.clone());
        }
        self.enforced.push(Bundle::decode(body).unwrap());
        self.state.highest = signed.generation;
        self.state.bundle = Some(in_force(release));
        Outcome::InForce
    }

    fn overrule(&mut self, release: &SignedRelease, body: &[u8]) -> Outcome {
        if let Err(refused) = release.verify(&self.trusted) {
            return Outcome::Refused(refused.to_string());
        }
        self.overrides = GroupOverrides::decode(body).unwrap();
        self.state.overrides = Some(in_force(release));
        Outcome::InForce
    }
}

fn in_force(release: &SignedRelease) -> InForce {
    InForce {
        generation: release.release.generation,
        digest: release.release.digest,
        since: Timestamp::now(),
    }
}
