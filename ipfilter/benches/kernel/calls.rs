//! Calls of clients that are refused, one after the other as fast as they are.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

/// Clients that call at the same time.
const CLIENTS: usize = 16;

/// How long one call may take: nothing that is measured loses packets.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// Who is called
    address: SocketAddr,

    /// For how long, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u64,

    /// Ask again on the same connection
    #[arg(long)]
    keep: bool,
}

/// Prints how many calls were refused, by a reset or a 403, and in which time.
///
/// # Errors
/// When a call is answered in another way, or not at all.
pub(crate) fn run(args: &CallArgs) -> Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs(args.seconds);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, keep) = (args.address, args.keep);
            thread::spawn(move || client(address, keep, end))
        })
        .collect();
    let mut refused = 0;
    for client in clients {
        refused += match client.join() {
            Ok(refused) => refused?,
            Err(_) => bail!("a client failed"),
        };
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({ "refused": refused, "seconds": seconds })
    );
    Ok(())
}

fn client(address: SocketAddr, keep: bool, end: Instant) -> Result<u64> {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut refused = 0;
    while Instant::now() < end {
        let stream = match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                refused += 1;
                continue;
            }
            Err(error) => return Err(error).context("can't connect"),
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        loop {
            refused += ask(&stream, &request, keep)?;
            if !keep || Instant::now() >= end {
                break;
            }
        }
    }
    Ok(refused)
}

/// Asks once, and reads the answer: all there is until the end of the connection, unless it is kept.
fn ask(mut stream: &TcpStream, request: &str, keep: bool) -> Result<u64> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend(part.iter().take(length)),
            // Behind a whole answer that is an end like any other.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => break,
            Err(error) => return Err(error).context("no answer"),
        }
        if keep && is_whole(&answer) {
            break;
        }
    }
    if !answer.starts_with(b"HTTP/1.1 403 ") {
        bail!("not refused: {:?}", String::from_utf8_lossy(&answer));
    }
    Ok(1)
}

/// Whether a body as long as its header says is there.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((header, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = header
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    length.and_then(|length| length.parse().ok()) == Some(body.len())
}
