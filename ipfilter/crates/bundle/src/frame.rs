//! How messages are sent over a stream: the lengths of a header and of a body, then both.
//!
//! The header is JSON, the body bytes. Readers decide how long a body may be, and take no memory for one that was only
//! announced.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

use crate::{LARGEST, message::Request};

/// How many bytes the lengths take.
pub const PREFIX: usize = 8;

/// The longest header.
pub const LONGEST_HEADER: usize = 256 << 10;

/// How long header and body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// That of the header.
    pub header: usize,
    /// That of the body.
    pub body: usize,
}

impl Lengths {
    /// Reads the prefix of a frame whose body may be this long.
    ///
    /// # Errors
    ///
    /// When the header or the body is longer.
    pub fn read(prefix: [u8; PREFIX], longest_body: usize) -> io::Result<Self> {
        let [a, b, c, d, e, f, g, h] = prefix;
        let number = |bytes| usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
        let (header, body) = (number([a, b, c, d]), number([e, f, g, h]));
        let too_long = |what, is, most| {
            let text = format!("{what} of {is} bytes was announced, and {most} is the most");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        };
        if header > LONGEST_HEADER {
            return too_long("a header", header, LONGEST_HEADER);
        }
        if body > longest_body {
            return too_long("a body", body, longest_body);
        }
        Ok(Self { header, body })
    }
}

/// The prefix and the header of a frame whose body of this many bytes follows.
///
/// # Errors
///
/// When the header can't be written as JSON or is too long, or the body is.
pub fn begin(header: &impl Serialize, body: usize) -> io::Result<Vec<u8>> {
    let header = serde_json::to_vec(header)?;
    let lengths = [header.len(), body].map(u32::try_from);
    let [Ok(header_length), Ok(body)] = lengths else {
        return Err(io::Error::other("a message is too long"));
    };
    if header.len() > LONGEST_HEADER {
        return Err(io::Error::other("a header is too long"));
    }
    Ok([
        &header_length.to_be_bytes(),
        &body.to_be_bytes(),
        header.as_slice(),
    ]
    .concat())
}

/// Understands a header.
///
/// # Errors
///
/// When it is none, such as one of another version.
pub fn header<H: DeserializeOwned>(bytes: &[u8]) -> io::Result<H> {
    serde_json::from_slice(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a frame.
///
/// # Errors
///
/// When it is too long, or the stream fails.
pub fn write(stream: &mut impl Write, message: &impl Serialize, body: &[u8]) -> io::Result<()> {
    stream.write_all(&begin(message, body.len())?)?;
    stream.write_all(body)?;
    stream.flush()
}

/// Reads a frame whose body may be this long.
///
/// # Errors
///
/// When it is none, or too long, or the stream fails.
pub fn read<H: DeserializeOwned>(
    stream: &mut impl Read,
    longest_body: usize,
) -> io::Result<(H, Vec<u8>)> {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix)?;
    let lengths = Lengths::read(prefix, longest_body)?;
    let head = read_part(stream, lengths.header)?;
    let body = read_part(stream, lengths.body)?;
    Ok((header(&head)?, body))
}

/// Sends a request and waits for the answer, as agents do.
///
/// # Errors
///
/// When the stream fails, or the answer is none.
pub fn ask<A: DeserializeOwned>(
    stream: &mut (impl Read + Write),
    request: &Request,
    body: &[u8],
) -> io::Result<A> {
    write(stream, request, body)?;
    read(stream, 0).map(|(answer, _)| answer)
}

/// The most bytes of a request's body.
#[must_use]
pub fn longest_body(request: &Request) -> usize {
    match request {
        Request::Offer(_) | Request::Overrides(_) => LARGEST,
        Request::State | Request::Report(_) => 0,
    }
}

/// Memory grows with what arrives.
fn read_part(stream: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(length as u64).read_to_end(&mut bytes)?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
