//! A value of `.env` is taken literally: no part is replaced, and none is dropped silently.

use std::fs;
use std::os::unix::fs::symlink;

use super::{check, check_file, refused, shown_setting};
use crate::harness::JWT_SECRET;

#[test]
fn env_file__dollar_is_literal() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (written, read) in [
        ("https://gate.test/a$PORT", "https://gate.test/a$PORT"),
        ("https://gate.test/a$nothing$", "https://gate.test/a$nothing$"),
        ("https://gate.test/${PORT}b", "https://gate.test/${PORT}b"),
        ("\"https://gate.test/$PORT\"", "https://gate.test/$PORT"),
        ("'https://gate.test/$PORT'", "https://gate.test/$PORT"),
        ("https://gate.test/\\$PORT", "https://gate.test/$PORT"),
        ("\"https://gate.test/\\$PORT\"", "https://gate.test/$PORT"),
    ] {
        fs::write(dir.path().join(".env"), format!("PORT=8123\nJWT_ISSUER={written}\n")).expect("a file");
        assert_eq!(shown_setting(dir.path(), &[], "JWT_ISSUER").0, read, "{written}");
    }
    refused(&check_file("SIGNUP=$SIGNUP_OF_STAGE\n", &[]), 1, &["SIGNUP", "$SIGNUP_OF_STAGE", "line 1"]);
}

#[test]
fn secret_setting__surrounding_quotes_are_refused() {
    for quoted in ["\"*", "*'", "\u{201c}*\u{201d}", "\u{2018}*\u{2019}", "`*`", " \"* "] {
        let secret = quoted.replace('*', JWT_SECRET);
        let outcome = check_file("", &[("JWT_SECRET", &secret)]);
        refused(&outcome, 1, &["JWT_SECRET", "quote"]);
        assert!(!outcome.stderr.contains(JWT_SECRET), "{outcome:?}");
    }
    refused(&check_file(format!("JWT_SECRET=\u{201c}{JWT_SECRET}\u{201d}\n"), &[]), 1, &["JWT_SECRET", "quote"]);
}

#[test]
fn env_file__syntax_error_is_reported_with_a_remedy() {
    let outcome = check_file("JWT_SECRET=c4nary\\7c4nary\nset PORT=8123\n", &[]);
    refused(&outcome, 2, &["JWT_SECRET cannot be read", "single quotes", "backslash", "a setting cannot be read"]);
}

#[test]
fn env_file__second_line_of_a_secret_is_not_shown() {
    let outcome = check_file("C4NARYC4NARYC4NARY==\n", &[]);
    assert!(outcome.code == Some(0) && !outcome.stderr.contains("C4NARY"), "{outcome:?}");
    assert!(outcome.stderr.contains(".env, line 1"), "{outcome:?}");
}

#[test]
fn env_file__dangling_symbolic_link_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    symlink("settings-of-nobody", dir.path().join(".env")).expect("a symbolic link");
    refused(&check(dir.path(), &[]), 1, &[".env", "cannot be read"]);
}
