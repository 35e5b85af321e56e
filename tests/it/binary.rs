//! The command line of the real binary; and [`Child`], which runs that binary for other tests.

use std::fs;
use std::process::Stdio;

use crate::harness::{Database, PASSWORD, json};

mod child;
mod operator;
mod output_failure;

pub(super) use child::{Child, Client, Outcome, PROMISED, bare, free_port, gatebird, run, signal, text, within};

#[test]
fn command_line__usage_error_and_help_differ() {
    let database = Database::new();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--help"], 0, "check-config"),
        (&["--version"], 0, env!("CARGO_PKG_VERSION")),
        (&["user", "--help"], 0, "suspend"),
        (&["domain", "rotate", "--help"], 0, "--grace"),
        (&["nonsense"], 64, "nonsense"),
        (&["--nonsense"], 64, "--nonsense"),
        (&["user"], 64, "Usage"),
        (&["user", "add"], 64, "USERNAME"),
        (&["domain", "rotate"], 64, "ID"),
        // A password is never an argument, because other users of the machine can see arguments.
        (&["user", "add", "alice", PASSWORD], 64, "unexpected argument"),
        (&["user", "add", "alice", "--password", PASSWORD], 64, "unexpected argument"),
    ];
    for (args, code, says) in cases {
        let outcome = run(&mut gatebird(&database, args, &[]), "");
        assert_eq!(outcome.code, Some(*code), "{args:?} {outcome:?}");
        let (printed, silent) = match code {
            0 => (&outcome.stdout, &outcome.stderr),
            _ => (&outcome.stderr, &outcome.stdout),
        };
        assert!(printed.contains(says) && silent.is_empty(), "{args:?} {outcome:?}");
    }
}

#[test]
fn migrate__prints_applied_migrations_and_is_idempotent() {
    let database = Database::new();
    let applied = run(&mut gatebird(&database, &["migrate", "--json"], &[]), "").json();
    assert!(applied["applied"].as_array().is_some_and(|names| !names.is_empty()), "{applied}");
    let applied = run(&mut gatebird(&database, &["--json", "migrate"], &[]), "").json();
    assert_eq!(applied, json!({"applied": []}));
    assert_eq!(run(&mut gatebird(&database, &["migrate"], &[]), "").good(), "nothing to do\n");
    let database = Database::new();
    let lines = run(&mut gatebird(&database, &["migrate"], &[]), "").good();
    assert!(lines.starts_with("20261129000001\n"), "{lines}");
}

/// Every setting of the contract.
const KEYS: &[&str] = &[
    "HOST",
    "PORT",
    "PUBLIC_URL",
    "DATABASE_URL",
    "JWT_SECRET",
    "JWT_SECRET_PREVIOUS",
    "JWT_ALGORITHM",
    "JWT_ISSUER",
    "TOKEN_TTL",
    "USER_TOKEN_TTL",
    "EXPIRED_TOKEN_STATUS",
    "DEFAULT_LOCALE",
    "BCRYPT_COST",
    "LIMIT_FREE",
    "LIMIT_PREMIUM",
    "LIMIT_ADDRESS",
    "LIMIT_FAILURES",
    "LIMIT_SIGNIN",
    "LIMIT_SIGNUP",
    "LIMIT_PASSWORDS",
    "LIMIT_CHANGES",
    "LIMIT_LOG",
    "SELF_SERVICE_PREMIUM",
    "DOMAINS_PER_USER",
    "POSTS_PER_USER",
    "MAX_USERS",
    "MAX_DOMAINS",
    "LIMIT_CONNECTIONS",
    "TRUSTED_PROXIES",
    "METRICS_ADDR",
    "WORKERS",
    "SIGNUP",
    "ACCESS_LOG",
    "RUST_LOG",
];

