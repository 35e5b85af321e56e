//! The results of the checks in DNS and by file, and that only the exact value matches.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use gatebird::verification::{Challenge, Check, Method, Outcome, Verifier};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::dns::{Answer, Dns, Kind, Record};
use super::host::{Host, head, ok};
use crate::harness::{Database, config};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const VALUE: &str = "gatebird-challenge=0123456789abcdef0123456789abcdef";
const NAME: &str = "shop.example.test";

/// A verifier that uses that DNS server.
pub fn verifier(dns: &Dns, local: bool) -> Verifier {
    let settings = [("DNS_SERVER", dns.address.to_string()), ("ALLOW_LOCAL_HOSTS", local.to_string())];
    Verifier::new(&config(&Database::sqlite(), &settings.map(|(key, value)| (key.to_owned(), value))))
}

/// The challenge of that host's owner.
pub fn challenge(host: &str) -> Challenge {
    Challenge { host: gatebird::host::Host::from_stored(host.to_owned()), token: TOKEN.to_owned() }
}

fn words(checks: &[Check]) -> Vec<Outcome> {
    checks.iter().map(|check| check.outcome).collect()
}

#[test]
fn dns_check__matching_record_needs_no_connection() {
    let host = Host::answering(ok(VALUE));
    let dns = Dns::with(&[
        ("_gatebird.shop.example.test", Record::text("v=spf1 -all")),
        ("_gatebird.shop.example.test", Record::text(VALUE)),
        (NAME, Record::address("127.0.0.1")),
    ]);
    let checks = verifier(&dns, true).verify(&challenge(&format!("{NAME}:{}", host.port())), &|_| true);
    let expected = Check { method: Method::Dns, at: format!("_gatebird.{NAME}"), outcome: Outcome::Match };
    assert_eq!(checks, [expected]);
    assert_eq!(host.connections(), 0);
}

#[test]
fn dns_check__record_must_match_exactly() {
    let long = "x".repeat(60_000);
    let texts = |texts: &[&str]| texts.iter().map(|text| Record::text(text)).collect::<Vec<_>>();
    let upper = VALUE.to_uppercase();
    let cases: Vec<(Vec<Record>, Outcome)> = vec![
        (texts(&[VALUE]), Outcome::Match),
        (texts(&["other", VALUE, "another"]), Outcome::Match),
        // The strings of one record are one value, however it is split.
        (vec![Record::Text(vec![VALUE[..7].into(), VALUE[7..].into()])], Outcome::Match),
        // Over TCP, because it does not fit into UDP.
        (texts(&[&long, VALUE]), Outcome::Match),
        (texts(&[&long]), Outcome::OtherValue),
        (texts(&[TOKEN]), Outcome::OtherValue),
        (texts(&[&upper]), Outcome::OtherValue),
        (texts(&[&format!("{VALUE} ")]), Outcome::OtherValue),
        (texts(&[&format!(" {VALUE}")]), Outcome::OtherValue),
        (texts(&[&format!("\"{VALUE}\"")]), Outcome::OtherValue),
        (texts(&[&format!("{VALUE}\0")]), Outcome::OtherValue),
        (texts(&[&format!("{VALUE};{VALUE}")]), Outcome::OtherValue),
        (texts(&[&VALUE[..VALUE.len() - 1]]), Outcome::OtherValue),
        // The strings of two records are not.
        (texts(&[&VALUE[..7], &VALUE[7..]]), Outcome::OtherValue),
        (vec![Record::Text(vec![Vec::new()])], Outcome::OtherValue),
        (vec![Record::Text(vec![vec![0xFF; 255]; 200])], Outcome::OtherValue),
    ];
    let dns = Dns::with(&[]);
    let verifier = verifier(&dns, false);
    for (records, expected) in cases {
        let shown = format!("{} records", records.len());
        dns.decide(move |name, kind| match (name, kind) {
            ("_gatebird.shop.example.test", Kind::Txt) => Answer::Records(records.clone()),
            _ => Answer::NoSuchName,
        });
        assert_eq!(words(&verifier.verify(&challenge(NAME), &|_| true))[0], expected, "{shown}");
    }
}

#[test]
fn dns_check__alias_is_followed() {
    let dns = Dns::with(&[
        ("_gatebird.shop.example.test", Record::Alias("challenges.example.test".into())),
        ("challenges.example.test", Record::text(VALUE)),
    ]);
    assert_eq!(words(&verifier(&dns, false).verify(&challenge(NAME), &|_| true)), [Outcome::Match]);
    // Records of the name itself, or of a name above or below, belong to others.
    dns.set(&[
        (NAME, Record::text(VALUE)),
        ("_gatebird.example.test", Record::text(VALUE)),
        ("_gatebird.www.shop.example.test", Record::text(VALUE)),
    ]);
    assert_eq!(
        words(&verifier(&dns, false).verify(&challenge(NAME), &|_| true)),
        [Outcome::NoRecord, Outcome::NoAddress, Outcome::NoAddress]
    );
}

