//! The commands of the README and of the server's greeting run unchanged, with and without a shell.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Child, Client, free_port};
use crate::harness::{Database, Gate};
use crate::programs;

const README: &str = include_str!("../../README.md");

/// Shells with options for interactive input without a terminal and without start-up files.
const SHELLS: &[&[&str]] = &[&["bash", "--norc", "-i"], &["dash", "-i"], &["zsh", "-f", "-i"]];

/// The walk's `sleep`: it lets the test move the clock, and waits for that.
const SLEEP: &str = r#"sleep() { echo "$1" > asleep; while [ ! -e awake ]; do command sleep 0.02; done; rm awake; }"#;

/// The walk, against that server.
fn walk(url: &str) -> String {
    let (_, walk) = README.split_once("<!-- walk -->\n```sh\n").expect("a walk");
    let (walk, _) = walk.split_once("```").expect("the walk ends");
    assert!(walk.contains("http://localhost:8002"), "{walk}");
    walk.replace("http://localhost:8002", url)
}

/// The shells in which the walk can run on this machine.
fn shells() -> impl Iterator<Item = &'static &'static [&'static str]> {
    SHELLS.iter().filter(|shell| programs::installed(&[shell[0], "curl", "sed"]))
}

/// Runs the commands of the walk and of the greeting without a shell, and sends the requests of `curl` with ureq.
/// Returns the output of the commands.
fn run_without_shell(script: &str, date: u32, sleep: impl Fn(i64)) -> String {
    let mut variables = BTreeMap::<String, String>::new();
    let mut printed = String::new();
    let script = script.replace("\\\n", "").replace("$(date +%s)", &date.to_string());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let assignment = line.split_once('=').filter(|(name, _)| is_name(name));
        let (name, command) = assignment.map_or((None, line), |(name, value)| (Some(name), value));
        let commands = command.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(command);
        let mut output = String::new();
        for command in commands.split(" | ") {
            let expand = |word| variables.iter().fold(word, |word: String, (name, value)| word.replace(name, value));
            let words: Vec<_> = shlex::split(command).expect("closed quotes").into_iter().map(expand).collect();
            output = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["curl", ref arguments @ ..] => curl(arguments),
                ["sed", pattern] => last_value(pattern, &output),
                ["printf", "%s", value] => value.to_owned(),
                ["sleep", seconds] => {
                    sleep(seconds.parse().expect("seconds"));
                    String::new()
                }
                [value] if name.is_some() => value.to_owned(),
                _ => panic!("a command that this test does not know: {command}"),
            };
        }
        match name {
            Some(name) => drop(variables.insert(format!("${name}"), output)),
            None => printed += &output,
        }
    }
    printed
}

/// Sends the request of `curl` with these arguments, and returns its output.
fn curl(arguments: &[&str]) -> String {
    let (mut url, mut headers, mut data, mut format) = ("", Vec::new(), "", "");
    let mut arguments = arguments.iter().copied();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value");
        match argument {
            "-s" => {}
            "-d" => data = value(),
            "-w" => format = value(),
            "-H" => headers.push(value().split_once(": ").expect("a header")),
            _ if argument.starts_with('-') => panic!("an option that this test does not know: {argument}"),
            _ => url = argument,
        }
    }
    let method = if data.is_empty() { "GET" } else { "POST" };
    let reply = Client::new(url).send(method, "", &headers, data).expect("the server answers");
    reply.text() + &format.replace("%{http_code}", &reply.status.to_string()).replace("\\n", "\n")
}

