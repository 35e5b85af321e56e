//! Servers with data, set up as a newcomer would: through HTTP only. Owns what the benchmark
//! knows of the API besides the measured calls: sign up, register a domain, exchange its secret.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::load::{self, Load};
use crate::schedule::Mode;
use crate::server::{self, Cores, Server};
use crate::{CONNECTIONS, Result, Settings};

/// Connections while writing: SQLite takes one writer at a time, so more only queue up.
const WRITERS: usize = 4;

/// A registered domain with what it needs for any call.
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
    /// Resident memory right after the restart on this data, before any request but `/readyz`.
    resident: u64,
    settings: Settings,
    pub(crate) directory: TempDir,
}

impl Fixture {
    fn prepare(domains: usize, settings: Settings, cores: Cores) -> Result<Self> {
        eprintln!("setting up a server with {domains} domain(s) {settings:?}");
        let directory = server::directory()?;
        let (server, _) = Server::start(directory.path(), settings, cores)?;
        let user = json!({ "username": "bench", "password": "correct horse battery staple", "nick": "Bench" });
        let users = each(&server, &[load::post("/v1/signup", &user, None)], 1, 201)?;
        let user_token = member(users.first().unwrap_or(&Value::Null), "token")?;
        let requests: Vec<_> = (1..=domains)
            .map(|number| {
                let body = json!({ "host": format!("d{number}.example.com"), "type": "free" });
                load::post("/v1/domains", &body, Some(&user_token))
            })
            .collect();
        let registered = each(&server, &requests, WRITERS, 201)?;

        // The measured process starts with the data, as a server in service does.
        server.stop()?;
        let (server, _) = Server::start(directory.path(), settings, cores)?;
        let resident = server.resident()?;

        let secrets = registered.iter().map(|answer| member(answer, "clientSecret"));
        let secrets = secrets.collect::<Result<Vec<_>>>()?;
        let exchange = |secret| load::post("/token", &json!({ "clientSecret": secret }), None);
        let requests: Vec<_> = secrets.iter().map(exchange).collect();
        let tokens = each(&server, &requests, CONNECTIONS, 200)?;
        let mut clients = Vec::with_capacity(domains);
        for ((answer, secret), token) in registered.iter().zip(secrets).zip(&tokens) {
            clients.push(Client { id: member(answer, "id")?, secret, token: member(token, "token")? });
        }
        if let Some(client) = clients.iter().find(|client| client.token.is_empty()) {
            return Err(format!("the token of {} is empty", client.id).into());
        }
        Ok(Self { server, clients, resident, settings, directory })
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

    /// The server with so many domains and these settings, set up now if nobody asked before.
    pub(crate) fn get(&mut self, domains: usize, settings: Settings) -> Result<std::rc::Rc<Fixture>> {
        if let Some(fixture) = self.find(domains, settings) {
            return Ok(fixture.clone());
        }
        let fixture = std::rc::Rc::new(Fixture::prepare(domains, settings, self.cores)?);
        self.ready.push(fixture.clone());
        Ok(fixture)
    }

    /// Resident memory of such a server before load, if a row needed one.
    pub(crate) fn resident(&self, domains: usize, settings: Settings) -> Option<u64> {
        self.find(domains, settings).map(|fixture| fixture.resident)
    }

    fn find(&self, domains: usize, settings: Settings) -> Option<&std::rc::Rc<Fixture>> {
        self.ready.iter().find(|fixture| fixture.clients.len() == domains && fixture.settings == settings)
    }
}

/// Sends each request once and returns the answers in the requests' order; all must have the status.
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