#[test]
fn check_config__shows_each_setting_with_its_source_and_no_secret() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let secret = "Tc4nary8s0dP2mQ7xV4nB1zR6tY9wL3cF5g";
    let previous = "Pc4nary8s0dP2mQ7xV4nB1zR6tY9wL3cF5g";
    let file = format!("JWT_SECRET={secret}\nPORT=1\nTOKEN_TTL=5m\n# a comment\n\nexport SIGNUP='closed'\n");
    fs::write(dir.path().join(".env"), file).expect("a file");
    let settings = [
        ("PORT", "8123"),
        ("JWT_SECRET_PREVIOUS", previous),
        ("DATABASE_URL", "postgres://gatebird:c4nary@localhost/db"),
    ];
    let rows = run(bare(dir.path(), &["check-config", "--json"]).envs(settings), "").json();
    let row = |key: &str| {
        let mut found = rows.as_array().expect("an array").iter().filter(|row| row["key"] == json!(key));
        let row = found.next().unwrap_or_else(|| panic!("{key} is missing: {rows}"));
        assert!(found.next().is_none(), "{key} is listed twice: {rows}");
        (text(&row["value"]), text(&row["source"]))
    };
    for key in KEYS {
        row(key);
    }
    let row_of = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(row("PORT"), row_of("8123", "environment"));
    assert_eq!(row("TOKEN_TTL"), row_of("5m", ".env"));
    assert_eq!(row("SIGNUP"), row_of("closed", ".env"));
    assert_eq!(row("USER_TOKEN_TTL"), row_of("1h", "default"));
    assert_eq!(row("PUBLIC_URL"), row_of("http://localhost:8123", "default"));
    assert_eq!(row("DATABASE_URL"), row_of("postgres://gatebird:***@localhost/db", "environment"));
    assert_eq!(row("JWT_SECRET").1, ".env");
    assert_eq!(row("JWT_SECRET_PREVIOUS").1, "environment");

    let lines = run(bare(dir.path(), &["check-config"]).envs(settings), "").good();
    assert!(KEYS.iter().all(|key| lines.lines().any(|line| line.split(' ').next() == Some(*key))), "{lines}");
    assert!(lines.lines().any(|line| line.starts_with("TOKEN_TTL ") && line.ends_with(" 5m (.env)")), "{lines}");
    let hidden = [("DATABASE_URL", "postgres://localhost/db?user=gatebird&password=c4nary")];
    let other = run(bare(dir.path(), &["check-config"]).envs(hidden), "").good();
    assert!(![rows.to_string(), lines, other].concat().contains("c4nary"), "a secret is shown");
    assert!(!dir.path().join("data").exists(), "a read-only command creates no file");
}

#[test]
fn env_file__syntax_error_is_refused_without_a_quotation() {
    for line in ["JWT_SECRET=c4nary with spaces", "c4nary", "KEY='c4nary", "=c4nary", "2c4nary=x"] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join(".env"), format!("PORT=0\n{line}\n")).expect("a file");
        let outcome = run(&mut bare(dir.path(), &["check-config"]), "");
        assert_eq!(outcome.code, Some(78), "{line}: {outcome:?}");
        assert!(outcome.stderr.contains(".env") && !outcome.stderr.contains("c4nary"), "{line}: {outcome:?}");
        assert!(outcome.stderr.lines().count() == 1 && outcome.stdout.is_empty(), "{line}: {outcome:?}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(dir.path().join(".env")).expect("a folder");
    let outcome = run(&mut bare(dir.path(), &["check-config"]), "");
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
}

#[test]
fn command_line__closed_pipe_is_no_failure() {
    let database = Database::new();
    run(&mut gatebird(&database, &["user", "add", "alice"], &[]), PASSWORD).good();
    for args in [&["user", "list"][..], &["domain", "list"], &["check-config"], &["--help"], &["migrate"]] {
        let mut command = gatebird(&database, args, &[]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(process.stdout.take());
        let output = process.wait_with_output().expect("it ends");
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?} {output:?}");
    }
    // The exit code does not depend on whether standard error is open.
    let mut command = gatebird(&database, &["nonsense"], &[]);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(process.stderr.take());
    assert_eq!(process.wait().expect("it ends").code(), Some(64));
}
