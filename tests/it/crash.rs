//! SIGKILL at random moments under concurrent writes: acknowledged writes survive, and none is partial. The seed of a
//! failed run is in its output; `TEST_CRASH_SEED` repeats it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};

use crate::binary::{Child, Client, text, within};
use crate::harness::{Database, PASSWORD, Reply, Value, json};
use crate::random::Random;

const CYCLES: u64 = 50;
const WRITERS: u64 = 4;

#[expect(clippy::disallowed_methods, reason = "this is the tests' own setting")]
fn seed() -> u64 {
    let given = std::env::var("TEST_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| RandomState::new().hash_one(0))
}

/// What a client knows about a thing. Without an answer it may or may not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Exists,
    Deleted,
    /// A deletion without an answer.
    Unsure,
}

struct Domain {
    secret: String,
    token: String,
    known: Known,
}

struct Post {
    content: String,
    known: Known,
}

/// A user of one writer, and everything that was acknowledged.
struct Account {
    name: String,
    password: String,
    /// Set while a change of the password has no answer.
    other_password: Option<String>,
    token: String,
    known: Known,
    domains: BTreeMap<String, Domain>,
    posts: BTreeMap<i64, Post>,
    /// Written to since the last check.
    touched: bool,
}

/// The 2xx answer, or `None` when the server is gone. Any other answer fails the test.
#[track_caller]
fn acknowledged(reply: Result<Reply, Box<ureq::Error>>) -> Option<Value> {
    let reply = reply.ok()?;
    assert!((200..300).contains(&reply.status), "{} {}", reply.status, reply.text());
    Some(reply.json())
}

impl Account {
    fn sign_up(client: &Client, name: String) -> Option<Account> {
        let body = json!({"username": name, "password": PASSWORD});
        let answer = acknowledged(client.try_call("POST", "/v1/signup", "", &body))?;
        Some(Account {
            name,
            password: PASSWORD.to_owned(),
            other_password: None,
            token: text(&answer["token"]),
            known: Known::Exists,
            domains: BTreeMap::new(),
            posts: BTreeMap::new(),
            touched: true,
        })
    }

    /// Makes one write. `None` when the server is gone.
    fn write(&mut self, client: &Client, random: &mut Random, number: u64) -> Option<()> {
        self.touched = true;
        match random.below(20) {
            0..5 => {
                let body = json!({"host": format!("h{number}.example.com"), "type": "free"});
                let answer = acknowledged(client.try_call("POST", "/v1/domains", &self.token, &body))?;
                let (id, secret) = (text(&answer["payload"]["id"]), text(&answer["payload"]["clientSecret"]));
                // The registration is acknowledged from here on. The token is needed later.
                let domain = Domain { secret: secret.clone(), token: String::new(), known: Known::Exists };
                self.domains.insert(id.clone(), domain);
                let answer = acknowledged(client.try_call("POST", "/token", "", &json!({"clientSecret": secret})))?;
                self.domains.get_mut(&id).expect("just inserted").token = text(&answer["token"]);
            }
            5..12 => {
                let content = format!("post {number} #one{number} and #two{number}");
                let body = json!({"content": content});
                let answer = acknowledged(client.try_call("POST", "/v1/posts", &self.token, &body))?;
                let id = answer["payload"]["id"].as_i64().expect("a number");
                self.posts.insert(id, Post { content, known: Known::Exists });
            }
            12..15 => {
                let Some((id, domain)) = self.domains.iter_mut().find(|(_, domain)| domain.known == Known::Exists)
                else {
                    return Some(());
                };
                domain.known = Known::Unsure;
                let path = format!("/v1/domains/{id}");
                acknowledged(client.try_call("DELETE", &path, &self.token, &Value::Null))?;
                domain.known = Known::Deleted;
            }
            15..18 => {
                let Some((id, post)) = self.posts.iter_mut().find(|(_, post)| post.known == Known::Exists) else {
                    return Some(());
                };
                post.known = Known::Unsure;
                let path = format!("/v1/posts/{id}");
                acknowledged(client.try_call("DELETE", &path, &self.token, &Value::Null))?;
                post.known = Known::Deleted;
            }
            18 => {
                let new = format!("{PASSWORD} {number}");
                self.other_password = Some(new.clone());
                let body = json!({"oldPassword": self.password, "newPassword": new});
                acknowledged(client.try_call("PUT", "/v1/me/password", &self.token, &body))?;
                (self.password, self.other_password) = (new, None);
                let body = json!({"username": self.name, "password": self.password});
                self.token = text(&acknowledged(client.try_call("POST", "/v1/signin", "", &body))?["token"]);
                // The change of the password revoked earlier tokens.
                for domain in self.domains.values_mut().filter(|domain| domain.known == Known::Exists) {
                    client.get_revoked(&domain.token)?;
                    domain.token.clear();
                }
            }
            _ => {
                self.known = Known::Unsure;
                let body = json!({"password": self.password});
                acknowledged(client.try_call("DELETE", "/v1/me", &self.token, &body))?;
                self.known = Known::Deleted;
            }
        }
        Some(())
    }

