//! Heads that are too large, too slow or malformed, and requests pipelined around them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{raw, replies};
use crate::harness::{Gate, PASSWORD, json};

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

fn connect(gate: &Gate) -> TcpStream {
    let stream = TcpStream::connect(gate.url.strip_prefix("http://").expect("plain HTTP")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// Everything until the server closes.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server closes, and does not reset");
    answer
}

#[test]
fn request_head__too_large_after_pipelined_requests() {
    let gate = Gate::start();
    let filler = |size: usize| "a".repeat(size);
    for (what, head) in [
        ("a long value", format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", filler(17_000))),
        (
            "a name that the framework cannot hold",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}: a\r\n\r\n", filler(65_536)),
        ),
        ("a longer name", format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}: a\r\n\r\n", filler(100_000))),
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", filler(70_000))),
        ("a head that does not end", format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}", filler(1 << 20))),
        ("many lines", format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: a\r\n".repeat(3000))),
        ("as many lines as fit", format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: a\r\n".repeat(97))),
        ("empty lines", "\r\n".repeat(20_000)),
        (
            "with a body",
            format!("POST /token HTTP/1.1\r\nHost: x\r\nX: {}\r\nContent-Length: 3\r\n\r\nabc", filler(17_000)),
        ),
    ] {
        for before in [0, 1, 3] {
            let mut stream = connect(&gate);
            stream.write_all(HEALTHZ.repeat(before).as_bytes()).expect("sent");
            // The server may answer and close before all of this is sent.
            drop(stream.write_all(head.as_bytes()));
            let answers = replies(&read_all(&mut stream));
            assert_eq!(answers.len(), before + 1, "{what}: {answers:?}");
            for answer in &answers[..before] {
                answer.expect(200);
            }
            let last = &answers[before];
            last.refused(431, "too_large");
            assert_eq!(last.header("connection"), Some("close"), "{what}");
            assert_eq!(last.header("x-content-type-options"), Some("nosniff"), "{what}");
        }
    }
    gate.get("/healthz").send().expect(200);
}

#[test]
fn request_head__of_16_kib_is_accepted() {
    let gate = Gate::start();
    let bare = "GET /healthz HTTP/1.1\r\nHost: x\r\nX: \r\n\r\n".len();
    let of_size = |size: usize| format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(size - bare));
    raw(&gate, of_size(16 * 1024).as_bytes())[0].expect(200);
    raw(&gate, of_size(16 * 1024 + 1).as_bytes())[0].refused(431, "too_large");
    // In small parts, twice on one connection.
    let mut stream = connect(&gate);
    for _ in 0..2 {
        for part in of_size(16 * 1024).as_bytes().chunks(1000) {
            stream.write_all(part).expect("sent");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).expect("an answer");
        replies(&answer[..read])[0].expect(200);
    }
}

#[test]
fn request_head__malformed_is_refused_in_the_usual_shape() {
    let gate = Gate::start();
    for head in [
        "BROKEN\r\n\r\n",
        "G% / HTTP/1.1\r\nHost: x\r\n\r\n",
        "#$%&' / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: x\r\n\r\n",
        "\u{16}\u{3}\u{1}\0\u{1}",
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n",
        "GET /\u{ff}\u{7f}\"<> HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /token HTTP/1.0\r\nHost: x\r\n\r\n",
        "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: gbs_secret\r\n\r\n",
        "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gbs_secret\r\n\r\n",
        "POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\na",
    ] {
        let answers = raw(&gate, format!("{HEALTHZ}{head}").as_bytes());
        assert_eq!(answers.len(), 2, "{head:?}: {answers:?}");
        answers[0].expect(200);
        answers[1].refused(400, "malformed");
        assert_eq!(answers[1].header("connection"), Some("close"));
    }
}

/// Takes ten seconds of real time once.
#[test]
fn head_timeout__slow_head_is_cut_off() {
    let gate = Gate::start();
    let begun = "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ";
    let timed_out = |before: usize, dribble: bool| {
        let mut stream = connect(&gate);
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        stream.write_all(HEALTHZ.repeat(before).as_bytes()).expect("sent");
        let started = Instant::now();
        stream.write_all(begun.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            assert!(started.elapsed() < Duration::from_secs(15), "the connection is not closed");
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&part[..read]),
                Err(_) if dribble => drop(stream.write_all(b"a")),
                Err(_) => {}
            }
        }
        assert!(started.elapsed() > Duration::from_secs(9), "after {:?}", started.elapsed());
        let answers = replies(&answer);
        assert_eq!(answers.len(), before + 1, "{answers:?}");
        answers[before].refused(408, "timeout");
    };
    let silent = || {
        let (mut stream, started) = (connect(&gate), Instant::now());
        assert!(read_all(&mut stream).is_empty(), "without a request there is no answer");
        assert!(started.elapsed() > Duration::from_secs(9), "after {:?}", started.elapsed());
    };
    std::thread::scope(|scope| {
        for before in [0, 1, 5] {
            for dribble in [false, true] {
                scope.spawn(move || timed_out(before, dribble));
            }
        }
        scope.spawn(silent);
    });
}

