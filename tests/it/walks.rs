//! What people paste from the README and from the server's greeting runs in their shells as it stands, and the server of
//! docs/library.md does all that the binary does.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Child, free_port, gatebird, run, signal, text, within};
use crate::harness::{Database, Gate, PASSWORD, json};

const README: &str = include_str!("../../README.md");
const LIBRARY: &str = include_str!("../../docs/library.md");
const OWN_SERVER: &str = include_str!("../../examples/own_server.rs");

/// Shells with their options for reading an interactive user's input, which a terminal need not be for, and no start-up file.
const SHELLS: &[&[&str]] = &[&["bash", "--norc", "-i"], &["dash", "-i"], &["zsh", "-f", "-i"]];

/// The walk's `sleep`: it tells the test to move the clock and waits until that is done.
const SLEEP: &str = r#"sleep() { echo "$1" > asleep; while [ ! -e awake ]; do command sleep 0.02; done; rm awake; }"#;

/// The walk, with that server in the place of a newcomer's.
fn walk(url: &str) -> String {
    let (_, walk) = README.split_once("<!-- walk -->\n```sh\n").expect("a walk");
    let (walk, _) = walk.split_once("```").expect("the walk ends");
    assert!(walk.contains("http://localhost:8002"), "{walk}");
    walk.replace("http://localhost:8002", url)
}

/// The shells of this machine; `sh` is on every one, and the continuous integration has all three.
fn shells() -> impl Iterator<Item = &'static &'static [&'static str]> {
    let is_there =
        |shell: &str| Command::new(shell).args(["-c", "exit 0"]).status().is_ok_and(|status| status.success());
    SHELLS.iter().filter(move |shell| is_there(shell[0]))
}

/// Pastes a script into an interactive shell in that folder.
fn paste(shell: &[&str], dir: &Path, script: &str) -> std::process::Child {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the shell starts");
    let mut stdin = process.stdin.take().expect("a pipe");
    // In one piece, which a pipe takes; without an end that is lost, the shell would wait for more.
    write!(stdin, "{script}\nexit\n").expect("the shell reads");
    process
}

/// The last word of each line: the statuses of a walk.
fn statuses(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.rsplit(' ').next()).collect()
}

#[test]
fn the_walk_of_the_readme_ends_in_419_in_every_shell() {
    let mut walked = 0;
    for shell in shells() {
        // The defaults that a newcomer has, but for the port.
        let gate = Gate::with(&[("LIMIT_FREE", "60/m"), ("BCRYPT_COST", "12")]);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let process = paste(shell, dir.path(), &format!("{SLEEP}\n{}", walk(&gate.url)));
        let seconds = wait_for(&dir.path().join("asleep"));
        gate.clock.advance(seconds.trim().parse().expect("seconds"));
        fs::write(dir.path().join("awake"), "").expect("the walk can go on");
        let output = process.wait_with_output().expect("the walk ends");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(statuses(&text), ["200", "401", "419"], "{shell:?} {text} {errors} (the walk needs curl and sed)");
        assert!(text.contains("\"host\":\"shop.example.com\"") && text.contains("토큰이 만료되었습니다"), "{text}");
        assert!(!errors.contains("not found") && !errors.contains("no matches"), "{shell:?} {errors}");
        walked += 1;
    }
    assert!(walked >= 2, "Debian has bash and dash");
}

/// Waits until the shell has written that file, and reads it.
fn wait_for(path: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ if Instant::now() > deadline => panic!("the walk did not come to its sleep"),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn the_walk_works_after_the_lines_of_the_greeting_and_again() {
    for shell in shells() {
        let database = Database::new();
        let port = free_port();
        let child = Child::start(&database, &[("PORT", &port.to_string())]);
        let greeting = child.stdout();
        let (_, lines) = greeting.split_once("Try:\n").expect("lines to try");
        let (lines, _) = lines.split_once("\n\n").expect("an end of the lines");
        let walk = walk(&format!("http://localhost:{port}"));
        // The second walk is a second later.
        let script = format!("sleep() {{ :; }}\n{lines}\n{walk}\ndate() {{ echo 1; }}\n{walk}");
        let output = paste(shell, database.dir.path(), &script).wait_with_output().expect("it ends");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let errors = String::from_utf8_lossy(&output.stderr);
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains("\"token\":\"") && first.contains("\"code\":200"), "{shell:?} {text} {errors}");
        assert_eq!(text.matches("} 200\n").count(), 4, "{shell:?} {text} {errors}");
        assert_eq!(text.matches("} 401\n").count(), 2, "{shell:?} {text} {errors}");
    }
}

#[test]
fn the_own_server_of_the_library_page_does_all_that_the_binary_does() {
    assert!(
        LIBRARY.contains(&format!("```rust,no_run\n{OWN_SERVER}```")),
        "docs/library.md has examples/own_server.rs"
    );
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "own_server"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.expect("cargo runs").success());
    let binary = Path::new(env!("CARGO_BIN_EXE_gatebird")).with_file_name("examples").join("own_server");
    let database = Database::new();
    let metrics = format!("127.0.0.1:{}", free_port());
    let own = |settings: &[(&str, &str)]| {
        let settings = [settings, &[("METRICS_ADDR", &*metrics), ("ACCESS_LOG", "all")]].concat();
        let server = gatebird(&database, &[], &settings);
        let mut command = Command::new(&binary);
        command.current_dir(database.dir.path()).env_clear();
        command.envs(server.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    };
    // Settings also from `.env`; bad ones with the exit code and the words of the binary.
    fs::write(database.dir.path().join(".env"), "TOKEN_TTL=7m\nSIGN_UP=closed\n").expect("a file");
    let outcome = run(&mut own(&[("SIGNUP", "no")]), "");
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
    assert!(outcome.stderr.starts_with("SIGNUP ") && outcome.stdout.is_empty(), "{outcome:?}");

    let child = Child::spawn(&mut own(&[]), "").greeted();
    let (user, domain, token) = child.client.tenant("alice");
    assert_eq!(child.client.exchange(&domain.secret).expect(200)["expiresIn"], json!(420));
    let orders = child.client.get("/orders", &token);
    assert_eq!((orders.status, orders.text()), (200, format!("orders of user {}", user.id)));
    child.client.get("/orders", "").refused(401, "missing");
    let numbers = crate::binary::Client::new(&format!("http://{metrics}")).get("/metrics", "");
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
