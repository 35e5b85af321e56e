//! Message framing: where a request ends. This parses heads with the parser of actix-http, and follows bodies by RFC
//! 9112. Requests that actix-http could frame in another way are refused, so that both always agree.

use std::mem::{MaybeUninit, replace};

use actix_web::http::{Method, Uri};
use httparse::Status;

/// Largest size of a head in bytes.
pub(super) const MAX_HEAD_SIZE: usize = 16 * 1024;
/// Bytes of a head that are read before it is refused. The surplus over [`MAX_HEAD_SIZE`] makes it likely that the
/// headers of a slightly too large head are known, so that its response is in the client's language.
const MAX_PARTIAL_SIZE: usize = MAX_HEAD_SIZE + 4 * 1024;
/// Header lines that actix-http accepts.
const MAX_HEADERS: usize = 96;
/// Largest number of hexadecimal digits in the size of a chunk.
const MAX_CHUNK_SIZE_DIGITS: u8 = 8;

/// Why a request is refused without being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The head has more than 16 KiB or 96 header lines.
    #[error("it is too large")]
    HeadTooLarge,
    /// The head is not valid HTTP/1.1 or HTTP/1.0.
    #[error("it is malformed")]
    Malformed,
    /// The head was not complete in time.
    #[error("it was not complete in time")]
    HeadTooSlow,
}

/// The head at the beginning of received bytes.
pub(super) enum Head {
    /// The head is not complete.
    Partial,
    /// The head has `size` bytes, and `body` follows.
    Whole { size: usize, body: Body, offers_upgrade: bool },
    /// The head must not reach actix-http.
    Refused(Refusal),
}

/// Parses the head at the beginning of `bytes`. The first `known` bytes were an incomplete head at the previous call.
///
/// A head that arrives in many parts is parsed again only when it may be complete or its size has doubled, so that the
/// work is proportional to its size.
pub(super) fn head(bytes: &[u8], known: usize) -> Head {
    let has_doubled = bytes.len().checked_ilog2() > known.checked_ilog2();
    if !has_doubled && !may_end(&bytes[known.saturating_sub(2)..]) && bytes.len() < MAX_PARTIAL_SIZE {
        return Head::Partial;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(size)) if size <= MAX_HEAD_SIZE => match body_of(&request) {
            Some((body, offers_upgrade)) => Head::Whole { size, body, offers_upgrade },
            None => Head::Refused(Refusal::Malformed),
        },
        Ok(Status::Partial) if bytes.len() < MAX_PARTIAL_SIZE => Head::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Head::Refused(Refusal::HeadTooLarge),
        Err(_) => Head::Refused(Refusal::Malformed),
    }
}

/// Whether a part of a head contains an empty line.
fn may_end(part: &[u8]) -> bool {
    part.windows(2).any(|pair| pair == b"\n\n") || part.windows(3).any(|three| three == b"\n\r\n")
}

/// The body that a head announces (RFC 9112 §6.3), and whether the head offers another protocol. `None` if the body is
/// ambiguous or actix-http would refuse the head.
fn body_of(request: &httparse::Request<'_, '_>) -> Option<(Body, bool)> {
    let is_1_1 = request.version == Some(1);
    let (mut length, mut is_chunked, mut has_host, mut offers_upgrade) = (None, false, false, false);
    for header in &*request.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // Comparing lengths first is faster.
        match header.name.len() {
            4 if is("host") && replace(&mut has_host, true) => return None,
            7 => offers_upgrade |= is("upgrade"),
            10 if is("connection") => offers_upgrade |= options(header.value).any(is_upgrade),
            14 if is("content-length") => {
                let size = parse_length(header.value)?;
                if length.replace(size).is_some() {
                    return None;
                }
            }
            17 if is("transfer-encoding") => {
                let is_known = is_1_1 && header.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                if !is_known || replace(&mut is_chunked, true) {
                    return None;
                }
            }
            _ => {}
        }
    }
    let (method, target) = (request.method?, request.path?);
    // httparse accepts five characters in methods that actix-http refuses.
    if method.bytes().any(|byte| b"#$%&'".contains(&byte)) && Method::from_bytes(method.as_bytes()).is_err() {
        return None;
    }
    if (is_1_1 && !has_host) || (!is_1_1 && method == "POST" && length.is_none()) || !is_target(target) {
        return None;
    }
    let body = match length {
        Some(_) if is_chunked => return None,
        None if is_chunked => Body::Chunked(Chunked::Size { size: 0, digits: 0 }),
        // actix-http treats everything after such a head as its body.
        Some(0) | None if method == "CONNECT" => Body::Sized(u64::MAX),
        length => Body::Sized(length.unwrap_or(0)),
    };
    Some((body, offers_upgrade))
}

/// The elements of a comma-separated header value such as that of `Connection`.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn is_upgrade(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"upgrade")
}

/// Overwrites the offers of other protocols in a head with blanks. A server may ignore such offers (RFC 9110 §7.8), but
/// actix-http would answer `Connection: upgrade`, close the connection, and treat what follows as a body.
pub(super) fn remove_upgrade(head: &mut [u8]) {
    for line in head.split_mut(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at_mut(colon);
        let value = &mut value[1..];
        if is_upgrade(name) {
            blank(value);
        } else if name.eq_ignore_ascii_case(b"connection") {
            let options = value.split_mut(|byte| *byte == b',');
            options.filter(|option| is_upgrade(option.trim_ascii())).for_each(blank);
        }
    }
}

