//! What a look finds: in DNS and in a file, each word that there is, and that exactly what was looked for counts.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use gatebird::proof::{Challenge, Found, Look, Method, Prober};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::dns::{Answer, Dns, Kind, Record};
use super::host::{Host, head, ok};
use crate::harness::{Database, config};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const VALUE: &str = "gatebird-challenge=0123456789abcdef0123456789abcdef";
const NAME: &str = "shop.example.test";

/// One that asks that DNS server.
pub fn prober(dns: &Dns, local: bool) -> Prober {
    let settings = [("DNS_SERVER", dns.address.to_string()), ("ALLOW_LOCAL_HOSTS", local.to_string())];
    Prober::new(&config(&Database::sqlite(), &settings.map(|(key, value)| (key.to_owned(), value))))
}

/// What that host's owner has to publish.
pub fn challenge(host: &str) -> Challenge {
    Challenge { host: gatebird::host::Host::from_stored(host.to_owned()), token: TOKEN.to_owned() }
}

fn words(looks: &[Look]) -> Vec<Found> {
    looks.iter().map(|look| look.found).collect()
}

#[test]
fn a_record_proves_without_a_connection() {
    let host = Host::answering(ok(VALUE));
    let dns = Dns::with(&[
        ("_gatebird.shop.example.test", Record::text("v=spf1 -all")),
        ("_gatebird.shop.example.test", Record::text(VALUE)),
        (NAME, Record::address("127.0.0.1")),
    ]);
    let looks = prober(&dns, true).look(&challenge(&format!("{NAME}:{}", host.port())), &|_| true);
    let expected = Look { method: Method::Dns, at: format!("_gatebird.{NAME}"), found: Found::Match };
    assert_eq!(looks, [expected]);
    assert_eq!(host.connections(), 0);
}

#[test]
fn a_record_counts_only_when_it_is_exactly_that() {
    let long = "x".repeat(60_000);
    let texts = |texts: &[&str]| texts.iter().map(|text| Record::text(text)).collect::<Vec<_>>();
    let upper = VALUE.to_uppercase();
    let cases: Vec<(Vec<Record>, Found)> = vec![
        (texts(&[VALUE]), Found::Match),
        (texts(&["other", VALUE, "another"]), Found::Match),
        // The strings of one record are one value, wherever they were cut.
        (vec![Record::Text(vec![VALUE[..7].into(), VALUE[7..].into()])], Found::Match),
        // By TCP, because it does not fit.
        (texts(&[&long, VALUE]), Found::Match),
        (texts(&[&long]), Found::OtherValue),
        (texts(&[TOKEN]), Found::OtherValue),
        (texts(&[&upper]), Found::OtherValue),
        (texts(&[&format!("{VALUE} ")]), Found::OtherValue),
        (texts(&[&format!(" {VALUE}")]), Found::OtherValue),
        (texts(&[&format!("\"{VALUE}\"")]), Found::OtherValue),
        (texts(&[&format!("{VALUE}\0")]), Found::OtherValue),
        (texts(&[&format!("{VALUE};{VALUE}")]), Found::OtherValue),
        (texts(&[&VALUE[..VALUE.len() - 1]]), Found::OtherValue),
        // The strings of two records are not.
        (texts(&[&VALUE[..7], &VALUE[7..]]), Found::OtherValue),
        (vec![Record::Text(vec![Vec::new()])], Found::OtherValue),
        (vec![Record::Text(vec![vec![0xFF; 255]; 200])], Found::OtherValue),
    ];
    let dns = Dns::with(&[]);
    let prober = prober(&dns, false);
    for (records, expected) in cases {
        let shown = format!("{} records", records.len());
        dns.decide(move |name, kind| match (name, kind) {
            ("_gatebird.shop.example.test", Kind::Txt) => Answer::Records(records.clone()),
            _ => Answer::NoSuchName,
        });
        assert_eq!(words(&prober.look(&challenge(NAME), &|_| true))[0], expected, "{shown}");
    }
}

