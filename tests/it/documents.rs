//! What the documents say is what the code does: the README's walk is run, its table and `.env.example` list every
//! setting with its default.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gatebird::Config;

use crate::harness::Gate;

const README: &str = include_str!("../../README.md");
const ENV_EXAMPLE: &str = include_str!("../../.env.example");

/// The walk's `sleep`: it tells the test to move the clock and waits until that is done.
const SLEEP: &str = r#"sleep() { echo "$1" > asleep; while [ ! -e awake ]; do command sleep 0.02; done; rm awake; }"#;

#[test]
fn the_walk_of_the_readme_ends_in_419() {
    let (_, walk) = README.split_once("<!-- walk -->\n```sh\n").expect("a walk");
    let (walk, _) = walk.split_once("```").expect("the walk ends");
    // The defaults that a newcomer has, but for the port.
    let gate = Gate::with(&[("LIMIT_FREE", "60/m"), ("BCRYPT_COST", "12")]);
    let script = format!("{SLEEP}\n{}", walk.replace("http://localhost:8002", &gate.url));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let shell = Command::new("sh").current_dir(&dir).args(["-euc", &script]).stdout(Stdio::piped()).spawn();
    let shell = shell.expect("sh starts");

    let seconds = wait_for(&dir.path().join("asleep"));
    gate.clock.advance(seconds.trim().parse().expect("seconds"));
    fs::write(dir.path().join("awake"), "").expect("the walk can go on");
    let output = shell.wait_with_output().expect("the walk ends");

    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text} (the walk needs curl and sed)");
    let statuses: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(statuses, ["200", "401", "419"], "{text}");
    assert!(text.contains("\"host\":\"shop.example.com\"") && text.contains("토큰이 만료되었습니다"), "{text}");
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
fn the_example_lists_every_setting_with_its_default() {
    let settings = Config::load(|_| None).expect("the defaults are good").settings;
    let is_key =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let lines = ENV_EXAMPLE.lines().map(|line| line.trim_start_matches("# "));
    let assignments: Vec<&str> =
        lines.filter(|line| line.split_once('=').is_some_and(|(key, _)| is_key(key))).collect();
    // Read as the server reads `.env`, which is strict about blanks and quotes.
    let read: Result<BTreeMap<String, String>, _> =
        dotenvy::from_read_iter(assignments.join("\n").as_bytes()).collect();
    let mut listed = read.expect("every line of the example can be taken in as it stands");
    for setting in settings {
        let example = listed.remove(setting.key).unwrap_or_else(|| panic!("{} is not in .env.example", setting.key));
        // What depends on the machine, or is made at the first start, stands empty.
        if !matches!(setting.key, "WORKERS" | "JWT_SECRET" | "JWT_SECRET_PREVIOUS") {
            assert_eq!(example, setting.shown, "{}", setting.key);
        }
    }
    assert!(listed.is_empty(), "not settings: {listed:?}");
}

#[test]
fn the_readme_lists_every_setting() {
    for setting in Config::load(|_| None).expect("the defaults are good").settings {
        assert!(README.contains(&format!("`{}`", setting.key)), "{}", setting.key);
    }
}
