//! The load generator: one thread, a fixed number of keep-alive connections, one request in
//! flight on each. Owns the clock.
//!
//! It never sleeps. On a virtual machine, waking it costs the server's core several microseconds per answer if the
//! server is the slower side, so that a slow call would seem even slower compared with its ceiling.
//!
//! It must be faster than a bare actix-web handler on an equally fast core. So requests are built beforehand, and an
//! exchange costs one `write`, one `read`, one reading of the clock and a share of one `epoll_wait`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::request::Answer;
use crate::schedule::{Mode, Schedule};

/// The server hangs if no connection gets an answer for this time.
const STALLED: Duration = Duration::from_secs(10);
/// After this many errors the run ends.
const ERROR_LIMIT: u64 = 1_000;
/// Larger than any measured answer.
const LARGEST_ANSWER: usize = 1 << 20;

/// One run of the generator.
pub(crate) struct Load<'a> {
    pub(crate) server: SocketAddr,
    pub(crate) requests: &'a [Vec<u8>],
    pub(crate) connections: usize,
    /// The status of every good answer.
    pub(crate) expect: u16,
    pub(crate) mode: Mode,
}

/// The result of a run.
pub(crate) struct Outcome {
    /// Nanoseconds from the write of a request to its complete answer, for each answer that counts.
    pub(crate) latencies: Vec<u32>,
    /// The time in which these answers came.
    pub(crate) elapsed: Duration,
    /// Wrong statuses, broken connections, missing answers; also during the warm-up.
    pub(crate) errors: u64,
    /// A description of the first error.
    pub(crate) first_error: Option<String>,
}

impl Outcome {
    fn error(&mut self, what: impl FnOnce() -> String) {
        self.errors += 1;
        self.first_error.get_or_insert_with(what);
    }
}

/// A connection and its current exchange.
struct Connection<'a> {
    stream: TcpStream,
    request: Option<(usize, &'a [u8])>,
    written: usize,
    buffer: Vec<u8>,
    filled: usize,
    sent: Instant,
}

impl<'a> Connection<'a> {
    fn open(server: SocketAddr, poll: &Poll, token: Token) -> io::Result<Self> {
        // Connecting is not measured, so it may block.
        let stream = std::net::TcpStream::connect_timeout(&server, STALLED)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let buffer = vec![0; 8 * 1024];
        Ok(Self { stream, request: None, written: 0, buffer, filled: 0, sent: Instant::now() })
    }

    fn start(&mut self, request: (usize, &'a [u8]), now: Instant) -> io::Result<()> {
        (self.request, self.written, self.filled, self.sent) = (Some(request), 0, 0, now);
        self.write()
    }

    /// Writes as much of the request as the socket accepts. The rest waits for the next event.
    fn write(&mut self) -> io::Result<()> {
        let Some((_, bytes)) = self.request else {
            return Ok(());
        };
        while self.written < bytes.len() {
            match self.stream.write(&bytes[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the available bytes. A read that leaves room in the buffer has emptied the socket, and later bytes raise a
    /// new event, so there is no second read.
    fn read(&mut self) -> io::Result<Option<Answer>> {
        loop {
            if self.filled == self.buffer.len() {
                if self.filled >= LARGEST_ANSWER {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an endless answer"));
                }
                self.buffer.resize(self.filled * 2, 0);
            }
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a connection"));
                }
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.filled < self.buffer.len() {
                return Answer::parse(&self.buffer[..self.filled]);
            }
        }
    }

    /// Handles an event.
    fn proceed(&mut self, event: &Event) -> io::Result<Option<Answer>> {
        if event.is_writable() {
            self.write()?;
        }
        if event.is_readable() || event.is_read_closed() { self.read() } else { Ok(None) }
    }
}

/// Runs the load; `on_answer` gets the index of the request, the status and the body of each answer.
pub(crate) fn run(load: &Load<'_>, mut on_answer: impl FnMut(usize, u16, &[u8])) -> Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(load.connections.max(1));
    let count = load.connections.min(match load.mode {
        Mode::Each => load.requests.len(),
        Mode::For { .. } | Mode::Count { .. } => load.connections,
    });
    let mut connections = Vec::with_capacity(count);
    for index in 0..count {
        connections.push(Connection::open(load.server, &poll, Token(index))?);
    }

    let mut outcome = Outcome { latencies: Vec::new(), elapsed: Duration::ZERO, errors: 0, first_error: None };
    let mut schedule = Schedule::new(load.mode, load.requests);
    let (started, mut last, mut busy) = (Instant::now(), Instant::now(), 0_u64);
    for connection in &mut connections {
        if let Some(request) = schedule.next(started) {
            connection.start(request, Instant::now())?;
            busy += 1;
        }
    }
    while busy > 0 {
        match poll.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        if events.is_empty() && last.elapsed() < STALLED {
            continue;
        }
        if events.is_empty() {
            outcome.error(|| "no answer for ten seconds".to_owned());
            outcome.errors += busy - 1;
            break;
        }
        for event in &events {
            let Some(connection) = connections.get_mut(event.token().0) else {
                continue;
            };
            // Events without an open exchange belong to finished ones.
            let Some((index, _)) = connection.request else {
                continue;
            };
            let mut failed = None;
            let now = match connection.proceed(event) {
                Ok(None) => continue,
                Ok(Some(answer)) => {
                    let now = Instant::now();
                    let body = &connection.buffer[answer.body];
                    if answer.status != load.expect {
                        outcome.error(|| format!("status {}: {}", answer.status, String::from_utf8_lossy(body)));
                    } else if schedule.counts(now) {
                        let latency = now.duration_since(connection.sent).as_nanos();
                        outcome.latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
                    }
                    on_answer(index, answer.status, body);
                    now
                }
                Err(error) => {
                    failed = Some(error);
                    Instant::now()
                }
            };
            last = now;
            if let Some(error) = failed {
                outcome.error(|| error.to_string());
                *connection = Connection::open(load.server, &poll, event.token())?;
            }
            if outcome.errors >= ERROR_LIMIT {
                return Err(format!("{ERROR_LIMIT} errors, the first: {:?}", outcome.first_error).into());
            }
            connection.request = None;
            match schedule.next(now) {
                Some(request) => {
                    if let Err(error) = connection.start(request, now) {
                        // The event of the closed connection ends this exchange.
                        outcome.first_error.get_or_insert_with(|| error.to_string());
                    }
                }
                None => busy -= 1,
            }
        }
    }
    outcome.elapsed = match load.mode {
        Mode::For { measure, .. } => measure,
        Mode::Each | Mode::Count { .. } => last.duration_since(started),
    };
    Ok(outcome)
}