#[test]
fn pipelining__mixed_requests_are_answered_in_order() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let post = |name: usize, content: &str| {
        let body = json!({"content": content}).to_string();
        let head = format!(
            "POST /v1/posts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nX-Request-Id: {name}\r\n\
             Content-Type: application/json\r\n",
            user.token
        );
        match name % 2 {
            0 => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            _ => {
                let (left, right) = body.split_at(5);
                format!(
                    "{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{left}\r\n{:x};a=b\r\n{right}\r\n0\r\nX: y\r\n\r\n",
                    right.len()
                )
            }
        }
    };
    let get = |name: usize| format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: {name}\r\n\r\n");
    // 100 of each kind alone, and then mixed.
    for kinds in [[0, 0], [1, 1], [0, 1]] {
        let requests: String = (0..100)
            .map(|name| match kinds[name % 2] {
                0 => get(name),
                _ => post(name / 2, "one of many"),
            })
            .collect();
        let answers = raw(&gate, requests.as_bytes());
        assert_eq!(answers.len(), 100);
        for (name, answer) in answers.iter().enumerate() {
            let (status, expected) = if kinds[name % 2] == 0 { (200, name) } else { (201, name / 2) };
            answer.expect(status);
            assert_eq!(answer.header("x-request-id"), Some(expected.to_string().as_str()));
        }
    }
    // The same byte by byte.
    let mut stream = connect(&gate);
    stream.set_nodelay(true).expect("TCP");
    let requests = [get(0), post(0, "a"), post(1, "b"), get(3)].concat();
    for byte in requests.as_bytes() {
        stream.write_all(&[*byte]).expect("sent");
    }
    stream.shutdown(std::net::Shutdown::Write).expect("TCP");
    let statuses: Vec<u16> = replies(&read_all(&mut stream)).iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 201, 201, 200]);
}

#[test]
fn request_body__sent_after_its_head() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n",
            user.token
        )
    };
    // 64 KiB, nearly all of it blanks, in parts of several sizes.
    for part in [100, 1448, 16 * 1024, 64 * 1024] {
        let body = format!("{:<65000}", json!({"content": "large"}));
        let mut stream = connect(&gate);
        stream.set_nodelay(true).expect("TCP");
        stream.write_all(head("/v1/posts", body.len()).as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(20));
        for part in body.as_bytes().chunks(part) {
            stream.write_all(part).expect("sent");
        }
        stream.write_all(HEALTHZ.as_bytes()).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("TCP");
        let answers = replies(&read_all(&mut stream));
        assert_eq!(answers.iter().map(|reply| reply.status).collect::<Vec<_>>(), [201, 200], "{part}: {answers:?}");
    }
    // A request that is refused without its body is answered and not reset, although the client keeps sending.
    for (path, length, status) in [("/v1/posts", 100_000, 413), ("/nowhere", 100_000, 404)] {
        let mut stream = connect(&gate);
        stream.write_all(head(path, length).as_bytes()).expect("sent");
        drop(stream.write_all(&vec![b' '; length]));
        let answers = replies(&read_all(&mut stream));
        assert_eq!(answers.iter().map(|reply| reply.status).collect::<Vec<_>>(), [status], "{answers:?}");
    }
    // An unread chunked body is skipped.
    let chunked = "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "3e8\r\n".to_owned() + &"a".repeat(1000) + "\r\n";
    let requests = format!("{chunked}{}0\r\n\r\n{HEALTHZ}", chunks.repeat(300));
    let answers = raw(&gate, requests.as_bytes());
    assert_eq!(answers.iter().map(|reply| reply.status).collect::<Vec<_>>(), [404, 200], "{answers:?}");
}

#[test]
fn request_body__head_and_body_in_one_packet_or_two() {
    let gate = Gate::start();
    gate.sign_up("alice");
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    let head = format!(
        "POST /v1/signin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(&gate);
    for pause in [Duration::ZERO, Duration::from_millis(30)].repeat(3) {
        stream.write_all(head.as_bytes()).expect("sent");
        std::thread::sleep(pause);
        stream.write_all(body.as_bytes()).expect("sent");
        let mut answer = [0; 8192];
        let read = stream.read(&mut answer).expect("an answer");
        replies(&answer[..read])[0].expect(200);
    }
}
