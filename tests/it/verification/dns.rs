//! A DNS server for the tests, on a loopback port over UDP and TCP. It shares no code with the resolver under test.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, LazyLock, Mutex};

/// A type of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Txt,
}

/// The records of a name.
#[derive(Clone)]
pub enum Record {
    Address(IpAddr),
    /// One TXT record of several strings, each of 255 bytes at most.
    Text(Vec<Vec<u8>>),
    /// Another name, whose records follow in the answer.
    Alias(String),
}

impl Record {
    pub fn text(text: &str) -> Record {
        Record::Text(text.as_bytes().chunks(255).map(<[u8]>::to_vec).collect())
    }

    pub fn address(text: &str) -> Record {
        Record::Address(text.parse().expect("an address"))
    }
}

/// The answer to a question.
pub enum Answer {
    Records(Vec<Record>),
    NoSuchName,
    Failure,
    Nothing,
}

/// Decides by the name, in lower case and without the last dot.
type Zone = Box<dyn FnMut(&str, Kind) -> Answer + Send>;

/// A server that runs as long as the process of the tests.
#[derive(Clone)]
pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<Vec<(String, Kind)>>>,
}

/// A server that knows no name.
pub static EMPTY: LazyLock<Dns> = LazyLock::new(|| Dns::start(|_, _| Answer::NoSuchName));

impl Dns {
    pub fn start(zone: impl FnMut(&str, Kind) -> Answer + Send + 'static) -> Dns {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().expect("bound");
        let dns = Dns { address, zone: Arc::new(Mutex::new(Box::new(zone))), asked: Arc::default() };
        let server = dns.clone();
        std::thread::spawn(move || server.serve_udp(&udp));
        let server = dns.clone();
        std::thread::spawn(move || server.serve_tcp(&tcp));
        dns
    }

    /// With exactly those records: pairs of a name and its record.
    pub fn with(records: &[(&str, Record)]) -> Dns {
        let dns = Dns::start(|_, _| Answer::NoSuchName);
        dns.set(records);
        dns
    }

    /// Replaces all records.
    pub fn set(&self, records: &[(&str, Record)]) {
        let records: Vec<(String, Record)> =
            records.iter().map(|(name, record)| (name.to_string(), record.clone())).collect();
        self.decide(move |name, kind| {
            let of = |name: &str| {
                records.iter().filter(|(owner, _)| owner == name).map(|(_, record)| record.clone()).collect::<Vec<_>>()
            };
            let mut found = of(name);
            if let Some(Record::Alias(target)) = found.first().cloned() {
                found.extend(of(&target));
            }
            if found.is_empty() {
                return Answer::NoSuchName;
            }
            found.retain(|record| match record {
                Record::Address(address) => kind == if address.is_ipv4() { Kind::A } else { Kind::Aaaa },
                Record::Text(_) => kind == Kind::Txt,
                Record::Alias(_) => true,
            });
            Answer::Records(found)
        });
    }

    pub fn decide(&self, zone: impl FnMut(&str, Kind) -> Answer + Send + 'static) {
        *self.zone.lock().expect("no panic") = Box::new(zone);
    }

    /// The questions since the last call.
    pub fn asked(&self) -> Vec<(String, Kind)> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(mut answer) = self.answer(&buffer[..length]) {
                if answer.len() > 1232 {
                    // Truncated: the client must ask over TCP.
                    answer.truncate(question_end(&answer));
                    answer[2] |= 0x02;
                    answer[6..12].fill(0);
                }
                drop(socket.send_to(&answer, from));
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let server = self.clone();
            std::thread::spawn(move || server.serve_stream(stream));
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).ok()?;
            let answer = self.answer(&query)?;
            stream.write_all(&u16::try_from(answer.len()).expect("at most 64 KiB").to_be_bytes()).ok()?;
            stream.write_all(&answer).ok()?;
        }
    }

    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let end = question_end(query);
        let name = name(&query[12..]);
        let kind = match u16::from_be_bytes([query[end - 4], query[end - 3]]) {
            1 => Kind::A,
            28 => Kind::Aaaa,
            16 => Kind::Txt,
            other => panic!("unexpected query type {other}"),
        };
        self.asked.lock().expect("no panic").push((name.clone(), kind));
        let (code, records) = match (self.zone.lock().expect("no panic"))(&name, kind) {
            Answer::Records(records) => (0, records),
            Answer::Failure => (2, Vec::new()),
            Answer::NoSuchName => (3, Vec::new()),
            Answer::Nothing => return None,
        };
        let mut answer = query[..end].to_vec();
        // A response with recursion available: one question, the records, nothing else.
        (answer[2], answer[3]) = (0x81, 0x80 | code);
        let count = u16::try_from(records.len()).expect("fewer than 65,536 records").to_be_bytes();
        answer[4..12].copy_from_slice(&[0, 1, count[0], count[1], 0, 0, 0, 0]);
        let mut owner = encoded(&name);
        for record in records {
            let (kind, data) = match &record {
                Record::Address(IpAddr::V4(address)) => (1_u16, address.octets().to_vec()),
                Record::Address(IpAddr::V6(address)) => (28, address.octets().to_vec()),
                Record::Text(strings) => {
                    let string = |string: &Vec<u8>| {
                        [&[u8::try_from(string.len()).expect("at most 255 bytes")], &string[..]].concat()
                    };
                    (16, strings.iter().flat_map(string).collect())
                }
                Record::Alias(target) => (5, encoded(target)),
            };
            answer.extend(&owner);
            answer.extend(kind.to_be_bytes());
            // Class IN, time to live 0.
            answer.extend([0, 1, 0, 0, 0, 0]);
            answer.extend(u16::try_from(data.len()).expect("at most 64 KiB").to_be_bytes());
            answer.extend(data);
            if let Record::Alias(target) = record {
                owner = encoded(&target);
            }
        }
        Some(answer)
    }
}

/// The same port for both.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("bound")) {
            return (udp, tcp);
        }
    }
}

/// The end of the only question.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += usize::from(message[at]) + 1;
    }
    at + 5
}

fn name(mut bytes: &[u8]) -> String {
    let mut labels = Vec::new();
    while bytes[0] != 0 {
        let (label, rest) = bytes[1..].split_at(usize::from(bytes[0]));
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        bytes = rest;
    }
    labels.join(".")
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}
