//! A configuration with the files that it names, and its one encoding.
//!
//! ```text
//! "ipfilter bundle\n"  format: u32 = 1  files: u32  which of them is the configuration: u32
//! each file, ascending by name:  length of the name: u16  name  length: u32  content
//! ```
//!
//! Numbers are big-endian. Names are relative to the folder of the configuration and stay within it.

use std::collections::BTreeMap;

use ipfilter_document::problem::visible;

use crate::Digest;

/// The most bytes of an encoding.
pub const LARGEST: usize = 64 << 20;

/// The most files: each of 64 APIs has a policy and may have a response.
pub const MOST_FILES: usize = 256;

/// The most bytes of a file's name.
pub const LONGEST_NAME: usize = 200;

const MAGIC: &[u8] = b"ipfilter bundle\n";

const FORMAT: u32 = 1;

/// A configuration with all files that it names. One value has one encoding, and one digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    config: String,
    files: BTreeMap<String, Vec<u8>>,
}

/// Why something is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is something else.
    #[error("this is not a bundle")]
    Other,
    /// Another version wrote it.
    #[error(
        "it is a bundle of format {0}, and this version of ipfilter reads format {FORMAT}: update ipfilter on this host"
    )]
    Format(u32),
    /// It ends too soon.
    #[error("it ends in the middle of a file")]
    Short,
    /// It goes on after its end.
    #[error("bytes follow its end")]
    Long,
    /// It is larger than a bundle may be.
    #[error("it is larger than {} MiB, the most a bundle may have", LARGEST >> 20)]
    Large,
    /// It has too many files.
    #[error("it has {0} files, and a bundle has at most {MOST_FILES}")]
    Many(usize),
    /// A file's name is none that a bundle may have.
    #[error(
        "`{0}` is no name for a file of a bundle: files lie in the folder of the configuration or below, and a name has at most {LONGEST_NAME} bytes"
    )]
    Name(String),
    /// Files are out of order, or one is there twice.
    #[error("its files are not in order")]
    Order,
    /// The configuration is none of its files.
    #[error("it has no configuration")]
    Config,
}

impl Bundle {
    /// That of these files, each with its name, of which `config` is the configuration.
    ///
    /// # Errors
    ///
    /// When a name is none that a bundle may have, there are too many files, or too many bytes.
    pub fn new(
        config: impl Into<String>,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, Malformed> {
        let (config, files) = (config.into(), BTreeMap::from_iter(files));
        if files.len() > MOST_FILES {
            return Err(Malformed::Many(files.len()));
        }
        if let Some(name) = files.keys().find(|name| !is_name(name)) {
            return Err(Malformed::Name(name.chars().map(visible).collect()));
        }
        if !files.contains_key(&config) {
            return Err(Malformed::Config);
        }
        let bundle = Self { config, files };
        match bundle.encoded_len() > LARGEST {
            true => Err(Malformed::Large),
            false => Ok(bundle),
        }
    }

    /// The name of the configuration.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.config
    }

    /// The content of a file.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// All files by name, ascending.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.files.iter();
        files.map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    fn encoded_len(&self) -> usize {
        let files = self.files.iter();
        let files = files.map(|(name, content)| 2 + name.len() + 4 + content.len());
        MAGIC.len() + 12 + files.sum::<usize>()
    }

    /// Its bytes, of which [`decode`](Self::decode) makes the same again.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        let config = self.files.keys().position(|name| *name == self.config);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_be_bytes());
        bytes.extend(length(self.files.len()));
        bytes.extend(length(config.unwrap_or_default()));
        for (name, content) in &self.files {
            let [_, _, high, low] = length(name.len());
            bytes.extend([high, low]);
            bytes.extend(name.as_bytes());
            bytes.extend(length(content.len()));
            bytes.extend(content);
        }
        bytes
    }

    /// What these bytes encode. Bytes that [`encode`](Self::encode) would not write are refused.
    ///
    /// # Errors
    ///
    /// When they encode no bundle.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > LARGEST {
            return Err(Malformed::Large);
        }
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(Malformed::Other)?;
        let format = number(&mut rest)?;
        if format != FORMAT {
            return Err(Malformed::Format(format));
        }
        let count = number(&mut rest)? as usize;
        if count > MOST_FILES {
            return Err(Malformed::Many(count));
        }
        let config = number(&mut rest)? as usize;
        let mut files: Vec<(String, Vec<u8>)> = Vec::with_capacity(count);
        for _ in 0..count {
            let file = read_file(&mut rest)?;
            if files.last().is_some_and(|before| before.0 >= file.0) {
                return Err(Malformed::Order);
            }
            files.push(file);
        }
        if !rest.is_empty() {
            return Err(Malformed::Long);
        }
        let config = files.get(config).ok_or(Malformed::Config)?.0.clone();
        Self::new(config, files)
    }

    /// The digest of its encoding: its name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// Whether it names a file in a folder or below it, everywhere the same one.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    name.len() <= LONGEST_NAME
        && name.split('/').all(is_part)
        && name.chars().all(|c| c != '\\' && visible(c) == c)
}

/// A number of files or bytes, of which no bundle has more than fit.
fn length(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

fn read_file(rest: &mut &[u8]) -> Result<(String, Vec<u8>), Malformed> {
    let [high, low] = *take_array(rest)?;
    let name = take(rest, usize::from(u16::from_be_bytes([high, low])))?;
    let name = str::from_utf8(name).map_err(|_| {
        Malformed::Name(String::from_utf8_lossy(name).chars().map(visible).collect())
    })?;
    let length = number(rest)? as usize;
    Ok((name.to_owned(), take(rest, length)?.to_vec()))
}

fn number(rest: &mut &[u8]) -> Result<u32, Malformed> {
    take_array(rest).map(|bytes| u32::from_be_bytes(*bytes))
}

fn take_array<'b, const N: usize>(rest: &mut &'b [u8]) -> Result<&'b [u8; N], Malformed> {
    let (taken, after) = rest.split_first_chunk().ok_or(Malformed::Short)?;
    *rest = after;
    Ok(taken)
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Result<&'b [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
    *rest = after;
    Ok(taken)
}
