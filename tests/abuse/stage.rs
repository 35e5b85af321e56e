//! The server under attack, with its data in a temporary folder or in a new PostgreSQL schema.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::Result;
use crate::server::{self, Cores, Server};

/// A running server.
pub(crate) struct Stage {
    pub(crate) server: Server,
    settings: Vec<(String, String)>,
    directory: TempDir,
    schema: Option<Schema>,
    _nameserver: Nameserver,
    /// The attack runs in its short form.
    pub(crate) quick: bool,
}

impl Stage {
    /// Starts a server with these settings and otherwise the defaults, on SQLite or in a new schema of that PostgreSQL.
    pub(crate) fn start(settings: &[(&str, &str)], postgres: Option<&str>, quick: bool) -> Result<Self> {
        let nameserver = Nameserver::start()?;
        let directory = tempfile::Builder::new().prefix("gatebird-abuse-").tempdir()?;
        let schema = postgres.map(Schema::create).transpose()?;
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let mut all: Vec<_> = settings.iter().copied().map(own).collect();
        // The default port may be taken, and the machine's DNS may be slow.
        all.push(own(("METRICS_ADDR", "off")));
        all.push(own(("DNS_SERVER", &nameserver.address.to_string())));
        if let Some(schema) = &schema {
            all.push(own(("DATABASE_URL", &schema.url)));
            all.push(own(("JWT_SECRET", "kJ8s0dP2mQ7xV4nB1zR6tY9wL3cF5gH0uE2a")));
        }
        let server = start(directory.path(), &all)?;
        Ok(Self { server, settings: all, directory, schema, _nameserver: nameserver, quick })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Inserts data that would take too long through the API, and restarts the server.
    pub(crate) fn write(&mut self, statements: &str) -> Result<()> {
        match &self.schema {
            Some(schema) => PgConnection::establish(&schema.url)?.batch_execute(statements)?,
            None => {
                self.server.terminate()?;
                let file = server::database(self.directory.path());
                SqliteConnection::establish(&file.to_string_lossy())?.batch_execute(statements)?;
                self.server = start(self.directory.path(), &self.settings)?;
            }
        }
        Ok(())
    }

    /// The bytes of the log and of the database.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let size = |name: &str| std::fs::metadata(self.directory.path().join(name)).map_or(0, |data| data.len());
        (size("server.log"), size("gatebird.db") + size("gatebird.db-wal"))
    }

    /// The number of panics in the log.
    pub(crate) fn panics(&self) -> usize {
        let log = std::fs::read(self.directory.path().join("server.log")).unwrap_or_default();
        log.windows(b"panicked at".len()).filter(|part| part == b"panicked at").count()
    }
}

fn start(directory: &Path, settings: &[(String, String)]) -> Result<Server> {
    let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    Ok(Server::start_with(directory, &settings, Cores::all())?.0)
}

/// A PostgreSQL schema, dropped with its handle.
struct Schema {
    base: String,
    name: String,
    url: String,
}

impl Schema {
    fn create(base: &str) -> Result<Self> {
        let name = format!("abuse_{:016x}", crate::people::random());
        PgConnection::establish(base)?.batch_execute(&format!("CREATE SCHEMA {name}"))?;
        let separator = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{separator}options=-csearch_path%3D{name}");
        Ok(Self { base: base.to_owned(), name, url })
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if let Ok(mut connection) = PgConnection::establish(&self.base) {
            drop(connection.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.name)));
        }
    }
}

/// The address of every host whose name contains `victim`.
pub(crate) const VICTIM: [u8; 4] = [127, 0, 0, 50];

/// A DNS server. It does not answer for names that contain `silent`. Names that contain `victim` have one address. All
/// other names do not exist.
struct Nameserver {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Nameserver {
    fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let (address, stop) = (socket.local_addr()?, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut query = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
                if let Some(answer) = Self::answer(&query[..length]) {
                    drop(socket.send_to(&answer, client));
                }
            }
        });
        Ok(Self { address, stop })
    }

    fn answer(query: &[u8]) -> Option<Vec<u8>> {
        const HEADER: usize = 12;
        let name_end = HEADER + query.get(HEADER..)?.iter().position(|&byte| byte == 0)?;
        let question = query.get(HEADER..name_end + 5)?;
        let is_in_name = |word: &[u8]| question.windows(word.len()).any(|part| part == word);
        if is_in_name(b"silent") {
            return None;
        }
        let asks_for_address = question.ends_with(&[0, 1, 0, 1]);
        let known = is_in_name(b"victim");
        let answers = u8::from(known && asks_for_address);
        let code = if known { 0 } else { 3 };
        let flags = [0x85, 0x80 | code];
        let mut answer = [&query[..2], &flags[..], &[0, 1, 0, answers, 0, 0, 0, 0], question].concat();
        if answers > 0 {
            // The name of the question, type A, class IN, TTL 0, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(VICTIM);
        }
        Some(answer)
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
