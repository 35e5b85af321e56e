//! Connections that are neither closed nor answered any more, as behind a middlebox that lost its state.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use url::Url;

use crate::binary::within;
use crate::harness::{Database, Gate, needs_postgres};

/// A proxy in front of PostgreSQL that can make its present connections swallow everything; new ones work.
struct Middlebox {
    port: u16,
    lost: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Middlebox {
    fn before(server: (String, u16)) -> Middlebox {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (lost, streams) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, kept) = (Arc::clone(&lost), Arc::clone(&streams));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let state = count.load(Ordering::SeqCst);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    kept.lock().expect("no panic").push(from.try_clone().expect("a socket"));
                    let count = Arc::clone(&count);
                    std::thread::spawn(move || copy(from, to, || count.load(Ordering::SeqCst) == state));
                }
            }
        });
        Middlebox { port, lost, streams }
    }

    /// From now on the present connections lead nowhere.
    fn lose_state(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }
}

/// Closes everything, so that blocked threads end.
impl Drop for Middlebox {
    fn drop(&mut self) {
        for stream in self.streams.lock().expect("no panic").iter() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, remembered: impl Fn() -> bool) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if remembered() && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if remembered() {
        drop(to.shutdown(Shutdown::Both));
    }
}

#[test]
fn half_open_connections__directory_sync_recovers() {
    let Some(base) = needs_postgres() else { return };
    let mut database = Database::in_schema(&base);
    let schema = database.url.rsplit("%3D").next().expect("a schema").to_owned();
    let mut url = Url::parse(&database.url).expect("a URL");
    let host = url.host_str().unwrap_or("127.0.0.1").to_owned();
    let middlebox = Middlebox::before((host, url.port().unwrap_or(5432)));
    url.set_host(Some("127.0.0.1")).expect("a host");
    url.set_port(Some(middlebox.port)).expect("a port");
    database.url = url.into();
    let gate = Gate::on(Arc::new(database), &[]);
    let (_, _, token) = gate.tenant("alice");

    middlebox.lose_state();
    let mut direct = PgConnection::establish(&base).expect("PostgreSQL answers");
    let suspend = format!("UPDATE {schema}.domains SET suspended = true, generation = generation + 1");
    // The trigger finds the counter by the search path.
    direct.batch_execute(&format!("SET search_path = {schema}; {suspend}")).expect("a suspension");
    within(Duration::from_secs(15), "the suspension is in force", || {
        gate.get("/v1/test").token(&token).send().status == 401
    });
    drop(middlebox);
}
