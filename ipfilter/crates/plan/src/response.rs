//! What `respond` says to HTTP: a whole response, made once per deployment.

use ipfilter_ebpf::{
    abi::{self, Chunk, PayloadSlice, RESPONSE_CHUNKS, RESPONSE_MAX},
    reply::sum_bytes,
};
use serde::{Deserialize, Serialize};

/// A TLS record of type alert, version 3.3, two bytes long: fatal, access_denied (RFC 8446, sections
/// 5.1 and 6).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// A 403 response's body and its media type (RFC 9110, section 8.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(String, Vec<u8>)", into = "(String, Vec<u8>)")]
pub struct Response {
    content_type: String,
    body: Vec<u8>,
}

/// Why a body can't be sent from the interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// More than one packet holds.
    #[error(
        "the body has {0} bytes, but with its headers it must fit one packet: shorten it to {1}"
    )]
    TooLong(usize, usize),
    /// A media type that would not be one header field.
    #[error("`{0}` is not a media type: write one such as `application/json` or `text/html`")]
    ContentType(String),
}

impl Default for Response {
    fn default() -> Self {
        Self {
            content_type: "application/json".into(),
            body: br#"{"message":"Forbidden"}"#.to_vec(),
        }
    }
}

impl TryFrom<(String, Vec<u8>)> for Response {
    type Error = ResponseError;

    fn try_from((content_type, body): (String, Vec<u8>)) -> Result<Self, ResponseError> {
        Self::new(&content_type, body)
    }
}

impl From<Response> for (String, Vec<u8>) {
    fn from(response: Response) -> Self {
        (response.content_type, response.body)
    }
}

impl Response {
    /// A response with `body` of the media type `content_type`.
    ///
    /// # Errors
    ///
    /// When the media type is none, or the body does not fit one packet.
    pub fn new(content_type: &str, body: Vec<u8>) -> Result<Self, ResponseError> {
        let legal = |c: char| c.is_ascii_graphic() || c == ' ';
        if !content_type.contains('/')
            || content_type.len() > 100
            || !content_type.chars().all(legal)
        {
            return Err(ResponseError::ContentType(content_type.into()));
        }
        let response = Self {
            content_type: content_type.into(),
            body,
        };
        let (length, head) = (response.body.len(), response.head(0).len());
        let room = (RESPONSE_MAX - head).saturating_sub(size_of::<Chunk>());
        if length > room {
            return Err(ResponseError::TooLong(length, room));
        }
        Ok(response)
    }

    /// The media type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// As the BPF programs have it.
    #[must_use]
    pub fn to_abi(&self) -> abi::Response {
        let mut response = abi::Response {
            forbidden: PayloadSlice::default(),
            head: PayloadSlice::default(),
            alert: PayloadSlice::default(),
            chunks: [Chunk::default(); RESPONSE_CHUNKS],
        };
        let (forbidden, head) = (self.padded(&self.body), self.padded(b""));
        response.forbidden = put(&mut response.chunks, 0, &forbidden);
        let start = RESPONSE_MAX / size_of::<Chunk>();
        response.head = put(&mut response.chunks, start, &head);
        response.alert = put(&mut response.chunks, RESPONSE_CHUNKS - 1, &ALERT);
        response
    }

    /// The headers and then `body`, whole chunks long: the optional white space in front of a field's
    /// value (RFC 9110, section 5.5) makes up the difference.
    fn padded(&self, body: &[u8]) -> Vec<u8> {
        let unpadded = self.head(0).len() + body.len();
        let missing = unpadded.next_multiple_of(size_of::<Chunk>()) - unpadded;
        let mut bytes = self.head(missing);
        bytes.extend(body);
        bytes
    }

    fn head(&self, padding: usize) -> Vec<u8> {
        format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: {:padding$}{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            "",
            self.content_type,
            self.body.len()
        )
        .into_bytes()
    }
}

/// Puts `bytes` where they belong. All lengths and starts are below [`RESPONSE_MAX`].
fn put(chunks: &mut [Chunk], start: usize, bytes: &[u8]) -> PayloadSlice {
    let words = chunks.iter_mut().skip(start).flatten();
    for (word, pair) in words.zip(bytes.chunks(2)) {
        let [first, second] = [pair.first(), pair.get(1)].map(|byte| byte.copied().unwrap_or(0));
        *word = u16::from_ne_bytes([first, second]);
    }
    let short = |length| u16::try_from(length).unwrap_or(0);
    PayloadSlice {
        start: short(start),
        len: short(bytes.len()),
        sum: sum_bytes(bytes),
        reserved: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(response: &abi::Response, saying: PayloadSlice) -> Vec<u8> {
        let words = response.chunks.iter().skip(saying.start.into()).flatten();
        let bytes = words.flat_map(|word| word.to_ne_bytes());
        let bytes: Vec<u8> = bytes.take(saying.len.into()).collect();
        assert_eq!(saying.sum, sum_bytes(&bytes));
        bytes
    }

    fn text(response: &abi::Response, saying: PayloadSlice) -> String {
        assert_eq!(saying.len % 8, 0);
        String::from_utf8(bytes(response, saying)).unwrap()
    }

    #[test]
    fn responses_are_whole_chunks_whatever_the_body() {
        for size in 0..=40 {
            let body = vec![b'x'; size];
            let response = Response::new("text/plain", body.clone()).unwrap().to_abi();
            assert_eq!(bytes(&response, response.alert), ALERT);
            let whole = text(&response, response.forbidden);
            let (head, rest) = whole.split_once("\r\n\r\n").unwrap();
            assert_eq!(rest.as_bytes(), body);
            assert!(head.contains(&format!("Content-Length: {size}")), "{head}");
            assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"));
            let head = text(&response, response.head);
            assert!(
                head.ends_with("\r\n\r\n") && head.contains(&format!("Content-Length: {size}"))
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let Err(ResponseError::TooLong(1200, room)) = Response::new("a/b", vec![0; 1200]) else {
            panic!("not refused")
        };
        assert!(Response::new("a/b", vec![0; room]).is_ok());
        assert!(Response::new("a/b", vec![0; room + 1]).is_err());
        for bad in ["", "json", "a/b\r\nX: y", "a/\u{e4}"] {
            assert!(Response::new(bad, Vec::new()).is_err(), "{bad}");
        }
    }
}