#[test]
fn an_alias_leads_to_the_record_that_its_owner_chose() {
    let dns = Dns::with(&[
        ("_gatebird.shop.example.test", Record::Alias("challenges.example.test".into())),
        ("challenges.example.test", Record::text(VALUE)),
    ]);
    assert_eq!(words(&prober(&dns, false).look(&challenge(NAME), &|_| true)), [Found::Match]);
    // The record of the name itself, or of one above or below, is another one's.
    dns.set(&[
        (NAME, Record::text(VALUE)),
        ("_gatebird.example.test", Record::text(VALUE)),
        ("_gatebird.www.shop.example.test", Record::text(VALUE)),
    ]);
    assert_eq!(
        words(&prober(&dns, false).look(&challenge(NAME), &|_| true)),
        [Found::NoRecord, Found::NoAddress, Found::NoAddress]
    );
}

#[test]
fn dns_that_fails_is_told_from_dns_that_has_nothing() {
    for (answer, expected) in [
        ((|| Answer::NoSuchName) as fn() -> Answer, [Found::NoRecord, Found::NoAddress]),
        (|| Answer::Records(Vec::new()), [Found::NoRecord, Found::NoAddress]),
        (|| Answer::Failure, [Found::NoAnswer, Found::NoAnswer]),
        (|| Answer::Nothing, [Found::Timeout, Found::Timeout]),
    ] {
        let dns = Dns::start(move |_, _| answer());
        let looks = prober(&dns, false).look(&challenge(NAME), &|_| true);
        assert_eq!(words(&looks), [expected[0], expected[1], expected[1]]);
    }
}

#[test]
fn the_file_proves_too() {
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
        let looks = prober(&dns, true).look(&challenge(&at), &|_| true);
        assert_eq!(words(&looks), [Found::NoRecord, Found::Tls, Found::Match], "{answer:?}");
        let url = format!("http://{at}/.well-known/gatebird-challenge");
        assert_eq!(looks[2], Look { method: Method::File, at: url, found: Found::Match });
        // Exactly that path and that name, and nothing of the challenge, which a page could echo.
        let request = host.requests().pop().expect("a request");
        assert!(request.starts_with("GET /.well-known/gatebird-challenge HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nHost: {at}\r\n")), "{request}");
        assert!(!request.contains(TOKEN), "{request}");
    }
}

#[test]
fn any_other_answer_does_not() {
    let head = |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\n{rest}\r\n{VALUE}");
    let with = |headers: &str| head("200 OK", &format!("Content-Length: 51\r\n{headers}"));
    let cases = [
        (ok(""), Found::OtherValue),
        (ok(TOKEN), Found::OtherValue),
        (ok(&format!(" {VALUE}")), Found::OtherValue),
        (ok(&format!("\u{feff}{VALUE}")), Found::OtherValue),
        (ok(&VALUE.to_uppercase()), Found::OtherValue),
        (ok(&format!("{VALUE}{VALUE}")), Found::OtherValue),
        (ok(&format!("<p>{VALUE}</p>")), Found::OtherValue),
        (ok(&VALUE[..50]), Found::OtherValue),
        (with("Content-Encoding: gzip\r\n"), Found::OtherValue),
        (with("Content-Encoding: br, gzip\r\n"), Found::OtherValue),
        (head("404 Not Found", "Content-Length: 51\r\n"), Found::Status),
        (head("500 Oops", ""), Found::Status),
        (head("204 No Content", ""), Found::Status),
        (head("206 Partial Content", "Content-Length: 51\r\n"), Found::Status),
        (head("101 Switching Protocols", "Upgrade: x\r\n"), Found::Status),
        (head("301 Moved", "Location: /elsewhere\r\n"), Found::Redirect),
        (head("200 OK", "Content-Length: +51\r\n"), Found::NotHttp),
        (head("200 OK", "Content-Length: 51, 51\r\n"), Found::NotHttp),
        (head("200 OK", "Content-Length: -1\r\n"), Found::NotHttp),
        (head("200 OK", "Content-Length: 99999999999999999999\r\n"), Found::TooLarge),
        (head("200 OK", "Content-Length: 65537\r\n"), Found::TooLarge),
        (head("200 OK", "Content-Length: 60\r\n"), Found::Unreachable),
        (head("200 OK", "Transfer-Encoding: gzip, chunked\r\n"), Found::NotHttp),
        (head("200 OK", "Transfer-Encoding: chunked\r\n"), Found::NotHttp),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n".into(), Found::TooLarge),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n\r\n".into(), Found::NotHttp),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n".into(), Found::NotHttp),
        ("HTTP/1.1 200 OK\r\nContent-Length: 51\r\n".into(), Found::NotHttp),
        ("220 mail.example.test ESMTP\r\n".into(), Found::NotHttp),
        ("-ERR unknown command 'GET'\r\n".into(), Found::NotHttp),
        ("SSH-2.0-OpenSSH_9.9\r\n".into(), Found::NotHttp),
        ("\0\0\0\0".into(), Found::NotHttp),
        (VALUE.into(), Found::NotHttp),
        (String::new(), Found::Unreachable),
    ];
    let host = Host::answering("");
    let dns = Dns::with(&[(NAME, Record::address("127.0.0.1"))]);
    let prober = prober(&dns, true);
    let challenge = challenge(&format!("{NAME}:{}", host.port()));
    for (answer, expected) in cases {
        host.answer(answer.clone());
        assert_eq!(words(&prober.look(&challenge, &|_| true))[2], expected, "{answer:?}");
    }
}

