//! The database is stopped, frozen, locked or full: tokens are issued and verified at full speed, requests that need
//! the database are answered 503 in time, and everything recovers without a restart.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::cluster::{self, Cluster};
use crate::binary::{Child, Client, bare, text, within};
use crate::harness::{Database, Domain, Gate, JWT_SECRET, PASSWORD, Reply, User, Value, json};
use crate::programs;

/// 1.5 s are promised; this machine may be busy with other tests.
const IN_TIME: Duration = Duration::from_secs(2);

/// Requests that read the database.
const READS: &[(&str, &str)] = &[("GET", "/v1/posts/my"), ("GET", "/v1/domains"), ("POST", "/v1/signin")];
/// Requests that write to the database.
const WRITES: &[(&str, &str)] =
    &[("POST", "/v1/signup"), ("POST", "/v1/domains"), ("POST", "/v1/posts"), ("PATCH", "/v1/domains/{id}")];

struct Tenant {
    user: User,
    domain: Domain,
    token: String,
}

/// The body for the route, with a new username or host for each attempt.
fn body(path: &str, attempt: u32) -> Value {
    match path {
        "/v1/signin" => json!({"username": "alice", "password": PASSWORD}),
        "/v1/signup" => json!({"username": format!("user{attempt}"), "password": PASSWORD}),
        "/v1/domains" => json!({"host": format!("h{attempt}.example.com"), "type": "free"}),
        "/v1/domains/{id}" => json!({"type": "premium"}),
        _ => json!({"content": format!("post #{attempt}")}),
    }
}

fn send(client: &Client, tenant: &Tenant, (method, path): (&str, &str), attempt: u32) -> Reply {
    let body = if method == "GET" { Value::Null } else { body(path, attempt) };
    client.call(method, &path.replace("{id}", &tenant.domain.id), &tenant.user.token, &body)
}

