//! Connections of sources that lose access.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use testkit::netns::HOST;

use crate::lab::{BAD, Ended, GOOD, Lab, allow, inside, wait_for};

const TICK: Option<Duration> = Some(Duration::from_millis(10));

/// A download that does not end by itself.
#[derive(Default)]
struct Download {
    bytes: AtomicU64,
    reset: AtomicBool,
}

impl Download {
    fn run(&self, host: &str, stop: &AtomicBool) {
        let mut stream = TcpStream::connect((host, 80)).expect("it may");
        stream.set_read_timeout(TICK).expect("a timeout");
        while !stop.load(Relaxed) {
            match stream.read(&mut [0; 4096]) {
                Ok(0) => return,
                Ok(length) => drop(self.bytes.fetch_add(length as u64, Relaxed)),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return self.reset.store(true, Relaxed);
                }
                Err(error) => assert!(matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut
                )),
            }
        }
    }

    /// Waits until much more has come.
    fn goes_on(&self) {
        let before = self.bytes.load(Relaxed);
        wait_for("it goes on", || self.bytes.load(Relaxed) > before + 100_000);
        assert!(!self.reset.load(Relaxed));
    }
}

fn serve(stop: &AtomicBool) {
    let listener = TcpListener::bind("[::]:80").expect("a port");
    listener.set_nonblocking(true).expect("it can");
    let mut streams: Vec<TcpStream> = Vec::new();
    while !stop.load(Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("it can");
            streams.push(stream);
        }
        for stream in &mut streams {
            // Who does not take it gets it later, or is gone.
            let _: std::io::Result<usize> = stream.write(&[b'x'; 1000]);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Without `--cut` a download whose source loses access stalls: its packets are dropped, so that nothing
/// is acknowledged. With it, it is reset, and nobody else's is.
#[test]
fn downloads_of_sources_that_lose_access_are_cut_if_asked_for() {
    let lab = Lab::empty("cut");
    let policy = lab.write("policy.json", allow(&[GOOD, BAD].concat()));
    let filter = lab.filter(&["--policy", &policy]);
    let stop = AtomicBool::new(false);
    let downloads: [Download; 4] = Default::default();
    thread::scope(|scope| {
        let _stop = Ended(&stop);
        let (stop, downloads) = (&stop, &downloads);
        let network = &lab.network;
        inside(scope, &network.host, || serve(stop));
        wait_for("it listens", || {
            let sockets = network.host.command("ss").arg("-Hltn").output();
            String::from_utf8_lossy(&sockets.expect("ss").stdout).contains(":80")
        });
        let clients = [
            (&network.allowed, HOST.v4),
            (&network.allowed, HOST.v6),
            (&network.denied, HOST.v4),
            (&network.denied, HOST.v6),
        ];
        for ((client, host), download) in clients.into_iter().zip(downloads) {
            inside(scope, client, move || download.run(host, stop));
        }
        let [good @ .., bad4, bad6] = downloads;
        downloads.iter().for_each(Download::goes_on);

        lab.write("policy.json", allow(&GOOD));
        let (code, said) = lab.tell(&["reload"]);
        assert_eq!(code, Some(0), "{said}");
        good.iter().for_each(Download::goes_on);
        assert!(!bad4.reset.load(Relaxed) && !bad6.reset.load(Relaxed));

        let (code, said) = lab.tell(&["reload", "--cut"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("2 connections of denied sources were closed"),
            "{said}"
        );
        for bad in [bad4, bad6] {
            wait_for("it is reset", || bad.reset.load(Relaxed));
        }
        good.iter().for_each(Download::goes_on);

        // They are closed once.
        let (code, said) = lab.tell(&["reload", "--cut"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("; 0 connections"), "{said}");
    });
    lab.detach(filter);
}
