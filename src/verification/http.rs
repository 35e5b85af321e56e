//! A minimal HTTP/1.1 client for one GET request: no redirects, no content codings, one deadline, at most 64 KiB.
//!
//! The client of `ureq` 3 does not keep these limits. It discards interim responses and trailers without a bound, and it
//! reports a `Content-Length` that is too large like a malformed one. Its connectors, which could add the limits, are
//! not covered by semantic versioning.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Outcome;
use crate::host::Host;

/// Largest size of head and body together, in bytes.
const MAX_SIZE: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

/// A connection whose reads and writes all fail at one deadline.
pub(super) struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    pub(super) fn new(stream: TcpStream, deadline: Instant) -> Timed {
        Timed { stream, deadline }
    }

    fn remaining(&self) -> io::Result<Option<Duration>> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            remaining => Ok(Some(remaining)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.remaining()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.remaining()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The outcome that an error of a connection means.
pub(super) fn why(error: &io::Error) -> Outcome {
    match error.kind() {
        // A socket's read or write timeout is `WouldBlock`.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Timeout,
        _ => Outcome::Unreachable,
    }
}

/// Requests `path`, and returns the body of a response with status 200.
pub(super) fn get(mut stream: impl Read + Write, host: &Host, path: &str) -> Result<Vec<u8>, Outcome> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gatebird\r\nAccept: text/plain, */*;q=0.1\r\n\
         Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    );
    let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    sent.map_err(|error| why(&error))?;
    let mut answer = Answer { stream, bytes: Vec::new(), ended: false };
    let (head, length) = loop {
        let before = answer.bytes.len();
        answer.more()?;
        // The head is parsed at ends of lines only, so that a slow server does not cause a parse for each byte.
        if answer.bytes[before..].contains(&b'\n')
            && let Some(head) = head(&answer.bytes)?
        {
            break head;
        }
        if answer.ended {
            return Err(if answer.bytes.is_empty() { Outcome::Unreachable } else { Outcome::NotHttp });
        }
    };
    loop {
        if let Some(body) = length.body(&answer.bytes[head..], answer.ended)? {
            return Ok(body);
        }
        answer.more()?;
    }
}

/// The part of a response that has been received.
struct Answer<S> {
    stream: S,
    bytes: Vec<u8>,
    ended: bool,
}

impl<S: Read> Answer<S> {
    /// Waits for more bytes.
    fn more(&mut self) -> Result<(), Outcome> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            // The server closed TLS without `close_notify`.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.ended = true,
            Ok(count) if self.bytes.len() + count > MAX_SIZE => return Err(Outcome::TooLarge),
            Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(why(&error)),
        }
        Ok(())
    }
}

/// How the length of a body is determined (RFC 9112 §6.3).
#[derive(Clone, Copy)]
enum Length {
    Bytes(usize),
    Chunked,
    UntilEnd,
}

/// The size of the head in bytes and the length of the body; `None` while the head is incomplete.
fn head(bytes: &[u8]) -> Result<Option<(usize, Length)>, Outcome> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Outcome::TooLarge),
        Err(_) => return Err(Outcome::NotHttp),
    };
    match head.code {
        Some(200) => {}
        Some(300..=399) => return Err(Outcome::Redirect),
        _ => return Err(Outcome::Status),
    }
    let mut length = Length::UntilEnd;
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value.trim_ascii();
        if is("content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
            return Err(Outcome::OtherValue);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Outcome::NotHttp);
            }
            length = Length::Chunked;
        } else if is("content-length") && !matches!(length, Length::Chunked) {
            let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.map(str::parse) {
                Some(Ok(bytes)) if bytes <= MAX_SIZE => length = Length::Bytes(bytes),
                Some(_) => return Err(Outcome::TooLarge),
                None => return Err(Outcome::NotHttp),
            }
        }
    }
    Ok(Some((end, length)))
}

impl Length {
    /// The whole body; `None` while it is incomplete.
    fn body(self, bytes: &[u8], ended: bool) -> Result<Option<Vec<u8>>, Outcome> {
        let body = match self {
            Length::Bytes(count) => bytes.get(..count).map(<[u8]>::to_vec),
            Length::UntilEnd if ended => Some(bytes.to_vec()),
            Length::UntilEnd => None,
            // A complete chunked body ends with an empty line.
            Length::Chunked if !ended && !bytes.ends_with(b"\r\n\r\n") => None,
            Length::Chunked => dechunked(bytes)?,
        };
        match (&body, ended) {
            (None, true) => Err(Outcome::Unreachable),
            _ => Ok(body),
        }
    }
}

/// The joined chunks (RFC 9112 §7.1); `None` until the last chunk.
fn dechunked(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Outcome> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete(parsed)) => parsed,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Outcome::NotHttp),
        };
        match usize::try_from(size) {
            Ok(0) => return Ok(Some(body)),
            Ok(size) if size <= MAX_SIZE => {
                let Some(chunk) = bytes.get(start..start + size + 2) else { return Ok(None) };
                let (data, end) = chunk.split_at(size);
                if end != b"\r\n" {
                    return Err(Outcome::NotHttp);
                }
                body.extend_from_slice(data);
                bytes = &bytes[start + size + 2..];
            }
            _ => return Err(Outcome::TooLarge),
        }
    }
}
