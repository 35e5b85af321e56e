//! What an attacker tries, as rows: between tenants, with numbers, in logs and metrics, at the process itself, and a hunt
//! for panics. Each case that has a file of its own elsewhere stays there.

mod disclosure;
mod fuzz;
mod idor;
mod keep_alive;
mod logs;
mod numeric_input;
mod process;
mod races;

use crate::harness::Reply;

/// What no answer may show: the words of a database, of the file system, of a panic.
const LEAKS: &[&str] = &[
    "sqlite",
    "postgres",
    "diesel",
    "panicked",
    "backtrace",
    "/src/",
    ".rs:",
    "/tmp/",
    "select ",
    "insert into",
    "actix",
    "no such table",
    "relation",
    "constraint",
];

/// What holds for every answer, whatever was asked: no fault of ours but an honest 503, and [`worded`].
#[track_caller]
pub fn harmless(what: &str, reply: &Reply) {
    assert!(reply.status < 500 || reply.status == 503, "{what}: {} {}", reply.status, reply.text());
    if reply.status == 503 {
        assert!(reply.header("retry-after").is_some(), "{what}: {reply:?}");
    }
    worded(what, reply);
}

/// A refusal has our own words in the one shape, and nobody else's.
#[track_caller]
pub fn worded(what: &str, reply: &Reply) {
    if reply.status < 400 || reply.body.is_empty() {
        return;
    }
    let body = reply.json();
    assert!(
        body["code"] == reply.status && body["message"].is_string() && body["reason"].is_string(),
        "{what}: {body}"
    );
    let shown = reply.text().to_lowercase();
    for leak in LEAKS {
        assert!(!shown.contains(leak), "{what}: {leak} in {shown}");
    }
}
