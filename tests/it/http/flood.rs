//! The cost of a connection, whatever its client sends and however little of the answers it reads.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::binary::Child;
use crate::harness::{Database, PASSWORD, check_all, json};

const GET: &str = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
/// Memory that one connection may use.
const MEMORY_LIMIT: usize = 256 * 1024;
/// Memory that may remain after all connections are closed: the allocator keeps it for the next ones.
const LEFT_LIMIT: usize = 32 * 1024 * 1024;

/// A server in its own process, so that its memory and processor time can be read.
fn server() -> (Database, Child) {
    let database = Database::sqlite();
    let server = Child::start(&database, &[("ACCESS_LOG", "off")]);
    (database, server)
}

/// A connection whose receive buffer holds only a few KiB.
fn connect(server: &Child) -> TcpStream {
    let address: SocketAddr = server.client.url.trim_start_matches("http://").parse().expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&address.into()).expect("the server listens");
    socket.set_nonblocking(true).expect("TCP");
    socket.into()
}

/// Sends as much of `bytes` on each connection as the server accepts within `time`, and reads nothing. Ends early when no
/// connection has accepted a byte for a second.
fn send(streams: &mut [TcpStream], bytes: &[u8], time: Duration) {
    let started = Instant::now();
    let mut progress = started;
    let mut sent = vec![0; streams.len()];
    while started.elapsed() < time
        && progress.elapsed() < Duration::from_secs(1)
        && sent.iter().any(|sent| *sent < bytes.len())
    {
        for (stream, sent) in streams.iter_mut().zip(&mut sent) {
            match stream.write(&bytes[*sent..]) {
                Ok(written) => {
                    *sent += written;
                    progress = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The server may have refused the request.
                Err(_) => *sent = bytes.len(),
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processor time of the server, in hundredths of a second.
fn processor_ticks(server: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("the process's name");
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The memory of each of these connections while they are open, and of all together after they are closed.
fn cost(server: &Child, mut streams: Vec<TcpStream>, bytes: &[u8]) -> (usize, usize) {
    let before = server.resident_kib() * 1024;
    send(&mut streams, bytes, Duration::from_secs(4));
    let started = Instant::now();
    server.client.get("/healthz", "").expect(200);
    assert!(started.elapsed() < Duration::from_secs(5), "another client waits {:?}", started.elapsed());
    let each = (server.resident_kib() * 1024).saturating_sub(before) / streams.len();
    drop(streams);
    let closed = Instant::now();
    let left = || (server.resident_kib() * 1024).saturating_sub(before);
    while left() > LEFT_LIMIT && closed.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    (each, left())
}

#[test]
fn connection_memory__bounded_for_every_input() {
    let (_database, server) = server();
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    let (user, _, _) = server.client.tenant("bob");
    let post = |headers: &str| format!("POST /v1/signin HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
    let chunked = post("Content-Type: application/json\r\nTransfer-Encoding: chunked");
    let big_head = format!("GET /nowhere HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(15_000));
    let pre_flight = "OPTIONS /v1/test HTTP/1.1\r\nHost: x\r\nOrigin: https://bob.example.com\r\n\
                      Access-Control-Request-Method: GET\r\n\r\n";
    let me = format!("GET /v1/domains HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", user.token);
    for (what, bytes) in [
        ("pipelined requests of a large document", GET.repeat(6500)),
        ("pipelined requests of a short answer", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(7000)),
        ("pipelined requests of an answer without a body", pre_flight.repeat(2000)),
        ("pipelined requests with a token", me.repeat(600)),
        ("pipelined large heads", big_head.repeat(17)),
        ("a head that does not end", format!("{GET}GET / HTTP/1.1\r\nX: {}", "a".repeat(1 << 18))),
        ("a path that does not end", format!("{GET}GET /{}", "a".repeat(1 << 18))),
        ("empty lines", "\r\n".repeat(1 << 17)),
        ("a large body that no route reads", format!("{}{}", post("Content-Length: 999999"), "a".repeat(1 << 18))),
        (
            "a large body behind requests",
            format!("{}{}", GET.repeat(40), post(&format!("Content-Length: 999999\r\n\r\n{}", "a".repeat(1 << 18)))),
        ),
        ("small chunks", format!("{chunked}{}", "1\r\n \r\n".repeat(10_000))),
        (
            "small chunks that no route reads",
            format!("{}{}", chunked.replace("/v1/signin", "/nowhere"), "1\r\n \r\n".repeat(10_000)),
        ),
        (
            "pipelined posts",
            format!("{}{body}", post(&format!("Content-Type: application/json\r\nContent-Length: {}", body.len())))
                .repeat(1000),
        ),
    ] {
        let streams = (0..300).map(|_| connect(&server)).collect();
        let (each, left) = cost(&server, streams, bytes.as_bytes());
        println!("{what}: {} KiB each, {} KiB left", each / 1024, left / 1024);
        assert!(each <= MEMORY_LIMIT, "{what}: {} KiB a connection", each / 1024);
        assert!(left <= LEFT_LIMIT, "{what}: {} KiB are left of 300 connections", left / 1024);
    }
}

#[test]
fn processor_time__clients_that_do_not_read() {
    let unread_body =
        "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 400000\r\n\r\n";
    let rows = [
        ("pipelined requests", GET.repeat(12_000)),
        ("requests and a body", format!("{}{unread_body}{}", GET.repeat(100), "a".repeat(400_000))),
        ("a head that does not end", format!("{}GET / HTTP/1.1\r\nX: {}", GET.repeat(100), "a".repeat(400_000))),
    ];
    check_all(rows, |(what, bytes)| {
        let (_database, server) = server();
        let mut streams: Vec<_> = (0..50).map(|_| connect(&server)).collect();
        send(&mut streams, bytes.as_bytes(), Duration::from_secs(2));
        // A refused connection is closed after two seconds.
        std::thread::sleep(Duration::from_secs(3));
        let before = processor_ticks(&server);
        std::thread::sleep(Duration::from_secs(2));
        let used = processor_ticks(&server) - before;
        assert!(used <= 10, "{what}: {used}0 ms of processor time in two idle seconds");
        for stream in &mut streams {
            assert!(matches!(stream.read(&mut [0; 16]), Ok(1..) | Err(_)), "{what}: the connection was closed");
        }
    });
}
