//! Sources of settings, and the report of invalid ones: key, line, value and source, all together and without secrets.

mod env_file;
mod start;

use std::fs;
use std::path::Path;

use crate::binary::{Outcome, bare, run, text};
use crate::harness::{JWT_SECRET, Value, json};

/// Runs a command in that folder with only these variables in its environment.
fn command(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Outcome {
    run(bare(dir, args).envs(environment.iter().copied()), "")
}

fn check(dir: &Path, environment: &[(&str, &str)]) -> Outcome {
    command(dir, &["check-config"], environment)
}

/// `check-config` in a folder with that `.env`.
fn check_file(file: impl AsRef<[u8]>, environment: &[(&str, &str)]) -> Outcome {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join(".env"), file).expect("a file");
    check(dir.path(), environment)
}

/// The value and the source that `check-config` shows for a key.
fn shown_setting(dir: &Path, environment: &[(&str, &str)], key: &str) -> (String, String) {
    let rows = command(dir, &["check-config", "--json"], environment).json();
    let row = rows.as_array().expect("an array").iter().find(|row| row["key"] == json!(key)).cloned();
    let row = row.unwrap_or(Value::Null);
    (text(&row["value"]), text(&row["source"]))
}

#[track_caller]
fn refused(outcome: &Outcome, lines: usize, words: &[&str]) {
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), lines, "{outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} in {outcome:?}");
    }
    assert!(outcome.stdout.is_empty() && !outcome.stderr.contains("c4nary"), "{outcome:?}");
}

#[test]
fn setting__invalid_value_is_reported_with_key_source_and_line() {
    let file =
        "# a comment with an apostrophe: it's\n\nTOKEN_TTL=1y\nexport SIGNUP=no\r\nSCOPES=\"a\nb,c\"\nWORKERS=0\n";
    let outcome = check_file(file, &[("PORT", "80o2"), ("METRICS_ADDR", "9002")]);
    refused(&outcome, 6, &["PORT", "TOKEN_TTL", "SIGNUP", "SCOPES", "WORKERS", "METRICS_ADDR"]);
    let line = |key: &str| {
        let mut lines = outcome.stderr.lines();
        lines.find(|line| line.starts_with(&format!("{key} "))).unwrap_or_else(|| panic!("{key} in {outcome:?}"))
    };
    for (key, value, source) in [
        ("PORT", "\"80o2\"", "environment"),
        ("METRICS_ADDR", "\"9002\"", "environment"),
        ("TOKEN_TTL", "\"1y\"", ".env, line 3"),
        ("SIGNUP", "\"no\"", ".env, line 4"),
        ("SCOPES", "b,c", ".env, line 5"),
        ("WORKERS", "\"0\"", ".env, line 7"),
    ] {
        assert!(line(key).contains(value) && line(key).contains(source), "{}", line(key));
    }
}

#[test]
fn setting__invalid_secret_is_reported_without_its_value() {
    let file = "JWT_SECRET=c4nary\nJWT_SECRET_PREVIOUS=c4nary\nDATABASE_URL=mysql://u:c4nary@h/db\n";
    refused(
        &check_file(file, &[]),
        3,
        &["JWT_SECRET ", "JWT_SECRET_PREVIOUS ", "DATABASE_URL ", "line 1", "line 2", "line 3"],
    );
    let outcome = check_file("", &[("PUBLIC_URL", "https://gatebird:c4nary@gate.example.com")]);
    refused(&outcome, 1, &["PUBLIC_URL", "environment"]);
}

