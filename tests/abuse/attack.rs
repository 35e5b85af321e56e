//! An attack consists of jobs that run until its end. Many attacks share some kinds of jobs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::{Statuses, TIMEOUT, connect};
use crate::stage::Stage;

/// An attack, as a row of the table of attacks.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Settings of the server that are not the defaults.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// The time before the bystander is measured; not in the short form.
    pub(crate) lead: Duration,
    /// Sets the attack up and returns its jobs.
    pub(crate) prepare: fn(&mut Stage) -> Result<Vec<Job>>,
    pub(crate) bounds: &'static [Bound],
}

impl Attack {
    pub(crate) const fn new(
        name: &'static str,
        what: &'static str,
        prepare: fn(&mut Stage) -> Result<Vec<Job>>,
    ) -> Self {
        Self { name, what, settings: &[], lead: Duration::ZERO, prepare, bounds: &[] }
    }
}

/// An upper bound on the attacker's successes.
pub(crate) struct Bound {
    /// The name of the count.
    pub(crate) counted: &'static str,
    /// The allowed count at once.
    pub(crate) at_once: f64,
    /// The additional allowed count per minute.
    pub(crate) per_minute: f64,
}

/// A part of an attack, which runs on its own thread until the end of the run.
pub(crate) type Job = Box<dyn FnOnce(&Run) + Send>;

/// The run of an attack.
#[derive(Default)]
pub(crate) struct Run {
    over: AtomicBool,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Run {
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Counts an event for the report.
    pub(crate) fn count(&self, what: impl Into<String>, number: u64) {
        *self.counts().entry(what.into()).or_default() += number;
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, but not beyond the end of the run.
    pub(crate) fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() && Instant::now() < end {
            thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
    }
}

/// The pause of an attacker after a 429: an immediate retry would gain nothing.
const AFTER_A_LIMIT: Duration = Duration::from_millis(50);

/// Repeatedly sends `batch` requests at once on one connection and reads their answers.
pub(crate) fn flood(
    server: SocketAddr,
    from: Ipv4Addr,
    batch: usize,
    mut next: impl FnMut() -> Vec<u8> + Send + 'static,
) -> Job {
    Box::new(move |run| {
        let mut connection = None;
        while !run.is_over() {
            let requests: Vec<u8> = (0..batch).flat_map(|_| next()).collect();
            match exchange(&mut connection, server, from, &requests, batch) {
                Ok(statuses) => {
                    let limited = statuses.iter().all(|&status| status == 429);
                    let mut counts = run.counts();
                    statuses.iter().for_each(|status| *counts.entry(status.to_string()).or_default() += 1);
                    drop(counts);
                    if limited {
                        run.pause(AFTER_A_LIMIT);
                    }
                }
                Err(error) => {
                    connection = None;
                    run.count(error.kind().to_string(), 1);
                    run.pause(AFTER_A_LIMIT);
                }
            }
        }
    })
}

/// The status codes of the answers to that many pipelined requests.
fn exchange(
    connection: &mut Option<TcpStream>,
    server: SocketAddr,
    from: Ipv4Addr,
    requests: &[u8],
    batch: usize,
) -> io::Result<Vec<u16>> {
    if connection.is_none() {
        let stream = connect(server, from, None, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        *connection = Some(stream);
    }
    let stream = connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
    stream.write_all(requests)?;
    let (mut statuses, mut seen, mut part) = (Statuses::default(), Vec::new(), vec![0; 64 * 1024]);
    while seen.len() < batch {
        match stream.read(&mut part)? {
            0 if seen.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => {
                *connection = None;
                break;
            }
            count => seen.extend(statuses.of(&part[..count])),
        }
    }
    Ok(seen)
}

/// Many connections, kept open by one thread.
#[derive(Clone)]
pub(crate) struct Horde {
    pub(crate) connections: usize,
    /// The first bytes of each connection.
    pub(crate) first: Vec<u8>,
    /// Further bytes that it repeats, and their interval.
    pub(crate) then: Option<(Vec<u8>, Duration)>,
    /// Whether it reads answers. Otherwise its receive buffer is small.
    pub(crate) reads: bool,
}

/// A client that does not read cannot notice that it was disconnected, so its connection is replaced after this time.
const LIFETIME: Duration = Duration::from_secs(35);
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);
/// After this many refused connections in one sweep the horde waits for the next sweep.
const REFUSALS_PER_SWEEP: usize = 4;
/// A full server leaves connections unanswered.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// The receive buffer of a client that does not read; the kernel doubles it.
const SMALL: usize = 4096;

struct Member {
    stream: TcpStream,
    opened: Instant,
    sent: usize,
    next: Instant,
}

impl Horde {
    pub(crate) fn job(self, server: SocketAddr, from: Ipv4Addr) -> Job {
        Box::new(move |run| {
            let mut members: Vec<Member> = Vec::new();
            while !run.is_over() {
                let before = members.len();
                members.retain_mut(|member| self.proceed(member).is_ok());
                run.count("cut off", (before - members.len()) as u64);
                members.retain(|member| self.reads || member.opened.elapsed() < LIFETIME);
                let mut refusals = 0;
                while members.len() < self.connections && refusals < REFUSALS_PER_SWEEP && !run.is_over() {
                    match self.open(server, from) {
                        Ok(member) => members.push(member),
                        Err(_) => refusals += 1,
                    }
                }
                let mut counts = run.counts();
                let most = counts.entry("open at once".to_owned()).or_default();
                *most = members.len().max(*most as usize) as u64;
                drop(counts);
                run.pause(SWEEP_INTERVAL);
            }
        })
    }

    fn open(&self, server: SocketAddr, from: Ipv4Addr) -> io::Result<Member> {
        let stream = connect(server, from, (!self.reads).then_some(SMALL), CONNECT_TIMEOUT)?;
        stream.set_nonblocking(true)?;
        let now = Instant::now();
        let next = now + self.then.as_ref().map_or(Duration::ZERO, |(_, interval)| *interval);
        let mut member = Member { stream, opened: now, sent: 0, next };
        self.proceed(&mut member)?;
        Ok(member)
    }

    /// Sends and reads what can be sent and read now.
    fn proceed(&self, member: &mut Member) -> io::Result<()> {
        while member.sent < self.first.len() {
            match member.stream.write(&self.first[member.sent..]) {
                Ok(count) => member.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if let Some((bytes, interval)) = &self.then
            && member.sent == self.first.len()
            && Instant::now() >= member.next
        {
            member.next += *interval;
            member.stream.write_all(bytes)?;
        }
        if !self.reads {
            return Ok(());
        }
        let mut part = [0; 4096];
        loop {
            match member.stream.read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
