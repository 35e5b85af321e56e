//! Each `reason`, with a request that causes it, and the same request without the cause. The list of reasons is the
//! crate's own, so a new one needs a row here.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use diesel::connection::SimpleConnection;
use gatebird::db::{Conn, verified_host};
use gatebird::reason::Reason;
use gatebird::secret::ClientSecret;

use crate::harness::{Domain, Gate, PASSWORD, Reply, TIMEOUTS, User, Value, json, resigned};
use crate::http::replies;
use crate::oauth::{ClientKey, GRANT, ISSUER, KeyClient, form, long_running, out_of_reach, set_suspended, with};
use crate::verification::dns::Dns;
use crate::verification::endpoint::publish;

/// A gate with a user, a domain and an access token.
struct Stage {
    gate: Gate,
    user: User,
    domain: Domain,
    token: String,
}

impl Stage {
    fn with(settings: &[(&str, &str)]) -> Stage {
        Stage::at(Gate::with(settings))
    }

    fn at(gate: Gate) -> Stage {
        let (user, domain, token) = gate.tenant("alice");
        Stage { gate, user, domain, token }
    }

    fn get(&self, path: &str, token: &str) -> Reply {
        self.gate.get(path).token(token).send()
    }

    fn exchange(&self, secret: &str) -> Reply {
        self.gate.post("/token").json(&json!({"clientSecret": secret})).send()
    }

    fn ask(&self, rest: &str) -> Reply {
        self.gate.post("/token").form(form(&self.domain, rest)).send()
    }

    fn register(&self, body: Value) -> Reply {
        self.gate.post("/v1/domains").token(&self.user.token).json(&body).send()
    }

    fn set_plan(&self, plan: &str, etag: &str) -> Reply {
        let path = format!("/v1/domains/{}", self.domain.id);
        let request = self.gate.patch(&path).token(&self.user.token).header("If-Match", etag);
        request.json(&json!({"type": plan})).send()
    }
}

/// The refused request, and the one without the cause.
type Pair = [Reply; 2];

/// An assertion with those members, and a good one.
fn assertions(members: impl Fn(i64) -> Value) -> Pair {
    let gate = long_running();
    let client = KeyClient::register(&gate, &gate.sign_up("alice"), "keys.example.com", ClientKey::es256());
    let present = |members: Value| {
        let claims = with(client.claims(), members);
        client.present("/token", &client.sign(&client.header(), &claims))
    };
    [present(members(gate.clock.now())), present(json!({}))]
}

/// The second of two equal requests, and the first.
fn twice(stage: &Stage, request: impl Fn(&Stage) -> Reply) -> Pair {
    let first = request(stage);
    [request(stage), first]
}

/// A reason, its status, and its cause.
type Row = (Reason, u16, fn(&Stage) -> Pair);

