//! What a command reports when its result cannot be written.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use super::{gatebird, run};
use crate::harness::{Database, PASSWORD};

/// Runs the command with a standard output that accepts nothing.
fn run_with_output(device: &str, command: &mut Command) -> (Option<i32>, String) {
    let output = OpenOptions::new().write(true).open(device).expect("a device");
    let child = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).spawn().expect("it starts");
    let outcome = child.wait_with_output().expect("it ends");
    (outcome.status.code(), String::from_utf8_lossy(&outcome.stderr).into_owned())
}

#[test]
fn domain_secret__output_fails() {
    let database = Database::new();
    run(&mut gatebird(&database, &["user", "add", "alice"], &[]), PASSWORD).good();
    let add = ["domain", "add", "shop.example.com", "--user", "alice"];
    let id = || {
        let list = run(&mut gatebird(&database, &["domain", "list", "--json"], &[]), "").json();
        list[0]["id"].as_str().expect("an id").to_owned()
    };
    let (code, stderr) = run_with_output("/dev/full", &mut gatebird(&database, &add, &[]));
    let id = id();
    assert_eq!(code, Some(73), "{stderr}");
    for part in ["was made", &id, "gatebird domain rotate"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    for json in [&[][..], &["--json"]] {
        let rotate = ["domain", "rotate", &id];
        let (code, stderr) = run_with_output("/dev/full", &mut gatebird(&database, &[&rotate[..], json].concat(), &[]));
        assert!(
            code == Some(73) && stderr.contains("was made") && stderr.contains("gatebird domain rotate"),
            "{stderr}"
        );
    }
    // A reader that has closed the pipe has not read the secret either.
    let mut child = gatebird(&database, &["domain", "rotate", &id], &[]);
    let mut child =
        child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let outcome = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.code() == Some(73) && stderr.contains("was made"), "{stderr}");
}

#[test]
fn command_result__output_fails() {
    let database = Database::new();
    run(&mut gatebird(&database, &["user", "add", "alice"], &[]), PASSWORD).good();
    let (code, stderr) = run_with_output("/dev/full", &mut gatebird(&database, &["user", "suspend", "alice"], &[]));
    assert!(code == Some(73) && stderr.contains("the change was made"), "{stderr}");
    let (code, stderr) = run_with_output("/dev/full", &mut gatebird(&database, &["user", "list"], &[]));
    assert!(code == Some(73) && !stderr.contains("was made"), "{stderr}");
}
