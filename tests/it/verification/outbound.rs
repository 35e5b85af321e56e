//! The server never connects to addresses that are not public, follows no redirect, and limits time and size.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gatebird::verification::Outcome;
use rustls::RootCertStore;

use super::checks::{VALUE, challenge, verifier};
use super::dns::{Answer, Dns, Kind, Record};
use super::host::{Host, ok};
use super::{found, server_with_dns, verify};

const NAME: &str = "shop.example.test";
/// A public address that no test connects to.
const PUBLIC: &str = "198.41.0.4";

#[test]
fn outbound__private_address_is_refused_without_a_connection() {
    let host = Host::answering(ok(VALUE));
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[("ALLOW_LOCAL_HOSTS", "false")]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, &format!("{NAME}:{}", host.port()));
    for addresses in [
        &["127.0.0.1"][..],
        &["127.1.2.3"],
        &["0.0.0.0"],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["::127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::"],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["fe80::1"],
        &["224.0.0.1"],
        // One address that is not public suffices, in any position.
        &["127.0.0.1", PUBLIC],
        &[PUBLIC, "127.0.0.1"],
        &[PUBLIC, "::1"],
        &["2001:4860:4860::8888", "127.0.0.1"],
    ] {
        let records: Vec<_> = addresses.iter().map(|address| (NAME, Record::address(address))).collect();
        dns.set(&records);
        // Each attempt is in a minute of its own.
        gate.clock.advance(60);
        let reply = verify(&gate, &alice, &domain).refused(409, "unverified");
        assert_eq!(found(&reply), ["noRecord", "privateAddress", "privateAddress"], "{addresses:?}");
    }
    assert_eq!(host.connections(), 0);
}

#[test]
fn outbound__local_hosts_allow_loopback_only() {
    let dns = Dns::with(&[]);
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dialled);
    let dial = move |_: SocketAddr, _: Duration| {
        count.fetch_add(1, Ordering::SeqCst);
        Err(ErrorKind::ConnectionRefused.into())
    };
    let verifier = verifier(&dns, true).through(Box::new(dial), RootCertStore::empty());
    for (address, expected, dials) in [
        ("127.0.0.1", Outcome::Unreachable, 2),
        ("127.9.9.9", Outcome::Unreachable, 2),
        ("::1", Outcome::Unreachable, 2),
        ("::ffff:127.0.0.1", Outcome::PrivateAddress, 0),
        ("0.0.0.0", Outcome::PrivateAddress, 0),
        ("::", Outcome::PrivateAddress, 0),
        ("10.0.0.1", Outcome::PrivateAddress, 0),
        ("192.168.0.1", Outcome::PrivateAddress, 0),
        ("169.254.169.254", Outcome::PrivateAddress, 0),
        ("fe80::1", Outcome::PrivateAddress, 0),
    ] {
        dns.set(&[(NAME, Record::address(address))]);
        let checks = verifier.verify(&challenge(NAME), &|_| true);
        assert_eq!((checks[1].outcome, checks[2].outcome), (expected, expected), "{address}");
        assert_eq!(dialled.swap(0, Ordering::SeqCst), dials, "{address}");
    }
    // By its own name, without a question to a DNS server.
    dns.asked();
    assert_eq!(verifier.verify(&challenge("localhost"), &|_| true)[2].outcome, Outcome::Unreachable);
    assert_eq!(dialled.load(Ordering::SeqCst), 4, "two addresses, two schemes");
    assert!(dns.asked().is_empty());
}

/// 500 attempts: each question for the address is answered differently, with a time to live of 0. The server connects
/// to the address that it checked: it asks once in each attempt.
#[test]
fn outbound__dns_rebinding() {
    let answers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answers);
    let dns = Dns::start(move |name, kind| match (name, kind) {
        (NAME, Kind::A) => {
            let public = count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            Answer::Records(vec![Record::address(if public { PUBLIC } else { "127.0.0.1" })])
        }
        _ => Answer::NoSuchName,
    });
    let dialled = Arc::new(Mutex::new(Vec::new()));
    let dials = Arc::clone(&dialled);
    let dial = move |address: SocketAddr, _: Duration| {
        dials.lock().expect("no panic").push(address.ip());
        Err(ErrorKind::ConnectionRefused.into())
    };
    let verifier = verifier(&dns, false).through(Box::new(dial), RootCertStore::empty());
    let public: IpAddr = PUBLIC.parse().expect("an address");
    for number in 0..500 {
        let checks = verifier.verify(&challenge(NAME), &|_| true);
        let (expected, dials) = match number % 2 {
            0 => (Outcome::Unreachable, vec![public; 2]),
            _ => (Outcome::PrivateAddress, vec![]),
        };
        assert_eq!((checks[1].outcome, checks[2].outcome), (expected, expected), "try {number}");
        assert_eq!(std::mem::take(&mut *dialled.lock().expect("no panic")), dials, "try {number}");
        assert_eq!(answers.load(Ordering::SeqCst), number + 1, "one query per attempt");
    }
}

#[test]
fn outbound__at_most_four_addresses() {
    let dns = Dns::start(|name, kind| match (name, kind) {
        (NAME, Kind::A) => {
            let address = |last| Record::Address(Ipv4Addr::new(198, 41, 0, last).into());
            Answer::Records((1..=200).map(address).collect())
        }
        _ => Answer::NoSuchName,
    });
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dialled);
    let dial = move |_: SocketAddr, _: Duration| {
        count.fetch_add(1, Ordering::SeqCst);
        Err(ErrorKind::ConnectionRefused.into())
    };
    let checks =
        verifier(&dns, false).through(Box::new(dial), RootCertStore::empty()).verify(&challenge(NAME), &|_| true);
    assert_eq!(checks[2].outcome, Outcome::Unreachable);
    assert_eq!(dialled.load(Ordering::SeqCst), 8, "four connections per scheme");
}

