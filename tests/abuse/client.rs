//! Blocking HTTP clients that connect from a given local address.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Result;
use crate::request::Answer;

/// The timeout of connecting and of each read.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects from that address. A `receive_buffer` bounds the bytes that the peer can send to a client that does not
/// read.
pub(crate) fn connect(
    server: SocketAddr,
    from: Ipv4Addr,
    receive_buffer: Option<usize>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SockAddr::from(SocketAddr::from((from, 0))))?;
    socket.connect_timeout(&SockAddr::from(server), timeout)?;
    socket.set_tcp_nodelay(true)?;
    // A closed connection leaves no TIME_WAIT behind, so that the ports of one address are enough.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket.into())
}

/// An answer. The body is null if it is no JSON.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A connection with one request in flight.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        let stream = connect(server, from, None, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and reads its answer.
    pub(crate) fn call(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut part = [0; 8 * 1024];
        loop {
            let count = self.stream.read(&mut part)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&part[..count]);
            if let Some(Answer { status, body }) = Answer::parse(&self.buffer)? {
                return Ok(Reply { status, body: serde_json::from_slice(&self.buffer[body]).unwrap_or_default() });
            }
        }
    }
}

/// Sends one request on a new connection. The answer must have that status.
pub(crate) fn once(server: SocketAddr, from: Ipv4Addr, request: &[u8], expect: u16) -> Result<Value> {
    let Reply { status, body } = Client::connect(server, from)?.call(request)?;
    match status == expect {
        true => Ok(body),
        false => Err(format!("status {status} instead of {expect}: {body}").into()),
    }
}

/// A text member of an answer, at its top level or in its `payload`.
pub(crate) fn member(answer: &Value, name: &str) -> Result<String> {
    let found = answer.get(name).or_else(|| answer.get("payload")?.get(name)).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("an answer without `{name}`: {answer}"))?.to_owned())
}

/// Finds the status codes in a stream of pipelined answers, whose bodies contain no status line.
#[derive(Default)]
pub(crate) struct Statuses(Vec<u8>);

impl Statuses {
    const MARK: &[u8] = b"HTTP/1.1 ";

    /// The codes that these bytes complete.
    pub(crate) fn of(&mut self, bytes: &[u8]) -> Vec<u16> {
        self.0.extend_from_slice(bytes);
        let length = Self::MARK.len() + 3;
        let (mut found, mut position) = (Vec::new(), 0);
        while let Some(window) = self.0.get(position..position + length) {
            if let Some(code) = window.strip_prefix(Self::MARK) {
                found.extend(std::str::from_utf8(code).ok().and_then(|code| code.parse::<u16>().ok()));
                position += length;
            } else {
                let rest = &self.0[position + 1..];
                position += 1 + rest.iter().position(|&byte| byte == b'H').unwrap_or(rest.len());
            }
        }
        self.0.drain(..position.min(self.0.len()));
        found
    }
}
