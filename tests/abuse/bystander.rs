//! The bystander: a user with domains on another network, who is not part of the attack.
//!
//! Each operation has a fixed rate. Its latency counts from the moment at which it was due, not from the moment at
//! which a connection was free, so that a stalled server does not hide delayed requests.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;
use crate::client::{Client, Reply, member};
use crate::people::{Account, Domain, Key, PASSWORD, asserted, credentials, random};
use crate::request;

/// The bystander's own address.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
pub(crate) const NAME: &str = "bystander";
/// A connection is replaced after that many operations.
const OPERATIONS_PER_CONNECTION: u64 = 20;
/// An operation that is this late fails without being sent, so that a server that hangs does not stall the battery.
const TOO_LATE: Duration = Duration::from_secs(10);
/// Domains whose hosts are verified in turn: a host allows five checks a minute, and a user 30.
const VERIFIED_IN_TURN: usize = 6;

/// An operation of the bystander.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Verify,
    Token,
    SignIn,
    Rotate,
    Revoke,
    Prove,
}

impl Operation {
    pub(crate) const ALL: [Self; 6] =
        [Self::Verify, Self::Token, Self::SignIn, Self::Rotate, Self::Revoke, Self::Prove];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Token => "token",
            Self::SignIn => "sign-in",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Prove => "prove",
        }
    }

    /// The interval, and the number of connections.
    fn pace(self) -> (Duration, u32) {
        match self {
            Self::Verify => (Duration::from_millis(20), 4),
            Self::Token => (Duration::from_millis(100), 2),
            Self::SignIn => (Duration::from_secs(1), 2),
            Self::Rotate => (Duration::from_secs(2), 1),
            Self::Revoke => (Duration::from_secs(1), 1),
            Self::Prove => (Duration::from_millis(2500), 2),
        }
    }
}

/// One operation that was due within the measured time.
pub(crate) struct Sample {
    pub(crate) operation: Operation,
    pub(crate) latency: Duration,
    /// The reason of a failure.
    pub(crate) failure: Option<String>,
}

pub(crate) struct Bystander {
    account: Account,
    /// For tokens and verifications.
    domain: Domain,
    /// Requests tokens by assertions.
    with_key: Domain,
    key: Key,
    /// Its secret is rotated.
    rotated: Domain,
    verified: Vec<Domain>,
    /// The newest access token.
    token: Mutex<String>,
}

impl Bystander {
    pub(crate) fn sign_up(server: SocketAddr) -> Result<Self> {
        let account = Account::sign_up(server, ADDRESS, NAME)?;
        let domain = account.register("shop.bystander.example.com", "premium", None)?;
        let key = Key::generate()?;
        let with_key = account.register("key.bystander.example.com", "premium", Some(key.public()))?;
        let rotated = account.register("rotated.bystander.example.com", "premium", None)?;
        let verified = (0..VERIFIED_IN_TURN)
            .map(|number| account.register(&format!("p{number}.bystander.example.com"), "free", None))
            .collect::<Result<_>>()?;
        let token = Mutex::new(domain.token(server, ADDRESS)?);
        Ok(Self { account, domain, with_key, key, rotated, verified, token })
    }

    /// Runs all operations from `start` to `end`, and returns those that were due in that time.
    pub(crate) fn run(&self, start: Instant, end: Instant) -> Vec<Sample> {
        // The token of an earlier run may have expired.
        if let Ok(token) = self.domain.token(self.account.server, ADDRESS) {
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        }
        let samples = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for operation in Operation::ALL {
                let (interval, connections) = operation.pace();
                for connection in 0..connections {
                    let samples = &samples;
                    scope.spawn(move || {
                        let mut worker = Worker { bystander: self, operation, client: None };
                        let mut due = start + interval * connection;
                        for number in u64::from(connection).. {
                            if due >= end {
                                break;
                            }
                            let sample = worker.perform(number, due);
                            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                            if number % OPERATIONS_PER_CONNECTION == 0 {
                                worker.client = None;
                            }
                            due += interval * connections;
                        }
                    });
                }
            }
        });
        samples.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self) -> String {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One connection and the operation that it is for.
struct Worker<'a> {
    bystander: &'a Bystander,
    operation: Operation,
    client: Option<Client>,
}