#[test]
fn outbound__redirects_are_not_followed() {
    let target = Host::answering(ok(VALUE));
    let dns = Dns::with(&[(NAME, Record::address("127.0.0.1"))]);
    for status in [300, 301, 302, 303, 307, 308, 399] {
        for location in [
            format!("http://127.0.0.1:{}/.well-known/gatebird-challenge", target.port()),
            format!("//127.0.0.1:{}/", target.port()),
            "/.well-known/gatebird-challenge".to_owned(),
            "file:///etc/passwd".to_owned(),
        ] {
            let host = Host::answering(format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\n\r\n{VALUE}"));
            let checks = verifier(&dns, true).verify(&challenge(&format!("{NAME}:{}", host.port())), &|_| true);
            assert_eq!(checks[2].outcome, Outcome::Redirect, "{status} {location}");
            assert_eq!(host.connections(), 2, "one connection per scheme");
        }
    }
    assert_eq!(target.connections(), 0);
}

/// Whatever a host does, the attempt ends within 5 seconds and reads at most 64 KiB.
#[test]
fn outbound__slow_or_endless_response_is_cut_off() {
    let drip = |prefix: &'static str| {
        Host::behaving(move |stream, _| {
            drop(stream.write_all(prefix.as_bytes()));
            while stream.write_all(b"x").is_ok() {
                sleep(Duration::from_millis(100));
            }
        })
    };
    let pour = |prefix: &'static str, again: &'static str| {
        Host::behaving(move |stream, head| {
            if head.starts_with("GET ") {
                let again = again.repeat(4096 / again.len());
                drop(stream.write_all(prefix.as_bytes()));
                while stream.write_all(again.as_bytes()).is_ok() {}
            }
        })
    };
    let cases = [
        ("a head that drips", drip("HTTP/1.1 200 OK\r\nX: "), Outcome::Timeout),
        ("a body that drips", drip("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"), Outcome::Timeout),
        ("chunks that drip", drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFF00\r\n"), Outcome::Timeout),
        ("silence", Host::accepting(|stream, _| (sleep(Duration::from_secs(10)), drop(stream)).1), Outcome::Timeout),
        ("a head without end", pour("HTTP/1.1 200 OK\r\nX: ", "x"), Outcome::TooLarge),
        ("a million headers", pour("HTTP/1.1 200 OK\r\n", "X: y\r\n"), Outcome::TooLarge),
        ("empty lines", pour("", "\r\n"), Outcome::TooLarge),
        ("a body without end", pour("HTTP/1.1 200 OK\r\n\r\n", "x"), Outcome::TooLarge),
        (
            "chunks without end",
            pour("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
            Outcome::TooLarge,
        ),
        (
            "a chunk's length without end",
            pour("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
            Outcome::TooLarge,
        ),
    ];
    let dns = Dns::with(&[(NAME, Record::address("127.0.0.1"))]);
    let verifier = verifier(&dns, true);
    std::thread::scope(|scope| {
        for (name, host, expected) in cases {
            let verifier = &verifier;
            scope.spawn(move || {
                let started = Instant::now();
                let checks = verifier.verify(&challenge(&format!("{NAME}:{}", host.port())), &|_| true);
                let took = started.elapsed();
                assert_eq!(checks[2].outcome, expected, "{name}");
                assert!(took < Duration::from_millis(5500), "{name} took {took:?}");
            });
        }
    });
}

#[test]
fn outbound__hanging_https_leaves_time_for_http() {
    let dns = Dns::with(&[(NAME, Record::address(PUBLIC))]);
    let host = Host::answering(ok(VALUE));
    let to = host.address;
    let dial = move |address: SocketAddr, limit: Duration| match address.port() {
        443 => {
            assert!(limit <= Duration::from_millis(2500), "{limit:?}");
            sleep(limit);
            Err(ErrorKind::TimedOut.into())
        }
        _ => std::net::TcpStream::connect_timeout(&to, limit),
    };
    let started = Instant::now();
    let checks =
        verifier(&dns, false).through(Box::new(dial), RootCertStore::empty()).verify(&challenge(NAME), &|_| true);
    assert_eq!((checks[1].outcome, checks[2].outcome), (Outcome::Timeout, Outcome::Match));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn outbound__response_is_not_disclosed() {
    const CANARY: &str = "canary-of-an-inner-service";
    let host =
        Host::answering(format!("HTTP/1.1 200 {CANARY}\r\n{CANARY}: {CANARY}\r\nContent-Length: 26\r\n\r\n{CANARY}"));
    let dns = Dns::with(&[(NAME, Record::address("127.0.0.1")), ("_gatebird.shop.example.test", Record::text(CANARY))]);
    let gate = server_with_dns(&dns, &[]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, &format!("{NAME}:{}", host.port()));
    for answer in
        [None, Some(format!("HTTP/1.1 302 X\r\nLocation: http://{CANARY}/\r\n\r\n")), Some(format!("{CANARY}\r\n"))]
    {
        if let Some(answer) = answer {
            host.answer(answer);
        }
        let reply = verify(&gate, &alice, &domain);
        assert_eq!(found(&reply.refused(409, "unverified"))[0], "otherValue");
        assert!(!format!("{reply:?}{}", reply.text()).contains("canary"), "{}", reply.text());
    }
    assert!(host.connections() >= 6, "the host was connected to");
}
