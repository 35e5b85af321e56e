//! The owner of an imported domain, and the report and exit code for rows that are not imported.

use std::sync::Arc;

use super::{cli, domain, end, ends, imported, report, user, uuid, write};
use crate::binary::text;
use crate::harness::{Database, Gate, PASSWORD, Value, json};

const IMPORT_ARGS: [&str; 7] =
    ["import", "domains", "domains.csv", "--secrets", "secrets.csv", "--json", "--make-users"];

fn owners(database: &Database) -> Vec<(String, String)> {
    let listed = cli(database, &["domain", "list", "--json"], "").json();
    let domains = listed.as_array().expect("a list");
    domains.iter().map(|domain| (text(&domain["host"]), text(&domain["user"]))).collect()
}

/// Another person signed up under a customer's name before the import.
#[test]
fn import_domains__username_taken_by_another_person() {
    let database = Arc::new(Database::new());
    let gate = Gate::on(Arc::clone(&database), &[]);
    gate.sign_up("Customer");
    write(
        &database,
        "domains.csv",
        "username,host,type\ncustomer,shop.example.com,free\nnewcomer,new.example.com,free\n",
    );
    let (lines, sums) = report(cli(&database, &IMPORT_ARGS, ""));
    assert_eq!(sums, json!({"imported": {"users": 1, "domains": 1}, "already": 0, "skipped": 1}));
    let reason = text(&lines[0]["reason"]);
    assert!(reason.contains("customer") && reason.contains("without --make-users"), "{reason}");
    assert_eq!(owners(&database), [("new.example.com".into(), "newcomer".into())]);

    // An account made by an import is recognised, even after it has a password.
    cli(&database, &["user", "password", "newcomer"], PASSWORD).good();
    write(
        &database,
        "domains.csv",
        "username,host,type\nnewcomer,new.example.com,free\nNEWCOMER,more.example.com,free\n",
    );
    std::fs::remove_file(database.dir.path().join("secrets.csv")).expect("the file of the first load");
    let (_, sums) = report(cli(&database, &IMPORT_ARGS, ""));
    assert_eq!(sums, json!({"imported": {"users": 0, "domains": 1}, "already": 1, "skipped": 0}));

    // Without `--make-users`, the operator vouches for the account.
    write(&database, "domains.csv", "username,host,type\ncustomer,shop.example.com,free\n");
    std::fs::remove_file(database.dir.path().join("secrets.csv")).expect("the file of the second load");
    report(cli(&database, &IMPORT_ARGS[..6], ""));
    assert!(owners(&database).contains(&("shop.example.com".into(), "Customer".into())));
}

#[test]
fn import__no_row_is_imported() {
    let database = Database::new();
    write(&database, "domains.csv", "username,host,type\nnobody,shop.example.com,free\nno one,shop.example.com,free\n");
    let outcome = cli(&database, &IMPORT_ARGS[..6], "");
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
    let sums: Value =
        outcome.stdout.lines().last().map(|line| serde_json::from_str(line).expect("sums")).expect("a line");
    assert_eq!(sums["skipped"], json!(2));
    assert!(outcome.stderr.contains("none of the 2 rows"), "{outcome:?}");

    let gone = user(1, "alice@example.com").replace("\"deletedAt\":null", "\"deletedAt\":1500000002");
    write(&database, "export", [gone, end(1, 0)].join("\n"));
    let outcome = cli(&database, &["import", "nodebird", "export"], "");
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
    assert!(outcome.stdout.contains("skipped 1") && outcome.stderr.contains("none of the 1 rows"), "{outcome:?}");

    // Existing rows and an empty file are no failure.
    write(&database, "domains.csv", "username,host,type\n");
    cli(&database, &IMPORT_ARGS[..6], "").good();
}

#[test]
fn import__existing_row_with_another_plan() {
    let database = Database::new();
    cli(&database, &["user", "add", "alice"], PASSWORD).good();
    let csv = |plan: &str| {
        let given = uuid(1);
        format!(
            "username,host,type,clientSecret\nalice,one.example.com,{plan},{given}\nalice,two.example.com,{plan},\n"
        )
    };
    write(&database, "domains.csv", csv("free"));
    cli(&database, &IMPORT_ARGS[..6], "").good();
    std::fs::remove_file(database.dir.path().join("secrets.csv")).expect("the file of the first load");
    let (lines, _) = report(cli(&database, &IMPORT_ARGS[..6], ""));
    assert!(lines.is_empty(), "{lines:?}");
    write(&database, "domains.csv", csv("premium"));
    let (lines, sums) = report(cli(&database, &IMPORT_ARGS[..6], ""));
    assert_eq!(sums["already"], json!(2));
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        let reason = text(&line["reason"]);
        assert!(reason.contains("free") && reason.contains("premium"), "{reason}");
        assert_eq!(line["outcome"], json!("different"));
    }

    let export = [user(1, "bob@example.com"), domain(7, "bob.example.com", 1), end(1, 1)].join("\n");
    imported(&database, &export);
    let (lines, _) = imported(&database, &export.replace("\"free\"", "\"premium\""));
    let reason = text(&lines[0]["reason"]);
    assert!(reason.contains("free") && reason.contains("premium"), "{reason}");
}

#[test]
fn import__byte_order_mark() {
    let database = Database::new();
    imported(&database, &format!("\u{feff}{}\n{}", user(1, "alice@example.com"), end(1, 0)));
    write(&database, "domains.csv", "\u{feff}username,host,type\nalice@example.com,shop.example.com,free\n");
    report(cli(&database, &IMPORT_ARGS[..6], ""));
    // Elsewhere than at the start of the file, the mark is an error.
    write(&database, "export", format!("{}\n\u{feff}{}", user(2, "bob@example.com"), end(1, 0)));
    ends(&cli(&database, &["import", "nodebird", "export"], ""), 65, "line 2");
}
