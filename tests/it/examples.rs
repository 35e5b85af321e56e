//! The programs in `examples/` run, and do what their comments and `docs/library.md` say.
#![allow(non_snake_case, reason = "a test is named after its feature and its condition")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::binary::{Child, Client, free_port, gatebird, run, signal, text, within};
use crate::harness::{Database, Domain, PASSWORD, json};

const PROTECT_ROUTE: &str = "protect_route";
const ISSUER: (&str, &str) = ("JWT_ISSUER", "https://gate.example.com");
const SCOPES: (&str, &str) = ("SCOPES", "orders:read orders:write");

/// The folder of the built examples.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut build = Command::new(env!("CARGO"));
    let status = build.args(["build", "--quiet", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(status.expect("cargo runs").success());
    Path::new(env!("CARGO_BIN_EXE_gatebird")).with_file_name("examples")
});

/// An example on that database, with those settings and nothing of this process's environment.
fn example(name: &str, database: &Database, settings: &[(&str, &str)]) -> Command {
    let server = gatebird(database, &[], settings);
    let mut command = Command::new(BUILT.join(name));
    command.current_dir(database.dir.path()).env_clear();
    command.envs(server.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command
}

/// A token with that scope.
fn token_with(client: &Client, domain: &Domain, scope: &str) -> String {
    let form =
        format!("grant_type=client_credentials&client_id={}&client_secret={}&scope={scope}", domain.id, domain.secret);
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    text(&client.send("POST", "/token", &headers, &form).expect("an answer").expect(200)["access_token"])
}

#[test]
fn protect_route__is_the_server_in_the_library_page() {
    let (page, program) = (include_str!("../../docs/library.md"), include_str!("../../examples/protect_route.rs"));
    assert!(page.contains(&format!("```rust,no_run\n{program}```")), "docs/library.md differs from the example");
}

#[test]
fn protect_route__does_all_that_the_binary_does() {
    let database = Database::new();
    let metrics = format!("127.0.0.1:{}", free_port());
    let own = |settings: &[(&str, &str)]| {
        let settings = [settings, &[("METRICS_ADDR", &*metrics), ("ACCESS_LOG", "all")]].concat();
        example(PROTECT_ROUTE, &database, &settings)
    };
    // Settings also from `.env`; bad ones with the exit code and the words of the binary.
    fs::write(database.dir.path().join(".env"), "TOKEN_TTL=7m\nSIGN_UP=closed\n").expect("a file");
    let outcome = run(&mut own(&[("SIGNUP", "no")]), "");
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
    assert!(outcome.stderr.starts_with("SIGNUP ") && outcome.stdout.is_empty(), "{outcome:?}");

    let child = Child::spawn(&mut own(&[]), "").wait_until_serving();
    let (user, domain, token) = child.client.tenant("alice");
    assert_eq!(child.client.exchange(&domain.secret).expect(200)["expiresIn"], json!(420));
    let orders = child.client.get("/orders", &token);
    assert_eq!((orders.status, orders.text()), (200, format!("orders of user {}", user.id)));
    child.client.get("/orders", "").refused(401, "missing");
    let described = child.client.get("/openapi.json", "").expect(200);
    assert!(described["paths"]["/orders"]["get"]["responses"]["419"].is_object(), "{described}");
    let numbers = Client::new(&format!("http://{metrics}")).get("/metrics", "");
    assert!(numbers.status == 200 && numbers.text().contains("gatebird_tokens_issued_total 2"), "{}", numbers.text());
    within(Duration::from_secs(5), "a warning", || child.stderr().contains("SIGN_UP"));
    signal("HUP", child.pid());
    child.client.get("/readyz", "").expect(200);
    signal("TERM", child.pid());
    within(Duration::from_secs(1), "/readyz turns 503", || child.client.get("/readyz", "").status == 503);
    let outcome = child.wait(Duration::from_secs(10));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("\"route\":\"/token\""), "the access log is written: {outcome:?}");

    // What was counted last is there.
    let child = Child::start(&database, &[]);
    let token = text(&child.client.sign_in("alice", PASSWORD).expect(200)["token"]);
    let usage = child.client.get(&format!("/v1/domains/{}/usage", domain.id), &token).expect(200);
    assert!(usage.to_string().contains("\"tokens\":2"), "{usage}");
}

#[test]
fn own_scope__is_demanded() {
    let database = Database::new();
    let child = Child::spawn(&mut example("own_scope", &database, &[SCOPES]), "").wait_until_serving();
    let (user, domain, token) = child.client.tenant("alice");
    let answer = child.client.get("/orders", &token);
    assert_eq!((answer.status, answer.text()), (200, format!("orders of user {}", user.id)));
    let [reader, writer] = ["orders:read", "orders:write"].map(|scope| token_with(&child.client, &domain, scope));
    assert_eq!(child.client.get("/orders", &reader).status, 200);
    child.client.get("/orders", &writer).refused(403, "scope");
    child.client.get("/orders", "x").refused(401, "invalid");
}

#[test]
fn own_scope__is_unknown_to_a_server_whose_settings_lack_it() {
    let database = Database::new();
    let child = Child::spawn(&mut example("own_scope", &database, &[]), "").wait_until_serving();
    let (_, _, token) = child.client.tenant("alice");
    child.client.get("/orders", &token).refused(403, "scope");
}

/// The application verifies what a Gatebird on the same database has issued.
#[test]
fn embed__protects_its_routes() {
    let (database, port) = (Database::new(), free_port().to_string());
    let mut embed = example("embed", &database, &[ISSUER, ("PORT", &port), ("TOKEN_TTL", "10m")]);
    let gate = Child::start(&database, &[ISSUER, ("TOKEN_TTL", "10m")]);
    let (user, domain, token) = gate.client.tenant("alice");
    signal("TERM", gate.pid());
    assert_eq!(gate.wait(Duration::from_secs(10)).code, Some(0));
    let gate = Child::start(&database, &[ISSUER, ("TOKEN_TTL", "1s")]);
    let short = text(&gate.client.exchange(&domain.secret).expect(200)["token"]);
    signal("TERM", gate.pid());
    assert_eq!(gate.wait(Duration::from_secs(10)).code, Some(0));

    let child = Child::spawn(&mut embed, "");
    let client = Client::new(&format!("http://127.0.0.1:{port}"));
    let orders = |token: &str| client.try_call("GET", "/orders", token, &json!(null));
    within(Duration::from_secs(20), "the application serves", || orders(&token).is_ok());
    let answer = orders(&token).expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, format!("orders of user {}", user.id)));
    orders("").expect("an answer").refused(401, "missing");
    within(Duration::from_secs(3), "the token expires", || orders(&short).expect("an answer").status == 419);
    signal("TERM", child.pid());
    assert_eq!(child.wait(Duration::from_secs(10)).code, Some(0));
}