#[test]
fn dns_check__failure_and_absence_differ() {
    for (answer, expected) in [
        ((|| Answer::NoSuchName) as fn() -> Answer, [Outcome::NoRecord, Outcome::NoAddress]),
        (|| Answer::Records(Vec::new()), [Outcome::NoRecord, Outcome::NoAddress]),
        (|| Answer::Failure, [Outcome::NoAnswer, Outcome::NoAnswer]),
        (|| Answer::Nothing, [Outcome::Timeout, Outcome::Timeout]),
    ] {
        let dns = Dns::start(move |_, _| answer());
        let checks = verifier(&dns, false).verify(&challenge(NAME), &|_| true);
        assert_eq!(words(&checks), [expected[0], expected[1], expected[1]]);
    }
}

#[test]
fn file_check__matching_file() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n{}\r\n2e\r\n{}\r\n0\r\nA: b\r\n\r\n",
        &VALUE[..5],
        &VALUE[5..]
    );
    for answer in [
        ok(VALUE),
        ok(&format!("{VALUE}\n")),
        ok(&format!("{VALUE}\r\n\r\n")),
        // Until the end of the connection.
        format!("HTTP/1.0 200 OK\r\n\r\n{VALUE}"),
        format!("HTTP/1.1 200 \r\nX: y\r\n\r\n{VALUE}\n"),
        chunked,
    ] {
        let host = Host::answering(answer.clone());
        let dns = Dns::with(&[(NAME, Record::address("127.0.0.1"))]);
        let at = format!("{NAME}:{}", host.port());
        let checks = verifier(&dns, true).verify(&challenge(&at), &|_| true);
        assert_eq!(words(&checks), [Outcome::NoRecord, Outcome::Tls, Outcome::Match], "{answer:?}");
        let url = format!("http://{at}/.well-known/gatebird-challenge");
        assert_eq!(checks[2], Check { method: Method::File, at: url, outcome: Outcome::Match });
        // Exactly that path and host, and nothing of the challenge, which a page could echo.
        let request = host.requests().pop().expect("a request");
        assert!(request.starts_with("GET /.well-known/gatebird-challenge HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nHost: {at}\r\n")), "{request}");
        assert!(!request.contains(TOKEN), "{request}");
    }
}

#[test]
fn file_check__other_responses() {
    let head = |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\n{rest}\r\n{VALUE}");
    let with = |headers: &str| head("200 OK", &format!("Content-Length: 51\r\n{headers}"));
    let cases = [
        (ok(""), Outcome::OtherValue),
        (ok(TOKEN), Outcome::OtherValue),
        (ok(&format!(" {VALUE}")), Outcome::OtherValue),
        (ok(&format!("\u{feff}{VALUE}")), Outcome::OtherValue),
        (ok(&VALUE.to_uppercase()), Outcome::OtherValue),
        (ok(&format!("{VALUE}{VALUE}")), Outcome::OtherValue),
        (ok(&format!("<p>{VALUE}</p>")), Outcome::OtherValue),
        (ok(&VALUE[..50]), Outcome::OtherValue),
        (with("Content-Encoding: gzip\r\n"), Outcome::OtherValue),
        (with("Content-Encoding: br, gzip\r\n"), Outcome::OtherValue),
        (head("404 Not Outcome", "Content-Length: 51\r\n"), Outcome::Status),
        (head("500 Oops", ""), Outcome::Status),
        (head("204 No Content", ""), Outcome::Status),
        (head("206 Partial Content", "Content-Length: 51\r\n"), Outcome::Status),
        (head("101 Switching Protocols", "Upgrade: x\r\n"), Outcome::Status),
        (head("301 Moved", "Location: /elsewhere\r\n"), Outcome::Redirect),
        (head("200 OK", "Content-Length: +51\r\n"), Outcome::NotHttp),
        (head("200 OK", "Content-Length: 51, 51\r\n"), Outcome::NotHttp),
        (head("200 OK", "Content-Length: -1\r\n"), Outcome::NotHttp),
        (head("200 OK", "Content-Length: 99999999999999999999\r\n"), Outcome::TooLarge),
        (head("200 OK", "Content-Length: 65537\r\n"), Outcome::TooLarge),
        (head("200 OK", "Content-Length: 60\r\n"), Outcome::Unreachable),
        (head("200 OK", "Transfer-Encoding: gzip, chunked\r\n"), Outcome::NotHttp),
        (head("200 OK", "Transfer-Encoding: chunked\r\n"), Outcome::NotHttp),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n".into(), Outcome::TooLarge),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n\r\n".into(), Outcome::NotHttp),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n".into(), Outcome::NotHttp),
        ("HTTP/1.1 200 OK\r\nContent-Length: 51\r\n".into(), Outcome::NotHttp),
        ("220 mail.example.test ESMTP\r\n".into(), Outcome::NotHttp),
        ("-ERR unknown command 'GET'\r\n".into(), Outcome::NotHttp),
        ("SSH-2.0-OpenSSH_9.9\r\n".into(), Outcome::NotHttp),
        ("\0\0\0\0".into(), Outcome::NotHttp),
        (VALUE.into(), Outcome::NotHttp),
        (String::new(), Outcome::Unreachable),
    ];
    let host = Host::answering("");
    let dns = Dns::with(&[(NAME, Record::address("127.0.0.1"))]);
    let verifier = verifier(&dns, true);
    let challenge = challenge(&format!("{NAME}:{}", host.port()));
    for (answer, expected) in cases {
        host.answer(answer.clone());
        assert_eq!(words(&verifier.verify(&challenge, &|_| true))[2], expected, "{answer:?}");
    }
}

