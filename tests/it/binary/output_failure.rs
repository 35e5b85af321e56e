//! What a command reports when its result cannot be written.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use super::{gatebird, run};
use crate::harness::{Database, PASSWORD};

/// Runs the command with a standard output that accepts nothing.
fn to(device: &str, command: &mut Command) -> (Option<i32>, String) {
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
    let (code, said) = to("/dev/full", &mut gatebird(&database, &add, &[]));
    let id = id();
    assert_eq!(code, Some(73), "{said}");
    for part in ["was made", &id, "gatebird domain rotate"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for json in [&[][..], &["--json"]] {
        let rotate = ["domain", "rotate", &id];
        let (code, said) = to("/dev/full", &mut gatebird(&database, &[&rotate[..], json].concat(), &[]));
        assert!(code == Some(73) && said.contains("was made") && said.contains("gatebird domain rotate"), "{said}");
    }
    // A reader that has closed the pipe has not read the secret either.
    let mut child = gatebird(&database, &["domain", "rotate", &id], &[]);
    let mut child =
        child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let outcome = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.code() == Some(73) && said.contains("was made"), "{said}");
}

#[test]
fn command_result__output_fails() {
    let database = Database::new();
    run(&mut gatebird(&database, &["user", "add", "alice"], &[]), PASSWORD).good();
    let (code, said) = to("/dev/full", &mut gatebird(&database, &["user", "suspend", "alice"], &[]));
    assert!(code == Some(73) && said.contains("the change was made"), "{said}");
    let (code, said) = to("/dev/full", &mut gatebird(&database, &["user", "list"], &[]));
    assert!(code == Some(73) && !said.contains("was made"), "{said}");
}
