//! Who can grant a plan, and the number of domains of a user.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use gatebird::app::InForce;

use super::exchange;
use crate::binary::{Outcome, gatebird, run};
use crate::harness::{Domain, Gate, Reply, User, caller, concurrently, json};

fn register(gate: &Gate, user: &User, host: &str, plan: &str) -> Reply {
    gate.post("/v1/domains").token(&user.token).json(&json!({"host": host, "type": plan})).send()
}

fn choose(gate: &Gate, user: &User, domain: &Domain, plan: &str) -> Reply {
    gate.patch(&format!("/v1/domains/{}", domain.id)).token(&user.token).json(&json!({"type": plan})).send()
}

fn grant(gate: &Gate, id: &str, plan: &str) -> Outcome {
    run(&mut gatebird(&gate.database, &["domain", "plan", id, plan, "--json"], &[]), "")
}

/// Makes the changes of the command line known to this server.
fn follow(gate: &Gate) {
    actix_web::rt::System::new()
        .block_on(gate.app.write(caller(), InForce::BeforeAnswer, |_| Ok(gatebird::db::audit::Audited::nothing(()))))
        .expect("the database answers");
}

#[test]
fn premium_plan__granted_by_the_operator_only() {
    let gate = Gate::with(&[("SELF_SERVICE_PREMIUM", "false"), ("LIMIT_FREE", "1/h")]);
    let user = gate.sign_up("alice");
    let refused = register(&gate, &user, "gold.example.com", "premium");
    assert_eq!(refused.refused(403, "plan")["error"], "access_denied");
    let domain = gate.register(&user, "shop.example.com");
    choose(&gate, &user, &domain, "premium").refused(403, "plan");
    choose(&gate, &user, &domain, "gold").refused(400, "invalid_field");
    choose(&gate, &user, &domain, "free").expect(200);
    let korean = gate.patch(&format!("/v1/domains/{}", domain.id)).token(&user.token).header("Accept-Language", "ko");
    let korean = korean.json(&json!({"type": "premium"})).send().refused(403, "plan");
    assert_eq!(
        korean["message"],
        "운영자만 부여할 수 있는 요금제입니다. 다른 요금제를 선택한 뒤 운영자에게 요청하세요"
    );
    exchange(&gate, &domain).send().expect(200);
    exchange(&gate, &domain).send().refused(429, "plan");

    assert_eq!(grant(&gate, &domain.id, "premium").json(), json!({"id": domain.id, "type": "premium"}));
    follow(&gate);
    exchange(&gate, &domain).send().expect(200);
    exchange(&gate, &domain).send().expect(200);
    assert_eq!(
        choose(&gate, &user, &domain, "premium").expect(200)["payload"]["type"],
        "premium",
        "the domain already has that plan"
    );
    choose(&gate, &user, &domain, "free").expect(200);
    exchange(&gate, &domain).send().refused(429, "plan");
    choose(&gate, &user, &domain, "premium").refused(403, "plan");
    // Another tenant's domain is not found, whatever the plan.
    let mallory = gate.sign_up("mallory");
    choose(&gate, &mallory, &domain, "premium").refused(404, "not_found");

    let gate = Gate::start();
    let user = gate.sign_up("alice");
    register(&gate, &user, "gold.example.com", "premium").expect(201);
    let domain = gate.register(&user, "shop.example.com");
    choose(&gate, &user, &domain, "premium").expect(200);
}

#[test]
fn domain_plan_command__leaves_an_audit_row() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    for (id, plan, says) in [
        (domain.id.as_str(), "gold", "type must be one of free, premium"),
        ("dom_0000000000000000000000", "free", "dom_"),
        ("x", "free", "\"x\""),
    ] {
        let outcome = grant(&gate, id, plan);
        assert!(outcome.code == Some(64) && outcome.stderr.contains(says), "{outcome:?}");
    }
    grant(&gate, &domain.id, "premium").json();
    let row = gate.app.db.read_now(last_row).expect("the database answers");
    assert_eq!((row.actor.as_str(), row.action.as_str()), ("operator", "domain.changed"));
    assert_eq!((row.target, row.tenant), (domain.id, Some(user.id)));
    assert_eq!(row.detail.as_deref(), Some("{\"type\":\"premium\"}"));
}

