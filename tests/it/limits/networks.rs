//! What a network may request at `/token`, whatever address it claims; and wrong credentials.

use super::{exchange, passed};
use crate::harness::{BEHIND_A_PROXY, Domain, Gate, Reply, Request, concurrently, from_address, json};

const GRANT: &str = "grant_type=client_credentials";

/// Makes eight exchanges with these lines of `X-Forwarded-For`, and returns how many passed.
fn passed_of_eight(trusted: &str, lines: &dyn Fn(usize) -> Vec<Vec<u8>>) -> usize {
    let gate = Gate::with(&[("LIMIT_ADDRESS", "5/h"), ("TRUSTED_PROXIES", trusted)]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let forwarded = |number| {
        lines(number)
            .into_iter()
            .fold(exchange(&gate, &domain), |request, line| request.header("X-Forwarded-For", line))
    };
    let replies: Vec<Reply> = (1..=8).map(|number| forwarded(number).send()).collect();
    passed(&replies, 200, "ip")
}

#[test]
fn network_limit__client_is_the_rightmost_untrusted_hop() {
    type Lines = &'static dyn Fn(usize) -> Vec<Vec<u8>>;
    fn line(text: String) -> Vec<Vec<u8>> {
        vec![text.into_bytes()]
    }
    let one_address = 5;
    let eight_addresses = 8;
    let cases: &[(&str, &str, Lines, usize)] = &[
        ("straight to the port, a new value each time", "", &|n| line(format!("192.0.2.{n}")), one_address),
        ("not from the proxy", "10.0.0.0/8", &|n| line(format!("192.0.2.{n}")), one_address),
        ("many clients of the proxy", "127.0.0.1", &|n| line(format!("192.0.2.{n}")), eight_addresses),
        ("an invented address on the left", "127.0.0.1", &|n| line(format!("6.6.6.{n}, 192.0.2.1")), one_address),
        (
            "in a separate header line",
            "127.0.0.1",
            &|n| vec![format!("6.6.6.{n}").into_bytes(), b"192.0.2.1".to_vec()],
            one_address,
        ),
        ("two proxies", "127.0.0.1,10.0.0.0/8", &|n| line(format!("192.0.2.{n}, 10.1.1.1")), eight_addresses),
        (
            "two proxies and an invention",
            "127.0.0.1,10.0.0.0/8",
            &|n| line(format!("6.6.6.{n}, 192.0.2.1, 10.1.1.1")),
            one_address,
        ),
        ("an untrusted proxy", "127.0.0.1", &|n| line(format!("192.0.2.{n}, 10.1.1.1")), one_address),
        ("behind something unreadable", "127.0.0.1", &|n| line(format!("192.0.2.{n}, unknown")), one_address),
        (
            "behind bytes that are no text",
            "127.0.0.1",
            &|n| vec![format!("6.6.6.{n}").into_bytes(), b"\xff, 192.0.2.1".to_vec()],
            one_address,
        ),
        ("inside one /64", "127.0.0.1", &|n| line(format!("2001:db8::{n}:{n}")), one_address),
        ("in several /64s", "127.0.0.1", &|n| line(format!("2001:db8:0:{n}::1")), eight_addresses),
        (
            "IPv4 in either spelling",
            "127.0.0.1",
            &|n| line(format!("{}192.0.2.1", if n % 2 == 0 { "::ffff:" } else { "" })),
            one_address,
        ),
        (
            "a proxy in the other spelling",
            "127.0.0.1,10.0.0.0/8",
            &|n| line(format!("6.6.6.{n}, 192.0.2.1, ::ffff:10.1.1.1")),
            one_address,
        ),
    ];
    for (name, trusted, lines, expected) in cases {
        assert_eq!(passed_of_eight(trusted, lines), *expected, "{name}");
    }
}

#[test]
fn network_limit__exact_under_concurrency() {
    let gate = Gate::with(&[("LIMIT_ADDRESS", "10/h")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let replies = concurrently(50, || exchange(&gate, &domain).send());
    assert_eq!(passed(&replies, 200, "ip"), 10);
    let korean = exchange(&gate, &domain).header("Accept-Language", "ko").send().refused(429, "ip");
    assert_eq!(korean["message"], "같은 네트워크에서 보낸 요청이 너무 많습니다. 잠시 후 다시 시도하세요");
    // This limit is for endpoints that check credentials.
    let token = gate.sign_up("bob").token;
    gate.get("/v1/test").token(&token).send().expect(200);
    for path in ["/introspect", "/revoke"] {
        gate.post(path).form("token=x").basic(&domain.id, &domain.secret).send().refused(429, "ip");
    }
    gate.clock.advance(360);
    assert_eq!(passed(&[exchange(&gate, &domain).send(), exchange(&gate, &domain).send()], 200, "ip"), 1);
}

/// Every spelling of the path that is answered counts.
#[test]
fn network_limit__spellings_of_a_path_share_one_budget() {
    let gate = Gate::with(&[("LIMIT_ADDRESS", "5/h")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let ask = |path: &str| gate.post(path).json(&json!({"clientSecret": domain.secret})).send();
    ask("/token").expect(200);
    ask("/v1/token").expect(200);
    ask("/token?x=1").expect(200);
    gate.post("/token").json(&json!({"clientSecret": 1})).send().refused(400, "invalid_field");
    gate.post("/token").form(GRANT).basic(&domain.id, "wrong").send().refused(401, "malformed_secret");
    for path in ["/token", "/v1/token", "/token?x=2", "/v1/token?"] {
        ask(path).refused(429, "ip");
    }
    for path in ["/token/", "//token", "/TOKEN", "/%74oken", "/./token", "/v2/token", "/v1//token", "/token;x=1"] {
        let status = ask(path).status;
        assert!([404, 429].contains(&status), "{path}: {status}");
    }
}

#[test]
fn network_limit__refused_request_spends_no_plan_limit() {
    let gate = Gate::with(&[("LIMIT_ADDRESS", "5/h"), ("LIMIT_FREE", "10/h"), BEHIND_A_PROXY]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let burst = |address: &str| -> Vec<Reply> {
        (0..8).map(|_| from_address(exchange(&gate, &domain), address).send()).collect()
    };
    assert_eq!(passed(&burst("192.0.2.1"), 200, "ip"), 5);
    assert_eq!(passed(&burst("192.0.2.2"), 200, "ip"), 5);
    let replies = burst("192.0.2.3");
    assert_eq!(passed(&replies[..5], 200, "plan"), 0);
    assert_eq!(passed(&replies[5..], 200, "ip"), 0);
}

/// Every kind of unknown client.
fn wrong_clients(gate: &Gate, domain: &Domain, other: &Domain) -> Vec<Request> {
    let Domain { id, secret } = domain;
    vec![
        gate.post("/token").json(&json!({"clientSecret": "wrong"})),
        gate.post("/v1/token").json(&json!({"clientSecret": format!("{secret}x")})),
        gate.post("/token").form(GRANT).basic(id, &other.secret),
        gate.post("/token").form(GRANT).basic("", ""),
        gate.post("/token").form(GRANT).header("Authorization", "Basic !"),
        gate.post("/token").form(format!("{GRANT}&client_id={id}&client_secret=wrong")),
        gate.post("/token").form(GRANT).basic("shop.example.com", secret),
        gate.post("/introspect").form("token=x").basic(id, "wrong"),
        gate.post("/revoke").form("token=x").basic(id, "wrong"),
    ]
}

#[test]
fn failure_budget__used_up_right_credentials_still_work() {
    let settings = [("LIMIT_FAILURES", "9/h"), ("LIMIT_FREE", "10/h"), BEHIND_A_PROXY];
    let gate = Gate::with(&settings);
    let (user, other, _) = gate.tenant("alice");
    let domain = gate.register(&user, "shop.example.com");
    let (attacker, neighbour) = ("192.0.2.1", "192.0.2.2");
    for request in wrong_clients(&gate, &domain, &other) {
        assert_eq!(from_address(request, attacker).send().expect(401)["error"], "invalid_client");
    }
    for request in wrong_clients(&gate, &domain, &other) {
        let reply = from_address(request, attacker).send();
        assert_eq!(passed(&[reply], 401, "failures"), 0);
    }
    let korean = gate.post("/token").json(&json!({"clientSecret": "wrong"})).header("Accept-Language", "ko");
    let korean = from_address(korean, attacker).send().refused(429, "failures");
    assert!(korean["message"].as_str().is_some_and(|text| text.contains("잘못된 인증 정보")), "{korean}");

    // Nobody is locked out: neither a client at the same address with the right secret, nor clients elsewhere. And the
    // domain keeps its own limit.
    for _ in 0..9 {
        from_address(exchange(&gate, &domain), attacker).send().expect(200);
    }
    from_address(gate.post("/revoke").form("token=x").basic(&domain.id, &domain.secret), attacker).send().expect(200);
    from_address(gate.post("/introspect").form("token=x").basic(&domain.id, &domain.secret), attacker)
        .send()
        .expect(200);
    from_address(exchange(&gate, &domain), neighbour).send().refused(429, "plan");
    from_address(gate.post("/token").json(&json!({"clientSecret": "wrong"})), neighbour)
        .send()
        .refused(401, "malformed_secret");
    // A malformed request is no guess.
    from_address(gate.post("/token").json(&json!({"clientSecret": 1})), attacker).send().refused(400, "invalid_field");

    gate.clock.advance(400);
    from_address(gate.post("/token").json(&json!({"clientSecret": "wrong"})), attacker)
        .send()
        .refused(401, "malformed_secret");
    from_address(gate.post("/token").json(&json!({"clientSecret": "wrong"})), attacker).send().refused(429, "failures");
}

#[test]
fn failure_budget__separate_for_each_address() {
    let gate = Gate::with(&[("LIMIT_FAILURES", "30/h"), BEHIND_A_PROXY]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let guess =
        |address: &str| from_address(gate.post("/token").json(&json!({"clientSecret": "wrong"})), address).send();
    let replies: Vec<Reply> = (0..300).map(|_| guess("192.0.2.1")).collect();
    assert_eq!(passed(&replies, 401, "failures"), 30);
    for number in 1..=10 {
        let replies: Vec<Reply> = (0..32).map(|_| guess(&format!("198.51.100.{number}"))).collect();
        assert_eq!(passed(&replies, 401, "failures"), 30, "{number}");
    }
    from_address(exchange(&gate, &domain), "192.0.2.1").send().expect(200);
}

#[test]
fn network_limits__off() {
    let off = [("LIMIT_ADDRESS", "off"), ("LIMIT_FAILURES", "off"), ("LIMIT_FREE", "off"), ("LIMIT_PREMIUM", "1/h")];
    let gate = Gate::with(&off);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    for _ in 0..20 {
        exchange(&gate, &domain).send().expect(200);
        gate.post("/token").json(&json!({"clientSecret": "wrong"})).send().refused(401, "malformed_secret");
    }
}