/// Checks that every request that needs the database is refused in time, and that tokens work meanwhile.
fn assert_refused_in_time(client: &Client, tenant: &Tenant, requests: &[(&'static str, &'static str)], attempt: u32) {
    std::thread::scope(|scope| {
        // Several of each, because they must not wait for each other.
        for request in requests.iter().chain(requests).chain(requests) {
            scope.spawn(move || {
                let started = Instant::now();
                let reply = send(client, tenant, *request, attempt);
                let took = started.elapsed();
                reply.refused(503, "busy");
                let retry: u64 = reply.header("retry-after").and_then(|value| value.parse().ok()).expect("Retry-After");
                assert!(retry >= 1, "{request:?}");
                assert!(took < IN_TIME, "{request:?} took {took:?}");
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_tokens_work(client, tenant);
    });
}

fn assert_tokens_work(client: &Client, tenant: &Tenant) {
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let started = Instant::now();
            let token = text(&client.exchange(&tenant.domain.secret).expect(200)["token"]);
            client.get("/v1/test", &token).expect(200);
            client.get("/v1/test", &tenant.token).expect(200);
            client.get("/v1/me", &tenant.user.token).expect(200);
            started.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[50] < Duration::from_millis(100), "four requests take {:?}", times[50]);
    assert!(times[99] < Duration::from_secs(1), "four requests took {:?}", times[99]);
}

fn wait_for_readyz(client: &Client, state: &str) {
    within(Duration::from_secs(15), &format!("/readyz shows that the database is {state}"), || {
        client.get("/readyz", "").expect(200)["payload"]["database"] == state
    });
}

/// Checks that everything works again without a restart.
fn assert_recovers(client: &Client, tenant: &Tenant, attempt: u32) {
    for (number, request) in READS.iter().chain(WRITES).enumerate() {
        let mut again = attempt;
        within(Duration::from_secs(10), &format!("{request:?} works again"), || {
            // A request that was answered 503 may have been committed.
            again += 1;
            send(client, tenant, *request, again * 10 + number as u32).status < 300
        });
    }
    wait_for_readyz(client, "up");
}

/// Tests an outage that `away` causes and `back` ends.
fn postgres_outage(away: impl Fn(&mut Cluster), back: impl Fn(&mut Cluster)) {
    if !cluster::is_available() {
        return;
    }
    let mut cluster = Cluster::start();
    let gate = Gate::on(Arc::new(Database::in_schema(&cluster.url())), &[]);
    let (user, domain, token) = gate.tenant("alice");
    let tenant = Tenant { user, domain, token };
    let client = Client::new(&gate.url);
    assert_recovers(&client, &tenant, 100);
    for attempt in [200, 300] {
        away(&mut cluster);
        let requests: Vec<_> = READS.iter().chain(WRITES).copied().collect();
        assert_refused_in_time(&client, &tenant, &requests, attempt);
        if attempt == 200 {
            wait_for_readyz(&client, "away");
            assert_refused_in_time(&client, &tenant, &requests, attempt + 1);
        }
        back(&mut cluster);
        assert_recovers(&client, &tenant, attempt + 50);
    }
}

#[test]
fn db_outage__postgres_stopped() {
    postgres_outage(Cluster::stop, Cluster::resume);
}

#[test]
fn db_outage__postgres_frozen() {
    postgres_outage(|cluster| cluster.freeze(), |cluster| cluster.thaw());
}

/// A failover: frozen with open connections, then gone, then replaced.
#[test]
fn db_outage__postgres_frozen_then_restarted() {
    let die = |cluster: &mut Cluster| {
        cluster.thaw();
        cluster.stop();
        cluster.resume();
    };
    postgres_outage(|cluster| cluster.freeze(), die);
}

#[test]
fn db_outage__sqlite_locked() {
    let database = Arc::new(Database::sqlite());
    let gate = Gate::on(Arc::clone(&database), &[]);
    let (user, domain, token) = gate.tenant("alice");
    let tenant = Tenant { user, domain, token };
    let client = Client::new(&gate.url);
    let path = database.url.trim_start_matches("sqlite://");
    let mut other = SqliteConnection::establish(path).expect("a database");
    other.batch_execute("PRAGMA busy_timeout = 5000").expect("SQLite");
    for attempt in [100, 200] {
        other.batch_execute("BEGIN EXCLUSIVE").expect("no other write transaction");
        assert_refused_in_time(&client, &tenant, WRITES, attempt);
        assert_refused_in_time(&client, &tenant, WRITES, attempt + 1);
        // Readers need no lock, and the directory is up to date.
        for request in READS {
            send(&client, &tenant, *request, attempt).expect(200);
        }
        assert_eq!(client.get("/readyz", "").expect(200)["payload"]["database"], "up");
        other.batch_execute("ROLLBACK").expect("SQLite");
        assert_recovers(&client, &tenant, attempt + 50);
    }
}

#[test]
fn db_outage__disk_full() {
    if !programs::installed(&["prlimit"]) {
        return;
    }
    let database = Database::sqlite();
    // A limit on the size of files that does not end the process, as if the disk were full.
    let binary = bare(database.dir.path(), &[]).get_program().to_owned();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec prlimit --fsize=700000: \"$0\"", &binary.to_string_lossy()]);
    command.env_clear().env("PATH", programs::path()).current_dir(database.dir.path());
    let settings = [("PORT", "0"), ("METRICS_ADDR", "off"), ("BCRYPT_COST", "4"), ("LIMIT_FREE", "off")];
    command.envs(settings).env("JWT_SECRET", JWT_SECRET).env("DATABASE_URL", &database.url);
    let child = Child::spawn(&mut command, "").wait_until_serving();
    let client = &child.client;
    let (user, domain, token) = client.tenant("alice");
    let tenant = Tenant { user, domain, token };
    let mut posts = Vec::new();
    let mut refused = None;
    for number in 0..500 {
        let content = json!({"content": format!("{number} {}", "x".repeat(130))});
        let reply = client.post("/v1/posts", &tenant.token, content.clone());
        match reply.status {
            201 => posts.push((reply.json()["payload"]["id"].as_i64().expect("a number"), content)),
            _ => {
                refused = Some(reply);
                break;
            }
        }
    }
    refused.expect("the file system is full").refused(503, "busy");
    assert_refused_in_time(client, &tenant, &[("POST", "/v1/posts"), ("POST", "/v1/domains")], 1);
    let all_there = || {
        for (id, content) in &posts {
            let post = client.get(&format!("/v1/posts/{id}"), &tenant.token).expect(200);
            assert_eq!(post["payload"]["content"], content["content"]);
        }
    };
    all_there();
    let size = std::fs::metadata(database.dir.path().join("data/gatebird.db-wal")).expect("a file").size();
    assert!(size <= 700_000, "the file system is full: {size}");
    let limit = ["--fsize=unlimited", "--pid", &child.pid().to_string()];
    assert!(Command::new("prlimit").args(limit).status().expect("prlimit").success());
    assert_recovers(client, &tenant, 100);
    all_there();
}