const ROWS: &[Row] = &[
    (Reason::Missing, 401, |on| [on.gate.post("/token").form(GRANT).send(), on.ask(GRANT)]),
    (Reason::Missing, 401, |on| [on.gate.get("/v1/test").send(), on.get("/v1/test", &on.token)]),
    (Reason::Invalid, 401, |on| [on.get("/v1/test", "x.y.z"), on.get("/v1/test", &on.token)]),
    (Reason::Expired, 419, |on| {
        let expired = resigned(&on.token, |_, claims| {
            for member in ["iat", "exp"] {
                claims[member] = json!(claims[member].as_i64().expect("a number") - 60);
            }
        });
        [on.get("/v1/test", &expired), on.get("/v1/test", &on.token)]
    }),
    (Reason::Revoked, 401, |on| {
        let revoked = resigned(&on.token, |_, claims| claims["gen"] = json!(-1));
        [on.get("/v1/test", &revoked), on.get("/v1/test", &on.token)]
    }),
    (Reason::UnknownClient, 401, |on| [on.exchange(ClientSecret::random().reveal()), on.exchange(&on.domain.secret)]),
    (Reason::MalformedSecret, 401, |on| {
        [on.exchange(&format!("{}\n", on.domain.secret)), on.exchange(&on.domain.secret)]
    }),
    (Reason::Suspended, 401, |_| {
        let on = Stage::with(&[]);
        set_suspended(&on.gate, &on.domain.id, true);
        let refused = on.exchange(&on.domain.secret);
        set_suspended(&on.gate, &on.domain.id, false);
        [refused, on.exchange(&on.domain.secret)]
    }),
    (Reason::Suspended, 403, |_| {
        let on = Stage::with(&[]);
        let delete = || on.gate.delete(&format!("/v1/domains/{}", on.domain.id)).token(&on.user.token).send();
        set_suspended(&on.gate, &on.domain.id, true);
        let refused = delete();
        set_suspended(&on.gate, &on.domain.id, false);
        [refused, delete()]
    }),
    (Reason::Superseded, 401, |_| {
        let on = Stage::with(&[]);
        let before = on.exchange(&on.domain.secret);
        let end = |conn: &mut Conn| Ok(verified_host::supersede_some(conn, "alice.example.com", 1)?);
        on.gate.app.db.change_now(end, |conn| on.gate.app.directory.catch_up(conn)).expect("the database answers");
        [on.exchange(&on.domain.secret), before]
    }),
    (Reason::AssertionAudience, 401, |_| assertions(|_| json!({"aud": "https://other.example"}))),
    (Reason::AssertionExpired, 401, |_| assertions(|now| json!({"exp": now, "iat": now - 60}))),
    (Reason::AssertionNotYet, 401, |_| assertions(|now| json!({"nbf": now + 30}))),
    (Reason::AssertionLifetime, 401, |_| assertions(|now| json!({"exp": now + 86_400}))),
    (Reason::AssertionReplayed, 401, |_| {
        let gate = long_running();
        let client = KeyClient::register(&gate, &gate.sign_up("alice"), "keys.example.com", ClientKey::es256());
        let assertion = client.assertion();
        let first = client.present("/token", &assertion);
        [client.present("/token", &assertion), first]
    }),
    (Reason::OtherClient, 400, |on| {
        let other = on.gate.register(&on.user, "other.example.com");
        let revoke = |token: &str| on.gate.post("/revoke").form(form(&on.domain, &format!("token={token}"))).send();
        [revoke(&on.gate.access_token(&other)), revoke(&on.gate.access_token(&on.domain))]
    }),
    (Reason::Credentials, 401, |on| {
        let sign_in = |password: &str| {
            on.gate.post("/v1/signin").json(&json!({"username": "alice", "password": password})).send()
        };
        [sign_in("a wrong password"), sign_in(PASSWORD)]
    }),
    (Reason::Credentials, 403, |_| {
        let on = Stage::with(&[]);
        let delete =
            |password: &str| on.gate.delete("/v1/me").token(&on.user.token).json(&json!({"password": password})).send();
        [delete("a wrong password"), delete(PASSWORD)]
    }),
    (Reason::Changed, 412, |on| [on.set_plan("premium", "\"x\""), on.set_plan("free", "*")]),
    (Reason::Quota, 403, |on| {
        let full = Stage::with(&[("DOMAINS_PER_USER", "1")]);
        let body = json!({"host": "quota.example.com", "type": "free"});
        [full.register(body.clone()), on.register(body)]
    }),
    (Reason::SignupClosed, 403, |on| {
        let body = json!({"username": "newcomer", "password": PASSWORD});
        let sign_up = |gate: &Gate| gate.post("/v1/signup").json(&body).send();
        [sign_up(&Gate::with(&[("SIGNUP", "closed")])), sign_up(&on.gate)]
    }),
    (Reason::Scope, 400, |on| [on.ask(&format!("{GRANT}&scope=admin")), on.ask(&format!("{GRANT}&scope=posts:read"))]),
    (Reason::Scope, 403, |on| {
        let reader = on.ask(&format!("{GRANT}&scope=posts:read")).expect(200)["access_token"].clone();
        let write = |token: &str| on.gate.post("/v1/posts").token(token).json(&json!({"content": "x"})).send();
        [write(reader.as_str().expect("a token")), write(&on.token)]
    }),
    (Reason::Kind, 403, |on| [on.get("/v1/me", &on.token), on.get("/v1/me", &on.user.token)]),
    (Reason::InvalidField, 400, |on| {
        let body = |host: Value| json!({"host": host, "type": "free"});
        [on.register(body(json!(1))), on.register(body(json!("field.example.com")))]
    }),
    (Reason::Malformed, 400, |on| {
        let send = |body: String| on.gate.post("/token").body("application/json", body).send();
        let good = json!({"clientSecret": on.domain.secret}).to_string();
        [send(good.replace('}', "")), send(good)]
    }),
    (Reason::GrantType, 400, |on| [on.ask("grant_type=password"), on.ask(GRANT)]),
    (Reason::InvalidTarget, 400, |on| {
        [on.ask(&format!("{GRANT}&resource=urn:other")), on.ask(&format!("{GRANT}&resource={ISSUER}"))]
    }),
    (Reason::Host, 403, |on| [on.get("/verify?host=other.example.com", &on.token), on.get("/verify", &on.token)]),
    (Reason::NotFound, 404, |on| [on.gate.get("/health").send(), on.gate.get("/healthz").send()]),
    (Reason::Method, 405, |on| [on.gate.put("/healthz").send(), on.gate.get("/healthz").send()]),
    (Reason::Taken, 409, |on| {
        let sign_up = |username: &str| {
            on.gate.post("/v1/signup").json(&json!({"username": username, "password": PASSWORD})).send()
        };
        [sign_up("alice"), sign_up("albert")]
    }),
    (Reason::TooLarge, 413, |on| {
        let ask = |length: usize| on.ask(&format!("{GRANT}&x={}", "x".repeat(length)));
        [ask(17_000), ask(1_000)]
    }),
    (Reason::TooLarge, 431, |on| {
        let ask = |length: usize| on.gate.get("/healthz").header("X-Filler", "x".repeat(length)).send();
        [ask(17_000), ask(1_000)]
    }),
    (Reason::Timeout, 408, |on| {
        let impatient = Gate::with(&[(TIMEOUTS, "300")]);
        let ask = |gate: &Gate, head: &str| {
            let mut stream = TcpStream::connect(gate.url.trim_start_matches("http://")).expect("it listens");
            stream.write_all(head.as_bytes()).expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("the server closes");
            replies(&answer).remove(0)
        };
        let head = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        [ask(&impatient, head), ask(&on.gate, &format!("{head}\r\n"))]
    }),
    (Reason::MediaType, 415, |on| {
        let body = json!({"clientSecret": on.domain.secret}).to_string();
        let send = |kind: &str| on.gate.post("/token").body(kind, body.clone()).send();
        [send("text/plain"), send("application/json")]
    }),
    (Reason::Plan, 429, |_| {
        // The stage has requested a token.
        let on = Stage::with(&[("LIMIT_FREE", "2/h")]);
        twice(&on, |on| on.get("/v1/test", &on.token))
    }),
    (Reason::Plan, 403, |on| {
        let free = Stage::with(&[("SELF_SERVICE_PREMIUM", "false")]);
        let body = json!({"host": "plan.example.com", "type": "premium"});
        [free.register(body.clone()), on.register(body)]
    }),
    (Reason::Ip, 429, |on| {
        let limited = Gate::with(&[("LIMIT_ADDRESS", "1/h")]);
        let ask = |gate: &Gate| gate.post("/token").form(GRANT).send();
        drop(ask(&limited));
        [ask(&limited), ask(&on.gate)]
    }),
    (Reason::Account, 429, |_| {
        // The stage has registered a domain.
        let on = Stage::with(&[("LIMIT_CHANGES", "2/h")]);
        twice(&on, |on| on.register(json!({"host": "account.example.com", "type": "free"})))
    }),
    (Reason::Failures, 429, |_| {
        let on = Stage::with(&[("LIMIT_FAILURES", "1/h")]);
        twice(&on, |on| on.exchange(ClientSecret::random().reveal()))
    }),
    (Reason::Unverified, 400, |on| {
        let strict = Gate::with(&[("PROOF", "required")]);
        let domain = strict.register(&strict.sign_up("alice"), "alice.example.com");
        let refused = strict.post("/token").json(&json!({"clientSecret": domain.secret})).send();
        [refused, on.exchange(&on.domain.secret)]
    }),
    (Reason::Unverified, 403, |on| [on.get("/verify?host=alice.example.com", &on.token), on.get("/verify", &on.token)]),
    (Reason::Unverified, 409, |_| {
        let dns = Dns::with(&[]);
        let on = Stage::with(&[("DNS_SERVER", &dns.address.to_string())]);
        let verify =
            || on.gate.post(&format!("/v1/domains/{}/verification", on.domain.id)).token(&on.user.token).send();
        let refused = verify();
        publish(&on.gate, &dns, &on.user, &on.domain, "alice.example.com");
        [refused, verify()]
    }),
    (Reason::Origin, 403, |on| {
        let ask = |origin: &str| {
            let request = on.gate.request("OPTIONS", "/v1/posts").header("Origin", origin);
            request.header("Access-Control-Request-Method", "POST").send()
        };
        [ask("https://evil.example"), ask("https://alice.example.com")]
    }),
    (Reason::Browser, 400, |_| {
        let on = Stage::with(&[("BROWSER_SECRETS", "refuse")]);
        let ask = || on.gate.post("/token").json(&json!({"clientSecret": on.domain.secret}));
        let by_browser = ask().header("Sec-Fetch-Mode", "cors").header("Sec-Fetch-Site", "cross-site");
        [by_browser.send(), ask().send()]
    }),
    (Reason::Sunset, 410, |on| {
        let sunset = Gate::with(&[("API_V1_SUNSET", "2000-01-01")]);
        [sunset.get("/v1/test").send(), on.get("/v1/test", &on.token)]
    }),
    (Reason::CommitUnknown, 500, |_| {
        let on = Stage::with(&[]);
        let run = |statement| on.gate.app.db.write_now(|conn| Ok(conn.batch_execute(statement)?)).expect("a statement");
        let revoke = || {
            let token = on.gate.access_token(&on.domain);
            on.gate.post("/revoke").form(form(&on.domain, &format!("token={token}"))).send()
        };
        // Reading back a change reads this table, and these requests do not write to it.
        run("ALTER TABLE used_assertions RENAME TO out_of_reach");
        let refused = revoke();
        run("ALTER TABLE out_of_reach RENAME TO used_assertions");
        [refused, revoke()]
    }),
    (Reason::Busy, 503, |_| {
        let database = std::sync::Arc::new(crate::harness::Database::sqlite());
        let on = Stage::at(Gate::on(database, &[]));
        let new = || on.register(json!({"host": "busy.example.com", "type": "free"}));
        let mut refused = None;
        let under_way = |_: &mut Conn| {
            refused = Some(new());
            Ok(())
        };
        on.gate.app.db.change_now(under_way, |_| Ok(())).expect("the change is made");
        [refused.expect("an answer"), new()]
    }),
    (Reason::Internal, 500, |on| {
        let broken = Stage::with(&[]);
        out_of_reach(&broken.gate);
        [broken.get("/v1/domains", &broken.user.token), on.get("/v1/domains", &on.user.token)]
    }),
];

#[test]
fn refusal_reasons__each_has_its_own_cause() {
    let stage = Stage::with(&[]);
    for (reason, status, requests) in ROWS {
        let [refused, other] = requests(&stage);
        assert_eq!(refused.status, *status, "{reason:?}: {}", refused.text());
        refused.refused(*status, reason.as_str());
        let found = serde_json::from_slice::<Value>(&other.body).map(|body| body["reason"].clone());
        assert_ne!(found.ok(), Some(json!(reason.as_str())), "{reason:?} without its cause");
    }
    let tried: BTreeSet<&str> = ROWS.iter().map(|(reason, ..)| reason.as_str()).collect();
    let all: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(all.difference(&tried).collect::<Vec<_>>(), Vec::<&&str>::new(), "reasons without a row");
    assert_eq!(all.len(), Reason::ALL.len(), "two reasons have the same word");
}
