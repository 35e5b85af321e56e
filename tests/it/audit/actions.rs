//! Each change leaves exactly one row, and a request that changes nothing leaves none. A route or command that is
//! missing in these tables fails the test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use gatebird::db::audit::{AuditRow, list_from};

use super::{rows, verified};
use crate::binary::{Child, gatebird, run, text};
use crate::harness::{self, Database, Gate, PASSWORD, Value};
use crate::matrix::Cast;
use crate::openapi::Document;

/// Operation, caller, action, target and detail. The action is empty where nothing changes. `{made}` is the id of the
/// new thing.
#[rustfmt::skip]
const ROUTES: &[(&str, &str, &str, &str, &str)] = &[
    ("POST /token",             "client", "",                      "", ""),
    ("POST /v1/token",          "client", "",                      "", ""),
    ("POST /introspect",        "client", "",                      "", ""),
    ("POST /revoke",            "client", "token.revoked",         "{jti}", ""),
    ("POST /v1/signup",         "anyone", "user.signed_up",        "usr_{made}", ""),
    ("POST /v1/signin",         "anyone", "",                      "", ""),
    ("POST /v1/signout",        "user",   "user.signed_out",       "{user}", ""),
    ("PUT /v1/me/password",     "user",   "user.password_changed", "{user}", ""),
    ("DELETE /v1/me",           "user",   "user.deleted",          "{user}", ""),
    ("POST /v1/domains",        "user",   "domain.registered",     "{made}", r#"{"host":"new{n}.example.com","type":"premium"}"#),
    ("PATCH /v1/domains/{id}",  "user",   "domain.changed",        "{domain}", r#"{"type":"premium"}"#),
    ("DELETE /v1/domains/{id}", "user",   "domain.deleted",        "{domain}", ""),
    ("POST /v1/domains/{id}/secrets", "user", "secret.rotated",    "{domain}", r#"{"graceSeconds":60,"secret":{made}}"#),
    ("DELETE /v1/domains/{id}/secrets/{secretId}", "user", "secret.retired", "{domain}", r#"{"secret":{secret}}"#),
    ("POST /v1/posts",          "user",   "post.created",          "{made}", ""),
    ("POST /v1/posts",          "client", "post.created",          "{made}", ""),
    ("PUT /v1/posts/{id}",      "user",   "post.changed",          "{post}", ""),
    ("PUT /v1/posts/{id}",      "client", "post.changed",          "{post}", ""),
    ("DELETE /v1/posts/{id}",   "user",   "post.deleted",          "{post}", ""),
    ("DELETE /v1/posts/{id}",   "client", "post.deleted",          "{post}", ""),
];

/// Everything in a row except its time and its place in the chain.
fn content(row: &AuditRow) -> [String; 6] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let tenant = row.tenant.map(|tenant| tenant.to_string());
    [row.actor.clone(), text(&row.address), text(&tenant), row.action.clone(), row.target.clone(), text(&row.detail)]
}

#[test]
fn audit_row__every_change_over_http_leaves_one() {
    let gate = Gate::start();
    let mut secrets = vec![PASSWORD.to_owned(), format!("other {PASSWORD}"), "gb1$".to_owned()];
    for (number, (operation, by, action, target, detail)) in ROUTES.iter().enumerate() {
        let cast = Cast::new(&gate, number);
        let request = |token: bool| match (*by, token) {
            ("user", true) => cast.request(&gate, operation, number).token(&cast.user.token),
            ("client", true) if operation.contains("/posts") => {
                cast.request(&gate, operation, number).token(&cast.client)
            }
            _ => cast.request(&gate, operation, number),
        };
        let before = rows(&gate).len();
        // A refused request changes nothing.
        if operation.contains("/v1/me") || operation.contains("/domains") || operation.contains("/posts") {
            assert_eq!(request(false).send().status, 401, "{operation}");
            assert_eq!(rows(&gate).len(), before, "{operation} without a token left a row");
        }
        let reply = request(true).send();
        assert!(reply.status < 300, "{operation} {}", reply.text());
        let rows = rows(&gate).split_off(before);

        let made = reply.json()["payload"]["id"].to_string();
        let user = format!("usr_{}", cast.user.id);
        let filled = target
            .replace("{made}", made.trim_matches('"'))
            .replace("{user}", &user)
            .replace("{domain}", &cast.domain.id)
            .replace("{post}", &cast.post)
            .replace("{jti}", &text(&harness::parts(&cast.client).1["jti"]));
        let actor = match *by {
            "user" => user,
            "client" => cast.domain.id.clone(),
            other => other.to_owned(),
        };
        let tenant = if *action == "user.signed_up" { made.clone() } else { cast.user.id.to_string() };
        let detail =
            detail.replace("{n}", &number.to_string()).replace("{made}", &made).replace("{secret}", &cast.secret);
        let expected = [actor, "127.0.0.1".to_owned(), tenant, (*action).to_owned(), filled, detail];
        let expected: Vec<_> = Some(expected).into_iter().filter(|_| !action.is_empty()).collect();
        assert_eq!(rows.iter().map(content).collect::<Vec<_>>(), expected, "{operation} by {by}");
        let now = gate.clock.now();
        assert!(rows.iter().all(|row| (now - 30..=now).contains(&row.at)), "{operation}");
        secrets.extend([cast.domain.secret, cast.client, cast.user.token]);
    }
    let log: String = rows(&gate).iter().map(|row| content(row).join("\n")).collect();
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
    verified(&gate, None).expect("an intact chain");
}

#[test]
fn audit_row__every_writing_route_is_listed() {
    let document = Document::of(&Gate::start());
    let served: BTreeSet<String> =
        document.operations().map(|(name, _)| name).filter(|name| !name.starts_with("GET ")).collect();
    let mut listed: BTreeSet<String> = ROUTES.iter().map(|(operation, ..)| operation.to_string()).collect();
    // It needs a DNS server; the tests of `proof` check its row.
    listed.insert("POST /v1/domains/{id}/verification".to_owned());
    assert_eq!(listed, served, "left: listed here; right: served");
}

/// The action of a row, the beginning of its target, and a part of its detail.
type ExpectedRow = (&'static str, &'static str, &'static str);

/// Commands of an operator, run in this order on one database, and the rows that each leaves. `{domain}` is alice's and
/// `{kid}` is the first key's id.
#[rustfmt::skip]
const COMMANDS: &[(&str, &[ExpectedRow])] = &[
    ("user add bob",                      &[("user.added", "usr_", "")]),
    ("user list",                         &[]),
    ("user suspend alice",                &[("user.suspended", "{alice}", "")]),
    ("user resume alice",                 &[("user.resumed", "{alice}", "")]),
    ("domain add d.example.com --user alice --scopes posts:read",
        &[("domain.registered", "dom_", r#"{"host":"d.example.com","scopes":"posts:read","type":"free"}"#)]),
    ("domain list",                       &[]),
    ("domain suspend {domain}",           &[("domain.suspended", "{domain}", "")]),
    ("domain resume {domain}",            &[("domain.resumed", "{domain}", "")]),
    ("domain allow {domain} --scopes posts:read",
        &[("domain.allowed", "{domain}", r#"{"audiences":null,"scopes":"posts:read"}"#)]),
    ("domain rotate {domain} --grace 1h", &[("secret.rotated", "{domain}", r#"{"graceSeconds":3600,"#)]),
    ("domain rotate {domain} --grace 0",  &[("secret.rotated", "{domain}", r#"{"graceSeconds":0,"#)]),
    ("domain plan {domain} premium",      &[("domain.changed", "{domain}", "premium")]),
    ("user password alice",               &[("user.password_changed", "{alice}", "")]),
    ("version-use",                       &[]),
    ("key list",                          &[]),
    ("key rotate",                        &[("key.made", "", "signsFrom")]),
    ("key rotate",                        &[]),
    // The next key takes over the time of the deleted one.
    ("key retire {kid}",                  &[("key.changed", "", "signsFrom"), ("key.deleted", "{kid}", "")]),
    ("key replace-all",                   &[("key.made", "", "signsFrom"), ("key.deleted", "", ""),
        ("epoch.renewed", "tokens", "keys replaced")]),
    ("restore --after",                   &[("key.made", "", "signsFrom"), ("key.deleted", "", ""),
        ("epoch.renewed", "tokens", "restored")]),
    ("audit list",                        &[]),
    ("audit verify",                      &[]),
    ("audit export",                      &[]),
    ("migrate",                           &[]),
    ("check-config",                      &[]),
];

#[test]
fn audit_row__every_change_by_command_leaves_its_rows() {
    let database = Database::new();
    let algorithm = [("JWT_ALGORITHM", "EdDSA")];
    let child = Child::start(&database, &algorithm);
    let (alice, domain, _) = child.client.tenant("alice");
    drop(child);
    let db = database.open();
    let rows = || db.read_now(|conn| Ok(list_from(conn, i64::MIN, 1000)?)).expect("the database answers");
    let kid = rows().iter().find(|row| row.action == "key.made").expect("the first key").target.clone();
    let mut secrets = vec![domain.secret.clone()];
    for (command, expected) in COMMANDS {
        let before = rows().len();
        let fill = |text: &str| {
            let text = text.replace("{domain}", &domain.id).replace("{kid}", &kid);
            text.replace("{alice}", &format!("usr_{}", alice.id))
        };
        let command = fill(command);
        let args: Vec<&str> = command.split(' ').collect();
        let out = run(&mut gatebird(&database, &args, &algorithm), PASSWORD).good();
        secrets.extend(out.split_whitespace().filter(|word| word.starts_with("gbs_")).map(str::to_owned));
        let rows = rows().split_off(before);
        assert_eq!(rows.len(), expected.len(), "{command}: {rows:?}");
        for (row, (action, target, detail)) in rows.iter().zip(*expected) {
            let tenant = match action.split('.').next() {
                Some("key" | "epoch") => None,
                _ if command.contains("bob") => row.tenant.filter(|bob| *bob != alice.id),
                _ => Some(alice.id),
            };
            let about = (row.actor.as_str(), row.address.as_ref(), row.tenant, row.action.as_str());
            assert_eq!(about, ("operator", None, tenant, *action), "{command}");
            assert!(row.target.starts_with(&fill(target)), "{command}: {row:?}");
            assert!(row.detail.as_deref().unwrap_or_default().contains(detail), "{command}: {row:?}");
        }
    }
    let log: String = rows().iter().map(|row| content(row).join("\n")).collect();
    assert!(secrets.len() > 3 && !secrets.iter().any(|secret| log.contains(secret)), "a secret is in the log");
}

/// Every command that the command line offers, such as `domain add`.
pub fn offered_commands() -> BTreeSet<String> {
    let database = Database::sqlite();
    let groups = |words: &[&str]| -> Vec<String> {
        let help = run(&mut gatebird(&database, &[words, &["--help"]].concat(), &[]), "").good();
        let commands = help.split("Commands:").nth(1).map(|rest| rest.split("Options:").next().unwrap_or_default());
        let lines =
            commands.unwrap_or_default().lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        lines
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect()
    };
    let mut offered = BTreeSet::new();
    for group in groups(&[]) {
        match groups(&[&group]) {
            single if single.is_empty() => drop(offered.insert(group)),
            several => offered.extend(several.iter().map(|name| format!("{group} {name}"))),
        }
    }
    offered
}

#[test]
fn audit_row__every_command_is_listed() {
    let mut listed: BTreeSet<String> = COMMANDS.iter().map(|(command, _)| command_of(command)).collect();
    // The tests of `archive`, `import` and `proof` check their rows.
    listed.extend(["audit archive", "import domains", "import nodebird", "domain unverify"].map(str::to_owned));
    let mut offered = offered_commands();
    // It serves; the other table has the changes of a server.
    offered.remove("serve");
    assert_eq!(listed, offered, "left: listed here; right: offered");
}

/// The name of a command: `domain add` of `domain add d.example.com ...`, `restore` of `restore --after`.
pub fn command_of(text: &str) -> String {
    text.split(' ').take(2).filter(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ")
}

/// Code that writes to the database directly could forget the row. The table lists such code and counts its calls.
#[test]
fn audit_row__direct_writes_are_listed() {
    const DIRECT: &[(&str, usize)] = &[
        // The start, and the end of an epoch.
        ("src/app/mod.rs", 2),
        // `App::write` and `App::write_now`, which record their event.
        ("src/app/write.rs", 3),
        // Records itself.
        ("src/app/keys.rs", 1),
        ("src/app/leaks.rs", 1),
        // Failed sign-ins, which are rows themselves; usage and the last use of secrets; used assertions.
        ("src/app/flush.rs", 3),
        // The time of the last check, and since when the challenge has been missing.
        ("src/app/verification.rs", 3),
        // The data of deleted accounts, and the usage of deleted domains.
        ("src/app/removal.rs", 2),
        // The trusted time.
        ("src/app/time.rs", 1),
        // Deletion of expired rows.
        ("src/app/maintenance.rs", 3),
        // `Operator::change`, which records its event; and the deletion of archived rows.
        ("src/cli/operator.rs", 2),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("UTF-8");
            let ways = ["db.write(", "db.change(", "db.write_now(", "db.change_now("];
            let times = ways.iter().map(|way| text.matches(way).count()).sum();
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            if times > 0 && !name.starts_with("src/db/") {
                found.push((name, times));
            }
        }
    }
    found.sort();
    let mut expected: Vec<(String, usize)> = DIRECT.iter().map(|(name, times)| (name.to_string(), *times)).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// The owner of a domain sees what the operator did to it.
#[test]
fn audit_log__owner_sees_what_the_operator_did() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let (user, domain, _) = child.client.tenant("alice");
    run(&mut gatebird(&database, &["domain", "suspend", &domain.id], &[]), "").good();
    let seen: Value = child.client.get("/v1/audit?limit=1", &user.token).expect(200);
    let event = &seen["payload"][0];
    assert_eq!((text(&event["actor"]), text(&event["action"])), ("operator".into(), "domain.suspended".into()));
    assert!(event.get("address").is_none(), "{event}");
}