#[test]
fn file_check__closed_or_forbidden_port() {
    let dns = Dns::with(&[(NAME, Record::address("127.0.0.1"))]);
    let verifier = verifier(&dns, true);
    for (port, expected) in [(1, Outcome::Port), (22, Outcome::Port), (25, Outcome::Port), (1023, Outcome::Port)] {
        assert_eq!(
            words(&verifier.verify(&challenge(&format!("{NAME}:{port}")), &|_| true)),
            [Outcome::NoRecord, expected, expected]
        );
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let unreachable = [Outcome::NoRecord, Outcome::Unreachable, Outcome::Unreachable];
    assert_eq!(words(&verifier.verify(&challenge(&format!("{NAME}:{port}")), &|_| true)), unreachable);
}

/// A certificate authority of the test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        roots
    }

    /// A host with a certificate of that name, which answers with the challenge.
    fn host(&self, name: &str) -> Host {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("both versions").with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).expect("they fit"));
        Host::accepting(move |stream, requests| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            let head = head(&mut stream);
            let name = stream.conn.server_name().unwrap_or_default().to_owned();
            requests.lock().expect("no panic").push(format!("{name}\n{head}"));
            drop(stream.write_all(ok(VALUE).as_bytes()));
            stream.conn.send_close_notify();
            drop(stream.flush());
        })
    }
}

/// Over HTTPS on port 443 of a public address, which is redirected to the test's own host.
#[test]
fn file_check__https_first_with_a_trusted_certificate() {
    let authority = Authority::new();
    let dns = Dns::with(&[(NAME, Record::address("198.41.0.4"))]);
    for (name, roots, expected) in [
        (NAME, authority.roots(), Outcome::Match),
        ("other.example.test", authority.roots(), Outcome::Tls),
        (NAME, Authority::new().roots(), Outcome::Tls),
        (NAME, RootCertStore::empty(), Outcome::Tls),
    ] {
        let host = authority.host(name);
        let to = host.address;
        let dial = move |address: std::net::SocketAddr, limit: Duration| {
            assert_eq!(address.ip(), Ipv4Addr::new(198, 41, 0, 4));
            match address.port() {
                443 => TcpStream::connect_timeout(&to, limit),
                80 => Err(std::io::ErrorKind::ConnectionRefused.into()),
                other => panic!("port {other}"),
            }
        };
        let checks = verifier(&dns, false).through(Box::new(dial), roots).verify(&challenge(NAME), &|_| true);
        assert_eq!(words(&checks)[..2], [Outcome::NoRecord, expected], "{name}");
        assert_eq!(checks[1].at, format!("https://{NAME}/.well-known/gatebird-challenge"));
        if expected == Outcome::Match {
            assert_eq!(checks.len(), 2);
            let request = host.requests().pop().expect("a request");
            assert!(request.starts_with(&format!("{NAME}\nGET ")), "the name is in the handshake: {request}");
            assert!(request.contains(&format!("\r\nHost: {NAME}\r\n")), "{request}");
        } else {
            assert_eq!(checks[2].outcome, Outcome::Unreachable);
        }
    }
}
