//! What a file is, by its content.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use crate::log::{self, Format};

/// Bytes that are looked at to find out.
const SNIFFED: usize = 64 * 1024;

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Packets: pcap or pcapng.
    Capture,
    /// An access log.
    Log(Format),
    /// Lines, in no form that is known.
    Lines,
    /// Nothing.
    Empty,
}

/// A file's content, from its beginning, and what it is.
pub struct Input {
    /// What it is.
    pub content: Content,
    /// All of it, decompressed.
    pub reader: Box<dyn BufRead + Send>,
}

impl Input {
    /// Looks at the beginning of `reader`, which may be compressed with gzip or zstd.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub fn open(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let (start, reader) = sniff(BufReader::with_capacity(BUFFER, reader))?;
        if start.starts_with(&[0x1f, 0x8b]) {
            Self::plain(MultiGzDecoder::new(reader))
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::plain(Zstd::new(reader))
        } else {
            Ok(Self::of(&start, reader))
        }
    }

    fn plain(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let (start, reader) = sniff(BufReader::with_capacity(BUFFER, reader))?;
        Ok(Self::of(&start, reader))
    }

    fn of(start: &[u8], reader: impl BufRead + Send + 'static) -> Self {
        Self {
            content: content(start),
            reader: Box::new(reader),
        }
    }
}

fn content(start: &[u8]) -> Content {
    const CAPTURES: [[u8; 4]; 6] = [
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0x34, 0xcd, 0xb2, 0xa1],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ];
    if start.is_empty() {
        return Content::Empty;
    }
    if CAPTURES.iter().any(|magic| start.starts_with(magic)) {
        return Content::Capture;
    }
    let text = String::from_utf8_lossy(start);
    log::detect(&text).map_or(Content::Lines, Content::Log)
}

/// A reader from which some was read, with that in front of it again.
type Whole<R> = Chain<Cursor<Vec<u8>>, Rest<R>>;

/// The beginning of `reader`, and all of it. What can't be read of the beginning fails again in its place, so that
/// what is before it is not lost.
fn sniff<R: BufRead>(mut reader: R) -> io::Result<(Vec<u8>, Whole<R>)> {
    let mut start = Vec::new();
    let read = reader.by_ref().take(SNIFFED as u64).read_to_end(&mut start);
    let rest = match read {
        Err(error) if start.is_empty() => return Err(error),
        read => Rest {
            failed: read.err(),
            reader,
        },
    };
    Ok((start.clone(), Cursor::new(start).chain(rest)))
}

/// What comes behind the beginning.
struct Rest<R> {
    /// How reading has failed already.
    failed: Option<io::Error>,
    reader: R,
}

impl<R: BufRead> Read for Rest<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.reader.read(buffer)
    }
}

impl<R: BufRead> BufRead for Rest<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

/// Frames of zstd, one after the other (RFC 8878, section 3).
struct Zstd<R: BufRead> {
    state: Option<State<R>>,
}

enum State<R: BufRead> {
    Between(R),
    Inside(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
}

impl<R: BufRead> Zstd<R> {
    fn new(reader: R) -> Self {
        Self {
            state: Some(State::Between(reader)),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state.take() {
                None => return Ok(0),
                Some(State::Between(mut reader)) => {
                    if reader.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let decoder = StreamingDecoder::new(reader).map_err(io::Error::other)?;
                    self.state = Some(State::Inside(Box::new(decoder)));
                }
                Some(State::Inside(mut decoder)) => {
                    let read = decoder.read(buffer)?;
                    if read > 0 || buffer.is_empty() {
                        self.state = Some(State::Inside(decoder));
                        return Ok(read);
                    }
                    self.state = Some(State::Between(decoder.into_inner()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const LINE: &str = "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1\n";

    fn gz(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(text: &str) -> Vec<u8> {
        compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
    }

    fn read(bytes: Vec<u8>) -> (Content, io::Result<String>) {
        let input = Input::open(Cursor::new(bytes)).unwrap();
        let mut text = String::new();
        let mut reader = input.reader;
        let result = reader.read_to_string(&mut text);
        (input.content, result.map(|_| text))
    }

    #[test]
    fn compressed_files_are_read_to_the_end_of_their_last_member() {
        let twice = LINE.repeat(2);
        for bytes in [
            twice.clone().into_bytes(),
            gz(&twice),
            [gz(LINE), gz(LINE)].concat(),
            zst(&twice),
            [zst(LINE), zst(LINE)].concat(),
        ] {
            let (content, text) = read(bytes);
            assert_eq!(content, Content::Log(Format::Combined));
            assert_eq!(text.unwrap(), twice);
        }
        assert_eq!(read(Vec::new()).0, Content::Empty);
        assert_eq!(read(b"???".to_vec()).0, Content::Lines);
    }

    #[test]
    fn a_file_that_is_cut_off_is_an_error_and_no_panic() {
        let long = LINE.repeat(10_000);
        for whole in [gz(&long), zst(&long)] {
            let cut = whole[..whole.len() / 2].to_vec();
            let failed = match Input::open(Cursor::new(cut)) {
                Ok(mut input) => input.reader.read_to_end(&mut Vec::new()).is_err(),
                Err(_) => true,
            };
            assert!(failed);
        }
    }
}