#[test]
fn env_file__unknown_key_is_reported_with_a_suggestion() {
    for (key, meant) in [
        ("SIGN_UP", "SIGNUP"),
        ("TOKEN_TLL", "TOKEN_TTL"),
        ("JWT_SECRETS", "JWT_SECRET"),
        ("port", "PORT"),
        ("TRUST_PROXIES", "TRUSTED_PROXIES"),
        ("JWT_SECRET_FILES", "JWT_SECRET_FILE"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("BCRYPT_COSTS", "BCRYPT_COST"),
    ] {
        let outcome = check_file(format!("PORT=0\n\n{key}=c4nary\n"), &[]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let prefix = format!("{key} ");
        let line = outcome.stderr.lines().find(|line| line.contains(&prefix)).unwrap_or_else(|| panic!("{outcome:?}"));
        assert!(line.contains(".env, line 3") && line.contains(&format!("{meant}?")), "{line}");
        assert!(outcome.stderr.lines().count() == 1 && !outcome.stderr.contains("c4nary"), "{outcome:?}");
    }
    let outcome = check_file("FRUIT=apple\n", &[]);
    assert!(outcome.stderr.contains("FRUIT") && !outcome.stderr.contains('?'), "{outcome:?}");
    // The second line of a secret can look like a key.
    let outcome = check_file("c4nary==\n", &[]);
    assert!(outcome.code == Some(0) && !outcome.stderr.contains("c4nary"), "{outcome:?}");
    assert!(outcome.stderr.contains(".env, line 1"), "{outcome:?}");
    // The environment has variables of other programs.
    let outcome = check_file("PORT=0\nJWT_SECRET_FILE=\n", &[("HOSTNAME", "web-1"), ("SIGN_UP", "closed")]);
    assert!(outcome.code == Some(0) && outcome.stderr.is_empty(), "{outcome:?}");
    // Reported beside the invalid value, because the unknown key may be its cause.
    let outcome = check_file("JWT_SECERT=c4nary\nDATABASE_URL=postgres://localhost/db\n", &[]);
    refused(&outcome, 2, &["JWT_SECRET is required", "JWT_SECERT", "JWT_SECRET?"]);
}

#[test]
fn env_file__byte_order_mark_and_line_ends() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for file in [
        "\u{feff}PORT=8123\nTOKEN_TTL=5m\n",
        "\u{feff}PORT=8123\r\nTOKEN_TTL=5m\r\n",
        "PORT=8123\r\n\r\n# a comment\r\nTOKEN_TTL='5m'\r\n",
        "PORT=8123\nTOKEN_TTL=5m ",
        "\u{feff}# a comment\nPORT=8123 # another\nTOKEN_TTL=\"5m\"",
    ] {
        fs::write(dir.path().join(".env"), file).expect("a file");
        let found = |key| shown_setting(dir.path(), &[], key);
        assert_eq!(found("PORT"), ("8123".into(), ".env".into()), "{file:?}");
        assert_eq!(found("TOKEN_TTL"), ("5m".into(), ".env".into()), "{file:?}");
    }
}

#[test]
fn env_file__wrong_encoding_or_a_directory() {
    let text = format!("PORT=8123\nJWT_SECRET={JWT_SECRET}\n");
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for file in [[b"\xff\xfe", &little[..]].concat(), [b"\xfe\xff", &big[..]].concat(), little, big] {
        refused(&check_file(file, &[]), 1, &[".env", "UTF-16", "UTF-8"]);
    }
    // An old Korean encoding.
    refused(&check_file(b"PORT=8123\n# \xbc\xb3\xc1\xa4\n", &[]), 1, &[".env", "line 2", "UTF-8"]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(dir.path().join(".env")).expect("a folder");
    refused(&check(dir.path(), &[]), 1, &[".env", "directory"]);
}

#[test]
fn env_file__syntax_error_is_reported_with_line_and_key() {
    let before = "# 1\n\nPORT=0\nSCOPES=\"a\n b\"\n";
    for (line, words) in [
        ("JWT_SECRET=c4nary with blanks", &["line 6", "JWT_SECRET"][..]),
        ("JWT_SECRET = \"c4nary", &["line 6", "JWT_SECRET"]),
        ("JWT_SECRET='c4nary\nPORT=1", &["line 6", "JWT_SECRET"]),
        ("DATABASE_URL: postgres://u:c4nary@h/db", &["line 6", "DATABASE_URL"]),
        ("JWT_SECRET c4nary", &["line 6", "JWT_SECRET"]),
        ("c4nary", &["line 6"]),
        ("=c4nary", &["line 6"]),
    ] {
        let outcome = check_file(format!("{before}{line}\n"), &[]);
        refused(&outcome, 1, words);
    }
    // All errors at once, together with invalid values.
    let outcome = check_file("PORT=8 0\nTOKEN_TTL=1y\nSIGNUP=c4nary c4nary\n", &[]);
    refused(&outcome, 3, &["line 1", "PORT", "line 2", "TOKEN_TTL", "line 3", "SIGNUP"]);
}

#[test]
fn secret_setting__equal_from_environment_and_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let expected = format!("(set, {} bytes)", JWT_SECRET.len());
    for end in ["", "\n", "\r\n", " ", "\t\n\n"] {
        let secret = format!("{JWT_SECRET}{end}");
        let (shown, source) = shown_setting(dir.path(), &[("JWT_SECRET", &secret)], "JWT_SECRET");
        assert_eq!((shown, source), (expected.clone(), "environment".into()), "{end:?}");
        fs::write(dir.path().join("secret"), &secret).expect("a file");
        for key in ["JWT_SECRET", "JWT_SECRET_PREVIOUS"] {
            let environment = [(&*format!("{key}_FILE"), "secret")];
            let (shown, source) = shown_setting(dir.path(), &environment, key);
            assert_eq!(shown, expected, "{end:?}");
            assert!(source.contains("secret"), "{source}");
        }
    }
    for quoted in [format!("\"{JWT_SECRET}\""), format!("'{JWT_SECRET}'"), format!("'{JWT_SECRET}'\n")] {
        for key in ["JWT_SECRET", "JWT_SECRET_PREVIOUS"] {
            let outcome = check(dir.path(), &[(key, &quoted)]);
            refused(&outcome, 1, &[key, "quotes"]);
            assert!(!outcome.stderr.contains(JWT_SECRET), "{outcome:?}");
        }
        fs::write(dir.path().join("secret"), &quoted).expect("a file");
        refused(&check(dir.path(), &[("JWT_SECRET_FILE", "secret")]), 1, &["JWT_SECRET", "quotes"]);
    }
    // docker's --env-file keeps the quotes of a value.
    refused(&check(dir.path(), &[("JWT_ISSUER", "\"https://gate.example.com\"")]), 1, &["JWT_ISSUER", "quotes"]);
}

#[test]
fn secret_setting__read_from_a_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write("url", "postgres://gatebird:c4nary@localhost/db\n");
    write("secret", &format!("\u{feff}{JWT_SECRET}\n"));
    let files = [("DATABASE_URL_FILE", "url"), ("JWT_SECRET_FILE", "secret")];
    let (shown, source) = shown_setting(dir.path(), &files, "DATABASE_URL");
    assert_eq!(shown, "postgres://gatebird:***@localhost/db");
    assert!(source.contains("url"), "{source}");
    assert_eq!(shown_setting(dir.path(), &files, "JWT_SECRET").0, format!("(set, {} bytes)", JWT_SECRET.len()));
    write(".env", "JWT_SECRET_FILE=secret\n");
    assert!(shown_setting(dir.path(), &[], "JWT_SECRET").1.contains("secret"));
    // The environment wins, also with the other form of the same key.
    assert_eq!(shown_setting(dir.path(), &[("JWT_SECRET", JWT_SECRET)], "JWT_SECRET").1, "environment");

    let one = |name: &str, words: &[&str]| {
        let outcome = check(dir.path(), &[("JWT_SECRET_FILE", name)]);
        refused(&outcome, 1, words);
    };
    one("nowhere", &["JWT_SECRET", "nowhere"]);
    one(".", &["JWT_SECRET"]);
    write("empty", " \n");
    one("empty", &["JWT_SECRET", "empty"]);
    write("short", "c4nary\n");
    one("short", &["JWT_SECRET", "short", "32"]);
    write("two", &format!("{JWT_SECRET}\nc4nary\n"));
    one("two", &["JWT_SECRET", "two", "line"]);
    let both = [("JWT_SECRET", JWT_SECRET), ("JWT_SECRET_FILE", "secret")];
    refused(&check(dir.path(), &both), 1, &["JWT_SECRET", "JWT_SECRET_FILE"]);
}

#[test]
fn environment__empty_variable_overrides_the_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join(".env"), "SIGNUP=closed\nTOKEN_TTL=5m\n").expect("a file");
    assert_eq!(shown_setting(dir.path(), &[("SIGNUP", "")], "SIGNUP"), ("open".into(), "default".into()));
    assert_eq!(shown_setting(dir.path(), &[("SIGNUP", "")], "TOKEN_TTL"), ("5m".into(), ".env".into()));
}

#[test]
fn list_setting__separated_by_spaces() {
    for (key, value) in [
        ("SCOPES", "posts:read,posts:write"),
        ("SCOPES", "posts:read, posts:write"),
        ("SCOPES", "posts:read;posts:write"),
        ("AUDIENCES", "https://a.example,https://b.example"),
        ("AUDIENCES", "urn:a;urn:b"),
    ] {
        refused(&check_file("", &[(key, value)]), 1, &[key, "spaces", value]);
    }
}