impl Worker<'_> {
    fn perform(&mut self, number: u64, due: Instant) -> Sample {
        let operation = self.operation;
        if due.elapsed() > TOO_LATE {
            return Sample { operation, latency: due.elapsed(), failure: Some("not sent".to_owned()) };
        }
        let Bystander { account, domain, with_key, key, rotated, verified, .. } = self.bystander;
        let user = Some(account.token.as_str());
        // The token to revoke is requested before the revocation is due.
        let to_revoke = match operation {
            Operation::Revoke => self.fetch_token(domain),
            _ => Ok(String::new()),
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let (request, expect) = match operation {
            Operation::Verify => (request::get("/v1/test", Some(&self.bystander.token())), 200),
            Operation::Token if number % 4 == 3 => {
                let assertion = key.assertion(&with_key.id, account.server, &random().to_string());
                (asserted("/token", &assertion, "grant_type=client_credentials"), 200)
            }
            Operation::Token => (domain.token_request(), 200),
            Operation::SignIn => (request::post("/v1/signin", &credentials(NAME, PASSWORD), None), 200),
            Operation::Rotate => {
                let path = format!("/v1/domains/{}/secrets", rotated.id);
                (request::post(&path, &json!({ "graceSeconds": 0 }), user), 201)
            }
            Operation::Revoke => {
                let body = format!("token={}", to_revoke.as_deref().unwrap_or_default());
                (request::form("/revoke", &body, &domain.id, &domain.secret), 200)
            }
            // Nothing is published, so the answer must be a refusal.
            Operation::Prove => {
                let domain = &verified[number as usize % verified.len()];
                (request::without_body("POST", &format!("/v1/domains/{}/verification", domain.id), user), 409)
            }
        };
        let answer = self.call(&request, expect);
        let latency = due.elapsed();
        let failure = to_revoke.and(answer).and_then(|reply| self.follow_up(number, &reply, &request));
        Sample { operation, latency, failure: failure.err() }
    }

    /// Checks after the answer. Their time does not count.
    fn follow_up(&mut self, number: u64, reply: &Reply, request: &[u8]) -> std::result::Result<(), String> {
        match self.operation {
            Operation::Token if number % 4 != 3 => {
                let token = member(&reply.body, "token").map_err(|error| error.to_string())?;
                *self.bystander.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
            }
            Operation::Rotate => {
                let secret = member(&reply.body, "clientSecret").map_err(|error| error.to_string())?;
                let id = self.bystander.rotated.id.clone();
                let token = self.fetch_token(&Domain { id, secret })?;
                self.call(&request::get("/v1/test", Some(&token)), 200)?;
            }
            Operation::Revoke => {
                let body = request.split(|&byte| byte == b'=').next_back().unwrap_or_default();
                let token = String::from_utf8_lossy(body);
                self.call(&request::get("/v1/test", Some(&token)), 401)
                    .map_err(|error| format!("after the revocation: {error}"))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn fetch_token(&mut self, domain: &Domain) -> std::result::Result<String, String> {
        let reply = self.call(&domain.token_request(), 200)?;
        member(&reply.body, "token").map_err(|error| error.to_string())
    }

    /// Sends a request, on a new connection if there is none. Any other status is a failure.
    fn call(&mut self, request: &[u8], expect: u16) -> std::result::Result<Reply, String> {
        let answered = self.connected().and_then(|client| client.call(request));
        match answered {
            Ok(reply) if reply.status == expect => Ok(reply),
            Ok(Reply { status, body }) => Err(format!("{status} {}", body["reason"].as_str().unwrap_or_default())),
            Err(error) => {
                self.client = None;
                Err(match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timeout".to_owned(),
                    io::ErrorKind::UnexpectedEof => "closed".to_owned(),
                    kind => kind.to_string(),
                })
            }
        }
    }

    fn connected(&mut self) -> io::Result<&mut Client> {
        if self.client.is_none() {
            self.client = Some(Client::connect(self.bystander.account.server, ADDRESS)?);
        }
        self.client.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// The latencies of one operation, sorted, and all failures by kind.
pub(crate) fn summarized(samples: &[Sample]) -> (BTreeMap<Operation, Vec<Duration>>, BTreeMap<String, usize>) {
    let (mut latencies, mut failures) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new());
    for Sample { operation, latency, failure } in samples {
        latencies.entry(*operation).or_default().push(*latency);
        if let Some(failure) = failure {
            *failures.entry(format!("{}: {failure}", operation.name())).or_default() += 1;
        }
    }
    latencies.values_mut().for_each(|latencies| latencies.sort_unstable());
    (latencies, failures)
}
