//! Servers with data. The data is created through HTTP, except a million revocations, because each would be answered
//! only once it is on the disk. Owns the calls of the set-up: sign up, register a domain, exchange its secret.

use std::io::Write;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::load::{self, Load};
use crate::request;
use crate::schedule::Mode;
use crate::server::{self, Cores, Server};
use crate::{CONNECTIONS, Result, Settings};

/// Connections of the set-up. SQLite has one writer at a time, so more would only wait.
const WRITERS: usize = 4;

/// A registered domain with its credentials for all calls.
pub(crate) struct Client {
    /// The `client_id`.
    pub(crate) id: String,
    pub(crate) secret: String,
    /// An access token.
    pub(crate) token: String,
}

/// A running server and its registered domains.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    /// Resident memory after the restart on this data, before any request except `/readyz`.
    resident: u64,
    settings: Settings,
    pub(crate) directory: TempDir,
    import: Option<Import>,
    revoked: Option<Revoked>,
}

/// Tokens that were revoked before the server's start, and the memory that they take.
#[derive(Clone, Copy)]
struct Revoked {
    count: usize,
    bytes: u64,
}

/// The result of a bulk load and of a server with its data.
#[derive(Clone, Copy)]
pub(crate) struct Import {
    pub(crate) domains: usize,
    pub(crate) took: Duration,
    /// From the start of a server on all cores to its first 200 of `/readyz`.
    pub(crate) ready: Duration,
    /// Resident bytes then.
    pub(crate) resident: u64,
    /// The median time from sending a change of a domain to its answer, which is sent once it is in force.
    pub(crate) change: Duration,
}

impl Fixture {
    fn prepare(domains: usize, settings: Settings, cores: Cores) -> Result<Self> {
        eprintln!("setting up a server with {domains} domain(s) {settings:?}");
        let directory = server::directory()?;
        let (server, _) = Server::start(directory.path(), settings, cores)?;
        let user = json!({ "username": "bench", "password": "correct horse battery staple", "nick": "Bench" });
        let users = each(&server, &[request::post("/v1/signup", &user, None)], 1, 201)?;
        let user_token = member(users.first().unwrap_or(&Value::Null), "token")?;
        let requests: Vec<_> = (1..=domains)
            .map(|number| {
                let body = json!({ "host": format!("d{number}.example.com"), "type": "free" });
                request::post("/v1/domains", &body, Some(&user_token))
            })
            .collect();
        let registered = each(&server, &requests, WRITERS, 201)?;

        // The measured process starts with the data, as a server in service does.
        server.stop()?;
        let (server, _) = Server::start(directory.path(), settings, cores)?;
        let resident = server.resident()?;

        let secrets = registered.iter().map(|answer| member(answer, "clientSecret"));
        let secrets = secrets.collect::<Result<Vec<_>>>()?;
        let exchange = |secret| request::post("/token", &json!({ "clientSecret": secret }), None);
        let requests: Vec<_> = secrets.iter().map(exchange).collect();
        let tokens = each(&server, &requests, CONNECTIONS, 200)?;
        let mut clients = Vec::with_capacity(domains);
        for ((answer, secret), token) in registered.iter().zip(secrets).zip(&tokens) {
            clients.push(Client { id: member(answer, "id")?, secret, token: member(token, "token")? });
        }
        if let Some(client) = clients.iter().find(|client| client.token.is_empty()) {
            return Err(format!("the token of {} is empty", client.id).into());
        }
        Ok(Self { server, clients, resident, settings, directory, import: None, revoked: None })
    }

    /// A server with one domain and that many revoked tokens of other domains.
    fn revoked(count: usize, cores: Cores) -> Result<Self> {
        let Self { server, mut clients, resident, settings, directory, .. } = Self::prepare(1, crate::DEFAULTS, cores)?;
        eprintln!("revoking {count} tokens");
        server.stop()?;
        let mut database = SqliteConnection::establish(&server::database(directory.path()).to_string_lossy())?;
        database.batch_execute(&format!(
            "WITH RECURSIVE token (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM token WHERE number < {count})
             INSERT INTO revocations (jti, expires_at) SELECT randomblob(16), unixepoch() + 3600 FROM token"
        ))?;
        drop(database);
        let (server, _) = Server::start(directory.path(), settings, cores)?;
        let bytes = server.resident()?.saturating_sub(resident);
        // The port differs, and so does the issuer.
        for client in &mut clients {
            let answers = each(&server, &[crate::token(client)], 1, 200)?;
            client.token = member(answers.first().unwrap_or(&Value::Null), "token")?;
        }
        Ok(Self {
            server,
            clients,
            resident,
            settings,
            directory,
            import: None,
            revoked: Some(Revoked { count, bytes }),
        })
    }