    /// Checks everything against a restarted server, and signs in for the next round.
    fn check(&mut self, client: &Client) {
        self.touched = false;
        let name = &self.name;
        // First of all: a young server accepts nothing that was revoked.
        for (id, domain) in &self.domains {
            if domain.known == Known::Deleted && !domain.token.is_empty() {
                assert_eq!(client.get("/v1/test", &domain.token).status, 401, "{name}: a token of the deleted {id}");
            }
        }
        let reply = client.sign_in(name, &self.password);
        let reply = match (reply.status, self.other_password.take()) {
            (401, Some(other)) => {
                self.password = other;
                client.sign_in(name, &self.password)
            }
            _ => reply,
        };
        match (self.known, reply.status) {
            (Known::Exists, 200) | (Known::Deleted, 401) | (Known::Unsure, 200 | 401) => {}
            (known, status) => panic!("{name} is {known:?}, and sign-in answers {status}: {}", reply.text()),
        }
        let is_there = reply.status == 200;
        self.known = if is_there { Known::Exists } else { Known::Deleted };
        if is_there {
            self.token = text(&reply.json()["token"]);
        }
        for (id, domain) in &mut self.domains {
            let reply = client.exchange(&domain.secret);
            match (is_there, domain.known, reply.status) {
                (true, Known::Exists, 200)
                | (true, Known::Unsure, 200 | 401)
                | (_, Known::Deleted, 401)
                | (false, _, 401) => {}
                (_, known, status) => panic!("{name}'s {id} is {known:?}, and its secret gets {status}"),
            }
            domain.known = if reply.status == 200 { Known::Exists } else { Known::Deleted };
            if domain.known == Known::Exists {
                domain.token = text(&reply.json()["token"]);
            }
        }
        if !is_there {
            self.posts.clear();
        }
        for (id, post) in &mut self.posts {
            let reply = client.get(&format!("/v1/posts/{id}"), &self.token);
            match (post.known, reply.status) {
                (Known::Exists | Known::Unsure, 200) => {
                    assert_eq!(reply.json()["payload"]["content"], json!(post.content), "{name}'s post {id}");
                }
                (Known::Deleted | Known::Unsure, 404) => {}
                (known, status) => panic!("{name}'s post {id} is {known:?}, and reading it answers {status}"),
            }
            post.known = if reply.status == 200 { Known::Exists } else { Known::Deleted };
        }
    }
}

impl Client {
    /// `None` when the server is gone. An accepted token fails the test.
    fn get_revoked(&self, token: &str) -> Option<()> {
        if !token.is_empty() {
            let reply = self.try_call("GET", "/v1/test", token, &Value::Null).ok()?;
            assert_eq!(reply.status, 401, "{}", reply.text());
        }
        Some(())
    }
}

