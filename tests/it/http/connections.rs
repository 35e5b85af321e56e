//! The number of connections of a network, and how long each may wait for its client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::{Gate, TIMEOUTS};

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection from that loopback address.
fn connect_from(gate: &Gate, source: &str) -> TcpStream {
    let address: SocketAddr = gate.url.trim_start_matches("http://").parse().expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    socket.bind(&source.into()).expect("an address of this machine");
    socket.connect(&address.into()).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// Whether the connection is served.
fn is_served(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4096];
    stream.write_all(HEALTHZ.as_bytes()).is_ok()
        && stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"HTTP/1.1 200"))
}

/// How many of these connections are served.
fn served(streams: &mut [TcpStream]) -> usize {
    streams.iter_mut().filter_map(|stream| is_served(stream).then_some(())).count()
}

#[test]
fn connection_limit__one_network_at_its_limit() {
    let gate = Gate::with(&[("LIMIT_CONNECTIONS", "20"), ("ACCESS_LOG", "off")]);
    let mut greedy: Vec<_> = (0..100).map(|_| connect_from(&gate, "127.0.0.2")).collect();
    assert_eq!(served(&mut greedy), 20);
    let mut bystanders: Vec<_> = (3..13).map(|host| connect_from(&gate, &format!("127.0.0.{host}"))).collect();
    assert_eq!(served(&mut bystanders), 10);
    assert!(gate.app.metrics_text().contains("gatebird_connections_refused_total 80"));
    // Closed connections make room for others of the same network.
    drop(greedy);
    let started = Instant::now();
    while served(&mut [connect_from(&gate, "127.0.0.2")]) == 0 {
        assert!(started.elapsed() < Duration::from_secs(5), "connections that ended still count");
    }
}

#[test]
fn connection_limit__trusted_proxy_is_exempt() {
    let gate = Gate::with(&[("LIMIT_CONNECTIONS", "5"), ("TRUSTED_PROXIES", "127.0.0.2")]);
    let mut proxy: Vec<_> = (0..50).map(|_| connect_from(&gate, "127.0.0.2")).collect();
    assert_eq!(served(&mut proxy), 50);
    let mut other: Vec<_> = (0..50).map(|_| connect_from(&gate, "127.0.0.3")).collect();
    assert_eq!(served(&mut other), 5);
}

/// Reads until the server closes or resets, and returns how long that took.
fn time_to_the_end(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(1..) => {}
            Ok(0) => return started.elapsed(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return started.elapsed(),
            Err(error) => panic!("the server does not close: {error}"),
        }
    }
}

#[test]
fn connection_timeouts__every_kind_of_waiting_ends() {
    let gate = Gate::with(&[(TIMEOUTS, "1000")]);
    let head = "POST /nowhere HTTP/1.1\r\nHost: x\r\n";
    let cases = [
        ("nothing is sent", String::new()),
        ("nothing is sent after an answer", HEALTHZ.to_owned()),
        ("a head does not end", format!("{HEALTHZ}GET / HTTP")),
        (
            "a chunked body that no route reads does not end",
            format!("{HEALTHZ}{head}Transfer-Encoding: chunked\r\n\r\n1\r\n"),
        ),
        ("a body that no route reads does not end", format!("{HEALTHZ}{head}Content-Length: 10\r\n\r\n")),
    ];
    std::thread::scope(|scope| {
        for (what, bytes) in &cases {
            let mut stream = connect_from(&gate, "127.0.0.1");
            stream.write_all(bytes.as_bytes()).expect("sent");
            scope.spawn(move || {
                let took = time_to_the_end(&mut stream);
                assert!((900..4000).contains(&took.as_millis()), "{what}: {took:?}");
            });
        }
    });
    // A connection in use stays open.
    let mut busy = connect_from(&gate, "127.0.0.1");
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(400));
        assert!(is_served(&mut busy));
    }
}

#[test]
fn expect_100_continue__connection_stays_usable() {
    let gate = Gate::start();
    for first in [
        "GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
        "POST /token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{}",
    ] {
        let mut stream = connect_from(&gate, "127.0.0.1");
        stream.write_all(first.as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answers = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream.read_to_string(&mut answers).expect("the server answers and closes");
        assert!(answers.contains("HTTP/1.1 404"), "{answers}");
    }
}

#[test]
fn body_timeout__slow_body_has_one_deadline() {
    let gate = Gate::with(&[(TIMEOUTS, "1000")]);
    let mut stream = connect_from(&gate, "127.0.0.1");
    let head = "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let started = Instant::now();
    while stream.write_all(b"1\r\nx\r\n").is_ok() {
        assert!(started.elapsed() < Duration::from_secs(6), "the connection is not closed");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn write_timeout__client_that_does_not_read_is_cut_off() {
    let gate = Gate::with(&[(TIMEOUTS, "1000")]);
    let address: SocketAddr = gate.url.trim_start_matches("http://").parse().expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&address.into()).expect("the server listens");
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(500);
    let started = Instant::now();
    // The loop ends when the server has reset the connection.
    while !matches!(stream.write(requests.as_bytes()), Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    {
        assert!(started.elapsed() < Duration::from_secs(10), "the connection is not closed");
    }
    gate.get("/healthz").send().expect(200);
}