#[test]
fn a_port_where_nobody_listens_and_ports_that_no_web_server_has() {
    let dns = Dns::with(&[(NAME, Record::address("127.0.0.1"))]);
    let prober = prober(&dns, true);
    for (port, expected) in [(1, Found::Port), (22, Found::Port), (25, Found::Port), (1023, Found::Port)] {
        assert_eq!(
            words(&prober.look(&challenge(&format!("{NAME}:{port}")), &|_| true)),
            [Found::NoRecord, expected, expected]
        );
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let unreachable = [Found::NoRecord, Found::Unreachable, Found::Unreachable];
    assert_eq!(words(&prober.look(&challenge(&format!("{NAME}:{port}")), &|_| true)), unreachable);
}

/// A certificate authority of the test's own.
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

/// By https, on port 443 of a public address: what is dialled there leads to the test's own host.
#[test]
fn https_comes_first_with_the_name_and_a_certificate_that_is_trusted() {
    let authority = Authority::new();
    let dns = Dns::with(&[(NAME, Record::address("198.41.0.4"))]);
    for (name, roots, expected) in [
        (NAME, authority.roots(), Found::Match),
        ("other.example.test", authority.roots(), Found::Tls),
        (NAME, Authority::new().roots(), Found::Tls),
        (NAME, RootCertStore::empty(), Found::Tls),
    ] {
        let host = authority.host(name);
        let to = host.address;
        let dial = move |address: std::net::SocketAddr, patience: Duration| {
            assert_eq!(address.ip(), Ipv4Addr::new(198, 41, 0, 4));
            match address.port() {
                443 => TcpStream::connect_timeout(&to, patience),
                80 => Err(std::io::ErrorKind::ConnectionRefused.into()),
                other => panic!("port {other}"),
            }
        };
        let looks = prober(&dns, false).through(Box::new(dial), roots).look(&challenge(NAME), &|_| true);
        assert_eq!(words(&looks)[..2], [Found::NoRecord, expected], "{name}");
        assert_eq!(looks[1].at, format!("https://{NAME}/.well-known/gatebird-challenge"));
        if expected == Found::Match {
            assert_eq!(looks.len(), 2);
            let request = host.requests().pop().expect("a request");
            assert!(request.starts_with(&format!("{NAME}\nGET ")), "the name is in the handshake: {request}");
            assert!(request.contains(&format!("\r\nHost: {NAME}\r\n")), "{request}");
        } else {
            assert_eq!(looks[2].found, Found::Unreachable);
        }
    }
}
