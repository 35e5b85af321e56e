//! A web server of a third party on a loopback port, with any behaviour, which counts its connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A server that runs as long as the process of the tests.
#[derive(Clone)]
pub struct Host {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Host {
    /// Answers every request with those bytes, and closes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Host {
        let answer = Arc::new(Mutex::new(answer.into()));
        let bytes = Arc::clone(&answer);
        let host = Host::behaving(move |stream, head| {
            // A TLS handshake is not answered.
            if head.starts_with("GET ") {
                drop(stream.write_all(&bytes.lock().expect("no panic")));
            }
        });
        Host { answer, ..host }
    }

    /// Runs `behave` for every connection, once a head has come.
    pub fn behaving(behave: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> Host {
        Host::accepting(move |mut stream, requests: &Mutex<Vec<String>>| {
            let head = head(&mut stream);
            requests.lock().expect("no panic").push(head.clone());
            behave(&mut stream, &head);
        })
    }

    /// Runs `serve` for every connection.
    pub fn accepting(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let host = Host { address, connections: Arc::default(), requests: Arc::default(), answer: Arc::default() };
        let (connections, requests) = (Arc::clone(&host.connections), Arc::clone(&host.requests));
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (serve, requests) = (Arc::clone(&serve), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, &requests));
            }
        });
        host
    }

    /// Replaces the answer.
    pub fn answer(&self, answer: impl Into<Vec<u8>>) {
        *self.answer.lock().expect("no panic") = answer.into();
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// A good answer with that body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads until a blank line, or until the input is no HTTP.
pub fn head(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && bytes.first().is_none_or(u8::is_ascii_uppercase) {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
