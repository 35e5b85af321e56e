//! The documents match the code: `docs/configuration.md` and `.env.example` list every setting with its default, links
//! resolve, and every block of the operations page is run.

mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use gatebird::Config;

use crate::binary::{Client, PROMISED, free_port, text, within};
use crate::harness::{Database, PASSWORD};
use crate::programs;

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const ENV_EXAMPLE: &str = include_str!("../../.env.example");

#[test]
fn env_example__lists_every_setting_with_its_default() {
    let settings = Config::load(|_| None).expect("the defaults are good").settings;
    let is_key =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let lines = ENV_EXAMPLE.lines().map(|line| line.trim_start_matches("# "));
    let assignments: Vec<&str> =
        lines.filter(|line| line.split_once('=').is_some_and(|(key, _)| is_key(key))).collect();
    // Parsed as the server parses `.env`, which is strict about blanks and quotes.
    let read: Result<BTreeMap<String, String>, _> =
        dotenvy::from_read_iter(assignments.join("\n").as_bytes()).collect();
    let mut listed = read.expect("every line of the example can be taken in as it stands");
    for setting in settings {
        let example = listed.remove(setting.key).unwrap_or_else(|| panic!("{} is not in .env.example", setting.key));
        // Values that depend on the machine or are generated at the first start are empty.
        if !matches!(setting.key, "WORKERS" | "JWT_SECRET" | "JWT_SECRET_PREVIOUS") {
            assert_eq!(example, setting.shown, "{}", setting.key);
        }
    }
    assert!(listed.is_empty(), "not settings: {listed:?}");
}

/// An installation as `docs/operations.md` assumes it: a folder with `.env`, `gatebird` in the path, and a `systemctl`
/// that starts and stops it.
struct Installation {
    database: Database,
    client: Client,
}

/// The part of systemd that the blocks need.
const SYSTEMCTL: &str = r#"#!/bin/sh
case "$1 $2" in
"start gatebird")
    gatebird > log 2>&1 < /dev/null &
    echo $! > pid
    until case $(cat log) in *"listens on"*) ;; *) false ;; esac; do kill -0 "$(cat pid)" || exit 1; sleep 0.05; done ;;
"stop gatebird")
    kill -INT "$(cat pid)"
    while kill -0 "$(cat pid)" 2> no-process; do sleep 0.05; done ;;
*) exit 64 ;;
esac
"#;

impl Installation {
    fn new(database: Database) -> Installation {
        let (dir, port) = (database.dir.path(), free_port());
        fs::create_dir(dir.join("bin")).expect("a folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gatebird"), dir.join("bin/gatebird")).expect("a link");
        fs::write(dir.join("bin/systemctl"), SYSTEMCTL).expect("a file");
        fs::set_permissions(dir.join("bin/systemctl"), fs::Permissions::from_mode(0o755)).expect("a writable file");
        let secret = if database.is_postgres() { crate::harness::JWT_SECRET } else { "" };
        let settings = format!(
            "PORT={port}\nMETRICS_ADDR=off\nBCRYPT_COST=4\nJWT_ALGORITHM=ES256\nJWT_SECRET={secret}\nDATABASE_URL='{}'\n",
            database.url
        );
        fs::write(dir.join(".env"), settings).expect("a file");
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let installation = Installation { database, client };
        installation.run("systemctl start gatebird");
        installation
    }

    /// Runs a script in the installation's folder.
    fn run(&self, script: &str) {
        let dir = self.database.dir.path();
        let path = programs::path_with(&dir.join("bin"));
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(dir).env_clear().env("PATH", path);
        let output = shell.output().expect("sh starts");
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert!(output.status.success(), "{script}: {output:?} {log}");
    }

    /// Runs that block of `docs/operations.md`.
    fn follow(&self, block: &str) {
        let (_, rest) = OPERATIONS.split_once(&format!("<!-- run: {block} -->\n```sh\n")).expect("a block");
        self.run(rest.split_once("```").expect("the block ends").0);
    }

    /// Clients and users still get in.
    fn assert_in_service(&self, secret: &str) {
        let token = text(&self.client.exchange(secret).expect(200)["token"]);
        self.client.get("/v1/test", &token).expect(200);
        self.client.sign_in("alice", PASSWORD).expect(200);
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // A failed test may have stopped it.
        let kill = "kill -9 $(cat pid)";
        drop(
            Command::new("sh").args(["-c", kill]).current_dir(self.database.dir.path()).stderr(Stdio::null()).status(),
        );
    }
}

#[test]
fn operations_page__every_block_is_run() {
    let blocks: Vec<&str> =
        OPERATIONS.split("<!-- run: ").skip(1).filter_map(|rest| rest.split(" -->").next()).collect();
    assert_eq!(blocks, ["back up", "restore", "failover", "leak", "maintain"]);
    // The sections that the tests of `clocks` run.
    let others = ["## After a wrong clock", "## Archiving the audit log"];
    assert_eq!(OPERATIONS.matches("```sh").count(), blocks.len() + others.len(), "no test runs this block");
}

#[test]
fn operations_page__restores_a_backup() {
    if !programs::installed(&["sqlite3"]) {
        return;
    }
    let installation = Installation::new(Database::sqlite());
    let client = &installation.client;
    let (_, domain, token) = client.tenant("alice");
    installation.follow("back up");
    let (_, _, mallorys) = client.tenant("mallory");
    installation.follow("restore");
    client.get("/v1/test", &token).refused(401, "invalid");
    client.get("/v1/test", &mallorys).refused(401, "invalid");
    client.sign_in("mallory", PASSWORD).refused(401, "credentials");
    installation.assert_in_service(&domain.secret);
    installation.run("systemctl stop gatebird");
}

#[test]
fn operations_page__maintains_the_file() {
    if !programs::installed(&["sqlite3"]) {
        return;
    }
    let installation = Installation::new(Database::sqlite());
    let (user, domain, token) = installation.client.tenant("alice");
    for restart in ["true", "systemctl stop gatebird; systemctl start gatebird"] {
        installation.follow("maintain");
        installation.run(restart);
        installation.client.get("/readyz", "").expect(200);
        installation.client.get("/v1/me", &user.token).expect(200);
        installation.client.get("/v1/test", &token).expect(200);
        installation.assert_in_service(&domain.secret);
    }
    installation.run("systemctl stop gatebird");
}

#[test]
fn operations_page__follows_a_failover() {
    let installation = Installation::new(Database::new());
    let (user, domain, token) = installation.client.tenant("alice");
    installation.follow("failover");
    for token in [&token, &user.token] {
        within(PROMISED, "earlier tokens are refused", || installation.client.get("/v1/test", token).status == 401);
    }
    installation.assert_in_service(&domain.secret);
    installation.run("systemctl stop gatebird");
}

#[test]
fn operations_page__recovers_from_a_leak() {
    let installation = Installation::new(Database::sqlite());
    let secret = installation.database.dir.path().join("data/jwt_secret");
    let leaked = fs::read_to_string(&secret).expect("a secret");
    let (user, domain, token) = installation.client.tenant("alice");
    installation.follow("leak");
    assert_ne!(fs::read_to_string(&secret).expect("a secret"), leaked);
    for token in [&token, &user.token] {
        installation.client.get("/v1/test", token).refused(401, "invalid");
    }
    installation.assert_in_service(&domain.secret);
    installation.run("systemctl stop gatebird");
}