    /// A server with that many imported domains, ten per owner.
    fn import(domains: usize, cores: Cores) -> Result<Self> {
        eprintln!("importing {domains} domains");
        let directory = server::directory()?;
        let (list, secrets) = (directory.path().join("domains.csv"), directory.path().join("secrets.csv"));
        let mut rows = std::io::BufWriter::new(std::fs::File::create(&list)?);
        writeln!(rows, "username,host,type")?;
        for number in 0..domains {
            writeln!(rows, "owner{},d{number}.example.com,free", number / 10)?;
        }
        drop(rows);
        let began = Instant::now();
        server::import(directory.path(), &list, &secrets)?;
        let took = began.elapsed();
        let clients: Vec<Client> = std::fs::read_to_string(&secrets)?
            .lines()
            .skip(1)
            .filter_map(|line| {
                let mut fields = line.split(',').skip(2);
                let (id, secret) = (fields.next()?.to_owned(), fields.next()?.to_owned());
                Some(Client { id, secret, token: String::new() })
            })
            .collect();
        if clients.len() != domains {
            return Err(format!("{} of {domains} domains were imported", clients.len()).into());
        }
        let (server, ready) = Server::start(directory.path(), crate::DEFAULTS, Cores::all())?;
        let (resident, change) = (server.resident()?, change(&server)?);
        server.stop()?;
        let (server, _) = Server::start(directory.path(), crate::DEFAULTS, cores)?;
        let import = Some(Import { domains, took, ready, resident, change });
        Ok(Self { server, clients, resident, settings: crate::DEFAULTS, directory, import, revoked: None })
    }
}

/// All prepared servers; rows with the same data and settings share one.
pub(crate) struct Fixtures {
    cores: Cores,
    ready: Vec<std::rc::Rc<Fixture>>,
}

impl Fixtures {
    pub(crate) fn new(cores: Cores) -> Self {
        Self { cores, ready: Vec::new() }
    }

    /// The server with that many domains and these settings, set up on first use.
    pub(crate) fn get(&mut self, domains: usize, settings: Settings) -> Result<std::rc::Rc<Fixture>> {
        if let Some(fixture) = self.find(domains, settings) {
            return Ok(fixture.clone());
        }
        let fixture = std::rc::Rc::new(Fixture::prepare(domains, settings, self.cores)?);
        self.ready.push(fixture.clone());
        Ok(fixture)
    }

    /// The server with that many imported domains.
    pub(crate) fn imported(&mut self, domains: usize) -> Result<std::rc::Rc<Fixture>> {
        let fixture = std::rc::Rc::new(Fixture::import(domains, self.cores)?);
        self.ready.push(fixture.clone());
        Ok(fixture)
    }

    /// The server with that many revoked tokens.
    pub(crate) fn revoked(&mut self, count: usize) -> Result<std::rc::Rc<Fixture>> {
        let fixture = std::rc::Rc::new(Fixture::revoked(count, self.cores)?);
        self.ready.push(fixture.clone());
        Ok(fixture)
    }

    /// Resident bytes per revoked token, if a row needed them.
    pub(crate) fn bytes_of_revocation(&self) -> Option<f64> {
        let Revoked { count, bytes } = self.ready.iter().find_map(|fixture| fixture.revoked)?;
        Some(bytes as f64 / count as f64)
    }

    /// The result of the import, if a row needed it.
    pub(crate) fn import(&self) -> Option<Import> {
        self.ready.iter().find_map(|fixture| fixture.import)
    }

    /// Resident memory of that server before load, if a row needed it.
    pub(crate) fn resident(&self, domains: usize, settings: Settings) -> Option<u64> {
        self.find(domains, settings).map(|fixture| fixture.resident)
    }

    fn find(&self, domains: usize, settings: Settings) -> Option<&std::rc::Rc<Fixture>> {
        let wanted = |fixture: &&std::rc::Rc<Fixture>| {
            fixture.clients.len() == domains && fixture.settings == settings && fixture.revoked.is_none()
        };
        self.ready.iter().find(wanted)
    }
}

/// The median time until a change of a domain is in force.
fn change(server: &Server) -> Result<Duration> {
    let user = json!({ "username": "bench", "password": "correct horse battery staple", "nick": "Bench" });
    let users = each(server, &[request::post("/v1/signup", &user, None)], 1, 201)?;
    let token = member(users.first().unwrap_or(&Value::Null), "token")?;
    let domain = json!({ "host": "changed.example.com", "type": "free" });
    let domains = each(server, &[request::post("/v1/domains", &domain, Some(&token))], 1, 201)?;
    let path = format!("/v1/domains/{}/secrets", member(domains.first().unwrap_or(&Value::Null), "id")?);
    let rotate = [request::post(&path, &json!({ "graceSeconds": 0 }), Some(&token))];
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        let rotated = each(server, &rotate, 1, 201)?;
        times.push(began.elapsed());
        let secret = member(rotated.first().unwrap_or(&Value::Null), "clientSecret")?;
        each(server, &[request::post("/token", &json!({ "clientSecret": secret }), None)], 1, 200)?;
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Sends each request once and returns the answers in the same order. All must have the status.
fn each(server: &Server, requests: &[Vec<u8>], connections: usize, expect: u16) -> Result<Vec<Value>> {
    let load = Load { server: server.address, requests, connections, expect, mode: Mode::Each };
    let mut answers = vec![Value::Null; requests.len()];
    let outcome = load::run(&load, |index, _, body| {
        answers[index] = serde_json::from_slice(body).unwrap_or_default();
    })?;
    match outcome.first_error {
        Some(error) => Err(format!("set-up went wrong {} times, first: {error}", outcome.errors).into()),
        None => Ok(answers),
    }
}

/// A text member of an answer, at its top level or in its `payload`.
fn member(answer: &Value, name: &str) -> Result<String> {
    let found = answer.get(name).or_else(|| answer.get("payload")?.get(name)).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("an answer without `{name}`: {answer}"))?.to_owned())
}