/// Overwrites bytes with blanks, except trailing white space such as a CR.
fn blank(bytes: &mut [u8]) {
    let size = bytes.trim_ascii_end().len();
    bytes[..size].fill(b' ');
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value.trim_ascii()).ok()?;
    // `parse` alone would accept a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Whether the target is a URI. Most targets pass the first test and need no parser.
fn is_target(target: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~?=&%+:,@".contains(&byte);
    (target.starts_with('/') && target.bytes().all(is_plain)) || Uri::try_from(target).is_ok()
}

/// Headers that the response to a refused head depends on.
const HEADERS_FOR_RESPONSE: [&[u8]; 3] = [b"origin:", b"accept-language:", b"x-request-id:"];
/// Largest size of such a header line in bytes.
const MAX_LINE_SIZE: usize = 300;

/// The well-formed header lines of a refused head that its response depends on.
pub(super) fn lines_for_response(head: &[u8]) -> Vec<&[u8]> {
    let lines = head.split_inclusive(|byte| *byte == b'\n').skip(1);
    let is_plain = |line: &&[u8]| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(b"\n");
        text.len() <= MAX_LINE_SIZE && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
    };
    let of = |name: &[u8]| {
        let is_named = |line: &&[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        lines.clone().filter(is_plain).find(is_named)
    };
    HEADERS_FOR_RESPONSE.into_iter().filter_map(of).collect()
}

/// The rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A number of bytes.
    Sized(u64),
    Chunked(Chunked),
}

impl Body {
    /// Whether nothing is left.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Body::Sized(0) | Body::Chunked(Chunked::End))
    }

    /// Follows the body through `bytes`, and returns how many of them belong to it; `None` if they are malformed.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Body::Sized(left) => Some(take(left, bytes)),
            Body::Chunked(state) => state.follow(bytes),
        }
    }
}

/// Takes as many of `bytes` as belong to the rest of a body. Returns how many.
fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= taken as u64;
    taken
}

/// The position within a chunked body (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In the digits of a chunk's size.
    Size { size: u64, digits: u8 },
    /// In the extension after a size.
    Extension { size: u64 },
    /// Before the LF after a size.
    SizeLf { size: u64 },
    /// In the data of a chunk.
    Data { left: u64 },
    /// Before the CR after the data.
    DataCr,
    /// Before the LF after the data.
    DataLf,
    /// At the beginning of a trailer or of the last line.
    LineStart,
    /// In a trailer.
    Trailer,
    /// Before the LF of a trailer.
    TrailerLf,
    /// Before the last LF.
    LastLf,
    /// After the body.
    End,
}

impl Chunked {
    fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() && *self != Chunked::End {
            if let Chunked::Data { left } = self {
                at += take(left, &bytes[at..]);
                if *left == 0 {
                    *self = Chunked::DataCr;
                }
            } else {
                *self = self.after(bytes[at])?;
                at += 1;
            }
        }
        Some(at)
    }

    /// The position after one byte that is not data; `None` if the byte is not allowed here.
    fn after(self, byte: u8) -> Option<Chunked> {
        use Chunked::*;
        Some(match (self, byte) {
            (Size { size, digits: 1.. } | Extension { size }, b'\r') => SizeLf { size },
            (Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Extension { size },
            (Size { size, digits }, _) if digits < MAX_CHUNK_SIZE_DIGITS => {
                Size { size: size << 4 | u64::from(char::from(byte).to_digit(16)?), digits: digits + 1 }
            }
            (Extension { size }, b'\t' | b' '..=b'~') => Extension { size },
            (SizeLf { size: 0 }, b'\n') => LineStart,
            (SizeLf { size }, b'\n') => Data { left: size },
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => Size { size: 0, digits: 0 },
            (LineStart, b'\r') => LastLf,
            (Trailer, b'\r') => TrailerLf,
            (LineStart | Trailer, b'\t' | b' '..=b'~') => Trailer,
            (TrailerLf, b'\n') => LineStart,
            (LastLf, b'\n') => End,
            _ => return None,
        })
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::{Head, MAX_PARTIAL_SIZE, head};

    /// Parses a head whose bytes arrive one by one. Returns the result and the number of bytes that it took.
    fn one_by_one(bytes: &[u8]) -> (usize, Head) {
        let heads = (1..=bytes.len()).map(|size| (size, head(&bytes[..size], size - 1)));
        heads.into_iter().find(|(_, head)| !matches!(head, Head::Partial)).unwrap_or((bytes.len(), Head::Partial))
    }

    #[test]
    fn head__in_single_bytes_is_complete_at_its_last_byte() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\n\r\n",
        ] {
            let (size, head) = one_by_one(bytes);
            assert!(matches!(head, Head::Whole { size, .. } if size == bytes.len()), "{bytes:?}");
            assert_eq!(size, bytes.len(), "{bytes:?}");
        }
    }

    #[test]
    fn head__malformed_one_in_single_bytes_is_refused_by_twice_its_size() {
        let malformed = [b"GET / HTTP/1.1\r\nno header\r\n", &b"X: y\r\n".repeat(9)[..]].concat();
        let (size, head) = one_by_one(&malformed);
        assert!(matches!(head, Head::Refused(_)), "{size}");
        assert_eq!(size, 32, "the mistake is before byte 28");
        let (size, head) = one_by_one(&b"A".repeat(2 * MAX_PARTIAL_SIZE));
        assert!(matches!(head, Head::Refused(_)), "{size}");
        assert_eq!(size, MAX_PARTIAL_SIZE);
    }
}