/// The result of `sed 's/.*"member":"\([^"]*\)".*/\1/'`: the last value of that member.
fn last_value(pattern: &str, answer: &str) -> String {
    let start = pattern.strip_prefix("s/.*").and_then(|rest| rest.strip_suffix(r#"\([^"]*\)".*/\1/"#));
    let start = start.unwrap_or_else(|| panic!("a pattern that this test does not know: {pattern}"));
    let (_, value) = answer.rsplit_once(start).unwrap_or_else(|| panic!("no {start} in {answer}"));
    value.split('"').next().expect("a value").to_owned()
}

/// Pastes a script into an interactive shell in that folder.
fn paste(shell: &[&str], dir: &Path, script: &str) -> std::process::Child {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).current_dir(dir).env_clear().env("PATH", programs::path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the shell starts");
    let mut stdin = process.stdin.take().expect("a pipe");
    // In one piece, which fits into the pipe; and with `exit`, because the shell would wait for more.
    write!(stdin, "{script}\nexit\n").expect("the shell reads");
    process
}

/// The last word of each line: the statuses of a walk.
fn statuses(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.rsplit(' ').next()).collect()
}

/// A server with the defaults of a new installation, except for the port.
fn new_installation() -> Gate {
    Gate::with(&[("LIMIT_FREE", "60/m"), ("BCRYPT_COST", "12")])
}

#[track_caller]
fn assert_ends_in_419(printed: &str) {
    assert_eq!(statuses(printed), ["200", "401", "419"], "{printed}");
    assert!(
        printed.contains("\"host\":\"shop.example.com\"") && printed.contains("토큰이 만료되었습니다"),
        "{printed}"
    );
}

#[test]
fn readme_walk__ends_in_419_without_a_shell() {
    let gate = new_installation();
    assert_ends_in_419(&run_without_shell(&walk(&gate.url), 1, |seconds| gate.clock.advance(seconds)));
}

#[test]
fn readme_walk__ends_in_419_in_every_shell() {
    for shell in shells() {
        let gate = new_installation();
        let dir = tempfile::tempdir().expect("a temporary folder");
        let process = paste(shell, dir.path(), &format!("{SLEEP}\n{}", walk(&gate.url)));
        let seconds = wait_for(&dir.path().join("asleep"));
        gate.clock.advance(seconds.trim().parse().expect("seconds"));
        fs::write(dir.path().join("awake"), "").expect("the file that ends the pause");
        let output = process.wait_with_output().expect("the walk ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        eprintln!("{shell:?} {errors}");
        assert!(!errors.contains("not found") && !errors.contains("no matches"));
        assert_ends_in_419(&String::from_utf8(output.stdout).expect("UTF-8"));
    }
}

/// Waits until the shell has written that file, and reads it.
fn wait_for(path: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ if Instant::now() > deadline => panic!("the walk did not reach its pause"),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs the lines that a new server prints under "Try", then the walk, then the walk a second later.
fn try_and_walk_twice(run: impl FnOnce(&Database, &str, &str) -> String) {
    let database = Database::new();
    let port = free_port();
    let child = Child::start(&database, &[("PORT", &port.to_string())]);
    let greeting = child.stdout();
    let (_, lines) = greeting.split_once("Try:\n").expect("lines to try");
    let (lines, _) = lines.split_once("\n\n").expect("the end of the block");
    let printed = run(&database, lines, &walk(&format!("http://localhost:{port}")));
    let first = printed.lines().next().unwrap_or_default();
    assert!(first.contains("\"token\":\"") && first.contains("\"code\":200"), "{printed}");
    assert_eq!(printed.matches("} 200\n").count(), 4, "{printed}");
    assert_eq!(printed.matches("} 401\n").count(), 2, "{printed}");
}

#[test]
fn readme_walk__after_the_greeting_without_a_shell() {
    try_and_walk_twice(|_, lines, walk| {
        let run = |script: &str, date| run_without_shell(script, date, |_| ());
        [run(lines, 0), run(walk, 0), run(walk, 1)].concat()
    });
}

#[test]
fn readme_walk__after_the_greeting_in_every_shell() {
    for shell in shells() {
        try_and_walk_twice(|database, lines, walk| {
            let script = format!("sleep() {{ :; }}\n{lines}\n{walk}\ndate() {{ echo 1; }}\n{walk}");
            let output = paste(shell, database.dir.path(), &script).wait_with_output().expect("it ends");
            eprintln!("{shell:?} {output:?}");
            String::from_utf8(output.stdout).expect("UTF-8")
        });
    }
}