/// Writes until the server is gone, and counts the acknowledged writes.
fn write_on(client: &Client, accounts: &mut Vec<Account>, random: &mut Random, first: u64, count: &AtomicU64) {
    for number in first.. {
        let live = accounts.iter().position(|account| account.known == Known::Exists);
        let done = match live {
            Some(index) if number % 16 != 15 => accounts[index].write(client, random, number),
            _ => Account::sign_up(client, format!("user{number}")).map(|account| accounts.insert(0, account)),
        };
        if done.is_none() {
            return;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Integrity {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

/// States that the file may never have.
const INCONSISTENCIES: &[(&str, &str)] = &[
    ("broken references", "SELECT count(*) AS count FROM pragma_foreign_key_check"),
    (
        "domains without a secret",
        "SELECT count(*) AS count FROM domains WHERE id NOT IN (SELECT domain_id FROM secrets)",
    ),
    (
        "secrets without a domain",
        "SELECT count(*) AS count FROM secrets WHERE domain_id NOT IN (SELECT id FROM domains)",
    ),
    (
        "posts without their two hashtags",
        "SELECT count(*) AS count FROM posts WHERE (SELECT count(*) FROM post_hashtags WHERE post_id = posts.id) <> 2",
    ),
    (
        "hashtags without their post",
        "SELECT count(*) AS count FROM post_hashtags h WHERE NOT EXISTS
            (SELECT 1 FROM posts p WHERE p.id = h.post_id AND p.user_id = h.user_id)",
    ),
    ("users without a revision", "SELECT count(*) AS count FROM users WHERE revision = 0"),
    (
        "rows of a later revision than the counter's",
        "SELECT count(*) AS count FROM revision WHERE value < (SELECT max(revision) FROM
            (SELECT revision FROM users UNION ALL SELECT revision FROM domains UNION ALL SELECT revision FROM secrets
             UNION ALL SELECT revision FROM tombstones))",
    ),
];

fn check_file(database: &Database) {
    let path = database.url.trim_start_matches("sqlite://");
    let mut conn = SqliteConnection::establish(path).expect("a database");
    conn.batch_execute("PRAGMA query_only = 1").expect("SQLite");
    let rows: Vec<Integrity> = diesel::sql_query("PRAGMA integrity_check").load(&mut conn).expect("a sound file");
    let found: Vec<_> = rows.iter().map(|row| row.integrity_check.as_str()).collect();
    assert_eq!(found, ["ok"]);
    for (what, query) in INCONSISTENCIES {
        let row: Count = diesel::sql_query(*query).get_result(&mut conn).expect("a query");
        assert_eq!(row.count, 0, "{what}");
    }
}

#[test]
fn crash__acknowledged_writes_survive_and_none_is_partial() {
    let seed = seed();
    println!("TEST_CRASH_SEED={seed}");
    let mut random = Random::seeded(seed);
    let database = Database::sqlite();
    let settings = [("TOKEN_TTL", "1h"), ("USER_TOKEN_TTL", "1h")];
    let mut ledgers: Vec<Vec<Account>> = (0..WRITERS).map(|_| Vec::new()).collect();
    let mut child = Child::start(&database, &settings);
    let began = Instant::now();
    let count = AtomicU64::new(0);
    for cycle in 0..CYCLES {
        let moment = Duration::from_millis(random.below(200) as u64);
        let before = count.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            for (writer, accounts) in ledgers.iter_mut().enumerate() {
                let client = Client::new(&child.client.url);
                let mut random = Random::seeded(random.number());
                let (first, count) = ((cycle * WRITERS + writer as u64) * 16_000, &count);
                scope.spawn(move || write_on(&client, accounts, &mut random, first, count));
            }
            // The first writes of a process take longer; most cycles are to hit later ones.
            if cycle % 5 > 0 {
                within(Duration::from_secs(10), "a write", || count.load(Ordering::Relaxed) > before);
            }
            std::thread::sleep(moment);
            child.kill();
        });
        child = Child::start(&database, &settings);
        std::thread::scope(|scope| {
            for accounts in &mut ledgers {
                // Everything at the end; in other cycles only what was touched.
                let due = move |account: &&mut Account| account.touched || cycle + 1 == CYCLES;
                let client = &child.client;
                scope.spawn(move || accounts.iter_mut().filter(due).for_each(|account| account.check(client)));
            }
        });
    }
    child.kill();
    check_file(&database);
    let accounts: Vec<_> = ledgers.iter().flatten().collect();
    let (domains, posts): (usize, usize) = (
        accounts.iter().map(|account| account.domains.len()).sum(),
        accounts.iter().map(|account| account.posts.len()).sum(),
    );
    let writes = count.into_inner();
    println!("{writes} writes, {} accounts, {domains} domains, {posts} posts in {:?}", accounts.len(), began.elapsed());
    assert!(writes > 3 * CYCLES && domains > 0 && posts > 0, "too few writes");
}

#[test]
fn crash__revocations_survive() {
    let database = Database::sqlite();
    let settings = [("TOKEN_TTL", "1h"), ("USER_TOKEN_TTL", "1h")];
    let mut child = Child::start(&database, &settings);
    for round in 0..5 {
        let (user, domain, token) = child.client.tenant(&format!("deletes{round}"));
        let (other, _, other_token) = child.client.tenant(&format!("changes{round}"));
        child.client.call("DELETE", &format!("/v1/domains/{}", domain.id), &user.token, &Value::Null).expect(200);
        let body = json!({"oldPassword": PASSWORD, "newPassword": format!("{PASSWORD} {round}")});
        child.client.call("PUT", "/v1/me/password", &other.token, &body).expect(200);
        child.kill();
        child = Child::start(&database, &settings);
        child.client.get("/v1/test", &token).refused(401, "revoked");
        child.client.get("/v1/test", &other_token).refused(401, "revoked");
        child.client.get("/v1/me", &other.token).refused(401, "revoked");
        child.client.exchange(&domain.secret).refused(401, "unknown_client");
        child.client.get("/v1/me", &user.token).expect(200);
    }
}