/// A node of the previous version may run beside one that knows more plans.
#[test]
fn plan__of_a_newer_version_is_treated_as_free() {
    let gate = Gate::with(&[("LIMIT_FREE", "1/h"), ("LIMIT_PREMIUM", "off")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let execute = |sql: &str| {
        let changed = gate.app.db.change_now(|conn| Ok(conn.batch_execute(sql)?), |_| Ok(()));
        changed.expect("the database answers");
        follow(&gate);
    };
    let shown = |gate: &Gate| {
        let domain = gate.get(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
        domain["payload"]["type"].clone()
    };
    execute("UPDATE domains SET plan = 'enterprise'");
    exchange(&gate, &domain).send().expect(200);
    exchange(&gate, &domain).send().refused(429, "plan");
    assert_eq!(shown(&gate), "free");
    choose(&gate, &user, &domain, "enterprise").refused(400, "invalid_field");
    // Another change keeps the plan.
    run(&mut gatebird(&gate.database, &["domain", "allow", &domain.id, "--all"], &[]), "").good();
    let stored = || {
        use gatebird::db::schema::domains;
        let plans = gate.app.db.read_now(|conn| Ok(domains::table.select(domains::plan).load::<String>(conn)?));
        plans.expect("the database answers")
    };
    assert_eq!(stored(), ["enterprise"]);
    // The owner's choice replaces it, even by the plan as which it is shown.
    choose(&gate, &user, &domain, "free").expect(200);
    assert_eq!(stored(), ["free"]);
    choose(&gate, &user, &domain, "premium").expect(200);
    exchange(&gate, &domain).send().expect(200);
    exchange(&gate, &domain).send().expect(200);

    execute("UPDATE domains SET plan = 'enterprise'");
    let gate = gate.restart(&[]);
    assert_eq!(shown(&gate), "free");
}

fn last_row(conn: &mut gatebird::db::Conn) -> gatebird::error::Result<gatebird::db::audit::AuditRow> {
    use gatebird::db::{audit::AuditRow, schema::audit};
    Ok(audit::table.order(audit::id.desc()).select(AuditRow::as_select()).first(conn)?)
}

#[test]
fn domain_quota__exact_under_concurrency() {
    let gate = Gate::with(&[("DOMAINS_PER_USER", "3")]);
    let user = gate.sign_up("alice");
    let numbers = std::sync::atomic::AtomicUsize::new(0);
    let next = || numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let replies = concurrently(50, || register(&gate, &user, &format!("n{}.example.com", next()), "free"));
    // On a slow machine some may be answered 503.
    for reply in replies.iter().filter(|reply| ![201, 503].contains(&reply.status)) {
        assert_eq!(reply.refused(403, "quota")["error"], "access_denied");
    }
    let made: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert_eq!(made.len(), 3);
    let body = json!({"host": "more.example.com", "type": "free"});
    let korean = gate.post("/v1/domains").token(&user.token).json(&body).header("Accept-Language", "ko").send();
    let korean = korean.refused(403, "quota");
    assert_eq!(korean["message"], "등록할 수 있는 도메인 수를 모두 사용했습니다. 먼저 도메인을 삭제하세요");

    // Others have their own quota, a deletion makes room, and the operator is not limited.
    let other = gate.sign_up("bob");
    register(&gate, &other, "more.example.com", "free").expect(201);
    let id = made[0].json()["payload"]["id"].as_str().expect("an id").to_owned();
    gate.delete(&format!("/v1/domains/{id}")).token(&user.token).send().expect(200);
    register(&gate, &user, "again.example.com", "free").expect(201);
    register(&gate, &user, "more.example.com", "free").refused(403, "quota");
    let add = ["domain", "add", "by-hand.example.com", "--user", "alice"];
    run(&mut gatebird(&gate.database, &add, &[]), "").good();
    assert_eq!(
        gate.get("/v1/domains").token(&user.token).send().expect(200)["payload"].as_array().map(Vec::len),
        Some(4)
    );

    for (setting, status) in [("0", 403), ("1", 201), ("off", 201)] {
        let gate = Gate::with(&[("DOMAINS_PER_USER", setting)]);
        let user = gate.sign_up("alice");
        assert_eq!(register(&gate, &user, "shop.example.com", "free").status, status, "{setting}");
    }
}
