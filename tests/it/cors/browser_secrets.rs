//! Client secrets that a browser sends: recorded once for the owner, and refused by setting.

use diesel::prelude::*;
use gatebird::db::Conn;
use gatebird::db::audit::AuditRow;
use gatebird::db::schema::{audit, secret_uses, secrets};

use super::{HOST, OWN, from, readable, tenant};
use crate::harness::{Domain, Gate, Request, User, json};
use crate::oauth::{back_in_reach, out_of_reach};

const BROWSER: [(&str, &str); 2] = [("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "cross-site")];

fn by_browser(request: Request) -> Request {
    BROWSER.iter().fold(request, |request, (name, value)| request.header(name, value))
}

fn exchange(gate: &Gate, domain: &Domain) -> Request {
    gate.post("/token").json(&json!({"clientSecret": domain.secret}))
}

/// The flags in the database, and the audit rows about them.
fn leak_records(gate: &Gate) -> (Vec<(i64, Option<i64>)>, Vec<AuditRow>) {
    gate.app.write_leaks().expect("the database answers");
    let read = |conn: &mut Conn| {
        let flags = secret_uses::table.filter(secret_uses::leaked_at.is_not_null());
        let flags = flags.select((secret_uses::used_at, secret_uses::leaked_at)).load(conn)?;
        let rows =
            audit::table.filter(audit::action.eq("secret.leaked")).order(audit::id).select(AuditRow::as_select());
        Ok((flags, rows.load(conn)?))
    };
    gate.app.db.read_now(read).expect("the database answers")
}

fn count(gate: &Gate) -> usize {
    let (flags, rows) = leak_records(gate);
    assert_eq!(flags.len(), rows.len());
    rows.len()
}

fn number_of(gate: &Gate, domain: &Domain) -> i64 {
    let id = domain.id.clone();
    let find = move |conn: &mut Conn| {
        let ids = secrets::table.select((secrets::id, secrets::domain_id)).load::<(i64, String)>(conn)?;
        Ok(ids.into_iter().find(|(_, of)| *of == id).expect("a secret").0)
    };
    gate.app.db.read_now(find).expect("the database answers")
}

#[test]
fn browser_secret__browser_is_recognised_by_its_headers() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let rows: &[(&[(&str, &str)], bool)] = &[
        (&[], false),
        // The headers of `fetch` in Node.js.
        (&[("Sec-Fetch-Mode", "cors")], false),
        (&[("Origin", OWN)], false),
        (&[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Dest", "empty")], false),
        (&[("User-Agent", "Mozilla/5.0"), ("Referer", "https://shop.example.com/"), ("Cookie", "a=b")], false),
        (&[("Sec-Fetch-Mode", "cors"), ("Origin", OWN)], true),
        (&[("Sec-Fetch-Mode", "cors"), ("Origin", "null")], true),
        (&[("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "same-origin")], true),
        (&[("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "empty")], true),
        (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-site", "none")], true),
        (&[("Sec-Fetch-Mode", ""), ("Sec-Fetch-Site", "")], true),
    ];
    for (number, (headers, browser)) in rows.iter().enumerate() {
        let domain = gate.register(&user, &format!("shop{number}.example.com"));
        let before = count(&gate);
        let request =
            headers.iter().fold(exchange(&gate, &domain), |request, (name, value)| request.header(name, value));
        request.send().expect(200);
        assert_eq!(count(&gate) - before, usize::from(*browser), "{headers:?}");
    }
}

#[test]
fn browser_secret__noticed_at_every_endpoint() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let form = |domain: &Domain, rest: &str| format!("client_id={}&client_secret={}{rest}", domain.id, domain.secret);
    const GRANT: &str = "&grant_type=client_credentials";
    type Way<'a> = &'a dyn Fn(&Domain) -> Request;
    let ways: [(&str, Way<'_>); 7] = [
        ("JSON", &|domain| exchange(&gate, domain)),
        ("under /v1", &|domain| gate.post("/v1/token").json(&json!({"clientSecret": domain.secret}))),
        ("a form", &|domain| gate.post("/token").form(form(domain, GRANT))),
        ("Basic", &|domain| gate.post("/token").basic(&domain.id, &domain.secret).form(&GRANT[1..])),
        ("introspection", &|domain| gate.post("/introspect").form(form(domain, "&token=x"))),
        ("revocation", &|domain| gate.post("/revoke").form(form(domain, "&token=x"))),
        ("an error after it", &|domain| gate.post("/token").form(form(domain, "&grant_type=password"))),
    ];
    for (number, (name, way)) in ways.into_iter().enumerate() {
        let domain = gate.register(&user, &format!("shop{number}.example.com"));
        way(&domain).send();
        assert_eq!(count(&gate), number, "{name} by a server");
        by_browser(way(&domain)).send();
        assert_eq!(count(&gate), number + 1, "{name} by a browser");
    }
    let before = count(&gate);
    let domain = gate.register(&user, "other.example.com");
    // A text that is no secret of that client is not recorded.
    by_browser(gate.post("/token").json(&json!({"clientSecret": "x"}))).send().refused(401, "malformed_secret");
    let foreign = format!("client_id={}&client_secret={}{GRANT}", "dom_0123456789ABCDEFGHIJkl", domain.secret);
    by_browser(gate.post("/token").form(foreign)).send().refused(401, "unknown_client");
    // A token in a browser is its purpose.
    by_browser(gate.get("/v1/test").token(gate.access_token(&domain))).send().expect(200);
    assert_eq!(count(&gate), before);
}

fn leaked(gate: &Gate) -> (User, Domain, i64) {
    let (user, domain, _) = tenant(gate, "alice", HOST);
    let at = gate.clock.now();
    by_browser(exchange(gate, &domain)).send().expect(200);
    (user, domain, at)
}

#[test]
fn browser_secret__recorded_once_with_the_first_time() {
    let gate = Gate::start();
    let (user, domain, at) = leaked(&gate);
    for _ in 0..20 {
        by_browser(exchange(&gate, &domain)).send().expect(200);
    }
    let (flags, rows) = leak_records(&gate);
    let [(used_at, Some(leaked_at))] = flags[..] else { panic!("{flags:?}") };
    assert!((at..at + 5).contains(&leaked_at) && used_at == leaked_at, "{flags:?} after {at}");
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.at, row.tenant, row.actor.as_str()), (leaked_at, Some(user.id), domain.id.as_str()));
    assert_eq!(row.target, number_of(&gate, &domain).to_string());
    assert_eq!(row.address.as_deref(), Some("127.0.0.1"));
    assert_eq!(row.detail.as_deref(), Some(json!({"domain": domain.id}).to_string().as_str()));
    assert!(!format!("{row:?}").contains(&domain.secret));

    gate.clock.advance(600);
    by_browser(exchange(&gate, &domain)).send().expect(200);
    assert_eq!(leak_records(&gate).0, flags);
    // A new process finds the flag in the database.
    let gate = gate.restart(&[]);
    by_browser(exchange(&gate, &domain)).send().expect(200);
    let (again, rows) = leak_records(&gate);
    assert_eq!((again, rows.len()), (flags, 1));
    // Each secret is recorded separately.
    let second = gate.register(&user, "second.example.com");
    by_browser(exchange(&gate, &second)).send().expect(200);
    assert_eq!(count(&gate), 2);
}

#[test]
fn browser_secret__earlier_use_of_the_secret_is_kept() {
    let gate = Gate::start();
    let (_, domain, _) = tenant(&gate, "alice", HOST);
    let number = number_of(&gate, &domain);
    let used = (secret_uses::secret_id.eq(number), secret_uses::used_at.eq(7), secret_uses::used_from.eq("192.0.2.1"));
    let insert = |conn: &mut Conn| Ok(diesel::insert_into(secret_uses::table).values(used).execute(conn)?);
    gate.app.db.write_now(insert).expect("the database answers");
    by_browser(exchange(&gate, &domain)).send().expect(200);
    let (flags, rows) = leak_records(&gate);
    assert!(matches!(flags[..], [(7, Some(_))]) && rows.len() == 1, "{flags:?}");
}

#[test]
fn browser_secret__secret_deleted_before_the_write() {
    let gate = Gate::start();
    let (user, domain, _) = leaked(&gate);
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
    let second = gate.register(&user, "second.example.com");
    by_browser(exchange(&gate, &second)).send().expect(200);
    let (_, rows) = leak_records(&gate);
    let targets: Vec<_> = rows.iter().map(|row| row.target.clone()).collect();
    // The background thread may have been quicker than the deletion.
    assert_eq!(targets.last(), Some(&number_of(&gate, &second).to_string()));
}

#[test]
fn browser_secret__database_outage_loses_nothing_and_delays_no_token() {
    let gate = Gate::start();
    let (_, domain, _) = tenant(&gate, "alice", HOST);
    out_of_reach(&gate);
    by_browser(exchange(&gate, &domain)).send().expect(200);
    for _ in 0..2 {
        gate.app.flush().expect_err("the database is out of reach");
    }
    back_in_reach(&gate);
    // Waits for a flush of the server itself, which may hold the leak.
    gate.app.flush().expect("the database answers");
    assert_eq!(count(&gate), 1);
}

#[test]
fn browser_secret__refused_by_setting() {
    let gate = Gate::with(&[("BROWSER_SECRETS", "refuse"), ("LIMIT_FREE", "3/h")]);
    let (_, domain, _) = tenant(&gate, "alice", HOST);
    let form = format!("client_id={}&client_secret={}&token=x", domain.id, domain.secret);
    for _ in 0..5 {
        for request in
            [exchange(&gate, &domain), gate.post("/introspect").form(&form), gate.post("/revoke").form(&form)]
        {
            let reply = from(by_browser(request), OWN).header("Accept-Language", "ko").send();
            let body = reply.refused(400, "browser");
            assert_eq!(body["error"], "unauthorized_client");
            assert!(body["error_description"].as_str().is_some_and(|text| text.contains("your server")), "{body}");
            assert!(body["message"].as_str().is_some_and(|text| text.contains("서버에서")), "{body}");
            assert!(readable(&reply, OWN), "its own page reads why");
            assert!(!reply.text().contains(&domain.secret) && !reply.text().contains("eyJ"));
        }
    }
    by_browser(gate.post("/token").json(&json!({"clientSecret": "x"}))).send().refused(401, "malformed_secret");
    assert_eq!(count(&gate), 1, "a refused use is recorded, once");
    // Refusals spend nothing of the limit, and the server's own requests still work.
    for _ in 0..2 {
        exchange(&gate, &domain).header("Sec-Fetch-Mode", "cors").send().expect(200);
    }
    exchange(&gate, &domain).send().refused(429, "plan");
}
