//! Attacks as table rows: between tenants, with numbers, on logs and metrics, on the process, and fuzzing. Attacks on
//! one feature are in the file of that feature.

mod disclosure;
mod fuzz;
mod idor;
mod logs;
mod numeric_input;
mod process;
mod races;

use crate::harness::Reply;

/// Text that no answer may contain: words of a database, of the file system, of a panic.
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

/// Checks what holds for every answer: no server error except a 503 with `Retry-After`, and [`assert_refusal_format`].
#[track_caller]
pub fn assert_no_server_error(what: &str, reply: &Reply) {
    assert!(reply.status < 500 || reply.status == 503, "{what}: {} {}", reply.status, reply.text());
    if reply.status == 503 {
        assert!(reply.header("retry-after").is_some(), "{what}: {reply:?}");
    }
    assert_refusal_format(what, reply);
}

/// Checks that a refusal has the usual shape and reveals nothing internal.
#[track_caller]
pub fn assert_refusal_format(what: &str, reply: &Reply) {
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
