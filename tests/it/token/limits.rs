//! The plan's limit: an exact number of requests, spent by the domain only.

use super::{GRANT, invalid_client};
use crate::harness::{Domain, Gate, JWT_SECRET, Reply, json, mint_with, resigned};

fn exchange(gate: &Gate, domain: &Domain) -> Reply {
    gate.post("/token").json(&json!({"clientSecret": domain.secret})).send()
}

/// How many of that many consecutive exchanges pass.
fn passed(gate: &Gate, domain: &Domain, of: usize) -> usize {
    (0..of).filter(|_| exchange(gate, domain).status == 200).count()
}

fn set_plan(gate: &Gate, owner: &str, domain: &Domain, plan: &str) {
    let path = format!("/v1/domains/{}", domain.id);
    gate.patch(&path).token(owner).json(&json!({"type": plan})).send().expect(200);
}

#[test]
fn plan_limit__exact_under_concurrency() {
    let gate = Gate::with(&[("LIMIT_FREE", "10/m")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(|| exchange(&gate, &domain))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let (good, over): (Vec<&Reply>, Vec<&Reply>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!(good.len(), 10);
    for reply in over {
        assert_eq!(reply.refused(429, "plan")["error"], "rate_limited");
        let wait = reply.header("retry-after").expect("Retry-After");
        assert!(wait.parse::<u64>().is_ok_and(|seconds| (1..=6).contains(&seconds)), "{wait}");
    }
    let korean =
        gate.post("/token").json(&json!({"clientSecret": domain.secret})).header("Accept-Language", "ko").send();
    let body = korean.refused(429, "plan");
    assert_eq!(body["error"], "rate_limited");
    let begins = |member: &str, with: &str| body[member].as_str().is_some_and(|text| text.starts_with(with));
    assert!(begins("message", "도메인 요금제의 요청 한도를 초과했습니다"), "{body}");
    assert!(begins("error_description", "The domain's plan allows no more requests now"), "{body}");
    // Calls with the domain's token count, too; those of the owner and of other domains do not.
    gate.get("/v1/me").token(&user.token).send().expect(200);
    let other = gate.register(&user, "other.example.com");
    assert_eq!(passed(&gate, &other, 12), 10);
}

#[test]
fn plan_limit__shared_by_issuing_and_calling() {
    let gate = Gate::with(&[("LIMIT_FREE", "10/h")]);
    let (_, domain, token) = gate.tenant("alice");
    for _ in 0..5 {
        gate.get("/v1/test").token(&token).send().expect(200);
    }
    assert_eq!(passed(&gate, &domain, 10), 4, "the exchange used one request, the calls five");
    gate.get("/v1/test").token(&token).send().refused(429, "plan");
    gate.get("/v1/posts/my").token(&token).send().refused(429, "plan");
    gate.post("/v1/token").json(&json!({"clientSecret": domain.secret})).send().refused(429, "plan");
    for path in ["/token?x=1", "/token", "/v1/token"] {
        let form = format!("{GRANT}&client_id={}&client_secret={}", domain.id, domain.secret);
        gate.post(path).form(form).send().refused(429, "plan");
        gate.post(path).form(GRANT).basic(&domain.id, &domain.secret).send().refused(429, "plan");
    }
}

#[test]
fn plan_limit__spent_by_the_domain_only() {
    let gate = Gate::with(&[("LIMIT_FREE", "10/h"), ("LIMIT_PREMIUM", "off")]);
    let (user, domain, _) = gate.tenant("alice");
    set_plan(&gate, &user.token, &domain, "premium");
    let token = gate.access_token(&domain);
    let domain = gate.register(&user, "fresh.example.com");
    let (_, mallorys, _) = gate.tenant("mallory");
    let expired = |claims: &mut crate::harness::Value| {
        claims["sub"] = domain.id.clone().into();
        claims["client_id"] = domain.id.clone().into();
        for claim in ["exp", "iat"] {
            claims[claim] = (claims[claim].as_i64().expect("a number") - 3600).into();
        }
    };
    let stale = resigned(&token, |_, claims| {
        claims["sub"] = domain.id.clone().into();
        claims["client_id"] = domain.id.clone().into();
        claims["gen"] = json!(-1);
    });
    let expired = resigned(&token, |_, claims| expired(claims));
    let forged = mint_with("{\"alg\":\"none\"}", &json!({"sub": domain.id}).to_string(), JWT_SECRET.as_bytes());
    for _ in 0..5 {
        gate.get("/v1/test").token(&forged).send().refused(401, "invalid");
        gate.get("/v1/test").token(&stale).send().refused(401, "revoked");
        gate.get("/v1/test").token(&expired).send().refused(419, "expired");
        let wrong = gate.post("/token").form(GRANT).basic(&domain.id, &mallorys.secret).send();
        invalid_client("another's secret for this client", &wrong);
        let wrong = format!("{GRANT}&client_id={}&client_secret=wrong", domain.id);
        invalid_client("a wrong secret", &gate.post("/token").form(wrong).send());
        let named = format!("{GRANT}&client_id={}", domain.id);
        invalid_client("no secret", &gate.post("/token").form(named).send());
        let both = gate.post("/token").json(&json!({"clientSecret": domain.secret})).basic("x", "y").send();
        both.refused(400, "malformed");
    }
    assert_eq!(passed(&gate, &domain, 15), 10);
}

#[test]
fn plan_limit__change_of_plan_keeps_what_was_spent() {
    let gate = Gate::with(&[("LIMIT_FREE", "10/h"), ("LIMIT_PREMIUM", "100/h")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    assert_eq!(passed(&gate, &domain, 5), 5);
    set_plan(&gate, &user.token, &domain, "premium");
    assert_eq!(passed(&gate, &domain, 60), 50, "half of the limit was used");
    set_plan(&gate, &user.token, &domain, "free");
    exchange(&gate, &domain).refused(429, "plan");

    let gate = Gate::with(&[("LIMIT_FREE", "3/h"), ("LIMIT_PREMIUM", "off")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    assert_eq!(passed(&gate, &domain, 5), 3);
    set_plan(&gate, &user.token, &domain, "premium");
    assert_eq!(passed(&gate, &domain, 20), 20);
    set_plan(&gate, &user.token, &domain, "free");
    assert_eq!(passed(&gate, &domain, 5), 0, "changing the plan back and forth does not reset the limit");
}
