//! Requests as bytes, for requests that no client library sends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::harness::{Gate, Reply};

/// Sends bytes unchanged, closes this end, and parses the answers until the server closes, too.
pub fn raw(gate: &Gate, bytes: &[u8]) -> Vec<Reply> {
    raw_at(gate.url.strip_prefix("http://").expect("plain HTTP"), bytes)
}

/// The same at an address.
pub fn raw_at(address: &str, bytes: &[u8]) -> Vec<Reply> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    // A server that has refused the request may have closed already. Its answer counts.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    replies(&answer)
}

/// Parses consecutive answers.
pub fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, length)| length);
        let (body, rest) = bytes[end + 4..].split_at(length.parse().expect("a length"));
        replies.push(Reply { status: status[..3].parse().expect("a status"), headers, body: body.into() });
        bytes = rest;
    }
    replies
}
