//! A kept-alive connection, for tests that send thousands of requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::replies;
use crate::harness::Reply;

/// A connection to a server. It reconnects after the server has closed it, as after some refusals.
pub struct KeepAlive {
    address: String,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
}

impl KeepAlive {
    /// To a server at `http://...`.
    pub fn to(url: &str) -> KeepAlive {
        KeepAlive { address: url.trim_start_matches("http://").into(), stream: None, unread: Vec::new() }
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_or_insert_with(|| {
            let stream = TcpStream::connect(&self.address).expect("it listens");
            stream.set_nodelay(true).expect("TCP");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
            stream
        })
    }

    /// Sends a request and reads its answer. `Err` means that the connection ended without one.
    pub fn ask(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Result<Reply, String> {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
        self.stream();
        // A server that refused the request may have closed before it read all of it. Its answer counts.
        drop(self.stream().write_all(&[head.as_bytes(), body].concat()));
        let reply = self.read(method == "HEAD");
        if reply.as_ref().map_or(true, |reply| reply.header("connection") == Some("close")) {
            self.stream = None;
            self.unread.clear();
        }
        reply
    }

    /// Sends requests without a body, all before it reads any answer.
    pub fn ask_all(&mut self, heads: &[String]) -> Vec<Reply> {
        let all: String = heads.iter().map(|head| format!("{head}\r\n")).collect();
        self.stream().write_all(all.as_bytes()).expect("it reads");
        heads.iter().map(|head| self.read(false).unwrap_or_else(|error| panic!("{head}: {error}"))).collect()
    }

    fn read(&mut self, without_body: bool) -> Result<Reply, String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|part| part == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.unread[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
                let whole = end + 4 + if without_body { 0 } else { length };
                if self.unread.len() >= whole {
                    let mut answer: Vec<u8> = self.unread.drain(..whole).collect();
                    if without_body {
                        answer.resize(answer.len() + length, b' ');
                    }
                    let mut reply = replies(&answer).remove(0);
                    if without_body {
                        reply.body.clear();
                    }
                    return Ok(reply);
                }
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream().read(&mut chunk) {
                Ok(0) => return Err(format!("closed after {} bytes", self.unread.len())),
                Ok(read) => self.unread.extend_from_slice(&chunk[..read]),
                Err(error) => return Err(format!("{error} after {} bytes", self.unread.len())),
            }
        }
    }
}
