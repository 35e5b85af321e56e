//! Attacks by requests that cost the server more than the attacker, or by their number.

use std::io::{Read, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ATTACKER;
use crate::Result;
use crate::attack::{Job, flood};
use crate::client::{Statuses, TIMEOUT, connect};
use crate::people::{Account, asserted, random, unsigned};
use crate::request;
use crate::stage::Stage;

/// Bytes of the modulus of RSA-4096.
const RSA_BYTES: usize = 512;

fn random_bytes(count: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random().to_le_bytes()).flatten().take(count).collect()
}

/// Any odd number of that size is accepted as a modulus.
fn rsa_key(number: usize) -> Value {
    let mut modulus = random_bytes(RSA_BYTES);
    (modulus[0], modulus[RSA_BYTES - 1]) = (0xff, modulus[RSA_BYTES - 1] | 1);
    json!({ "kty": "RSA", "kid": format!("k{number}"), "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" })
}

pub(super) fn forged_assertions(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "forger")?;
    let keys = json!((0..4).map(rsa_key).collect::<Vec<_>>());
    let domain = account.register("forger.example.com", "premium", Some(keys))?;
    let job = |path: &'static str| {
        let id = domain.id.clone();
        flood(server, ATTACKER, 8, move || {
            let mut signature = random_bytes(RSA_BYTES);
            signature[0] = 1;
            let unsigned = unsigned("RS256", &id, server, "forged");
            asserted(path, &format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature)), "token=x")
        })
    };
    Ok(["/revoke", "/introspect"].into_iter().cycle().take(8).map(job).collect())
}

pub(super) fn smallest(stage: &mut Stage) -> Result<Vec<Job>> {
    Ok(vec![flood(stage.address(), ATTACKER, 200, || b"GET / HTTP/1.1\r\nHost:a\r\n\r\n".to_vec())])
}

pub(super) fn huge_header_name(stage: &mut Stage) -> Result<Vec<Job>> {
    const GOOD: usize = 3;
    let server = stage.address();
    let good = request::get("/healthz", None).repeat(GOOD);
    let bad = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}: b\r\n\r\n", "a".repeat(70_000));
    let requests = [&good[..], bad.as_bytes()].concat();
    let job: Job = Box::new(move |run| {
        while !run.is_over() {
            let mut answered = Vec::new();
            let exchange = || -> std::io::Result<()> {
                let mut stream = connect(server, ATTACKER, None, TIMEOUT)?;
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                // The server may refuse the head before all of it is sent.
                drop(stream.write_all(&requests));
                let (mut statuses, mut part) = (Statuses::default(), [0; 8 * 1024]);
                while answered.len() <= GOOD {
                    match stream.read(&mut part)? {
                        0 => break,
                        count => answered.extend(statuses.of(&part[..count])),
                    }
                }
                Ok(())
            };
            drop({ exchange }());
            answered.iter().for_each(|status| run.count(status.to_string(), 1));
            let good = answered.iter().filter(|&&status| status == 200).count();
            run.count("good requests without an answer", (GOOD - good.min(GOOD)) as u64);
            run.pause(Duration::from_millis(20));
        }
    });
    Ok(vec![job])
}

pub(super) fn unknown_paths(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let next = || request::get(&format!("/{:016x}/{}", random(), "p/".repeat(4_000)), None);
    Ok((0..4).map(|_| flood(server, ATTACKER, 8, next)).collect())
}

pub(super) fn odd_origins(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let next = || {
        let number = random();
        let method = if number.is_multiple_of(2) { "OPTIONS" } else { "HEAD" };
        let origin =
            ["null", "https://[::1", "chrome-extension://x", "https://odd.example.com"][number as usize / 2 % 4];
        format!(
            "{method} /v1/posts/my HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: {}\r\n\r\n",
            "x-a,".repeat(200)
        )
        .into_bytes()
    };
    Ok((0..4).map(|_| flood(server, ATTACKER, 8, next)).collect())
}

pub(super) fn costly_json(stage: &mut Stage) -> Result<Vec<Job>> {
    fn json(path: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
    let server = stage.address();
    let deep = format!("{{\"clientSecret\":{}", "[".repeat(16_000));
    let members: Vec<String> = (0..1_500).map(|number| format!("\"m{number}\":1")).collect();
    let wide = format!("{{{}}}", members.join(","));
    let escaped = format!("{{\"clientSecret\":\"{}\"}}", "\\u0061".repeat(2_600));
    let requests = [json("/token", &deep), json("/v1/signup", &wide), json("/token", &escaped)];
    let job = |_| {
        let requests = requests.clone();
        flood(server, ATTACKER, 4, move || requests[random() as usize % requests.len()].clone())
    };
    Ok((0..4).map(job).collect())
}

pub(super) fn small_chunks(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "small-chunks")?;
    let head = format!(
        "POST /v1/posts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        account.token
    );
    let request = [head.as_bytes(), &b"1\r\n \r\n".repeat(60_000), b"0\r\n\r\n"].concat();
    let job = |_| {
        let request = request.clone();
        flood(server, ATTACKER, 1, move || request.clone())
    };
    Ok((0..4).map(job).collect())
}

pub(super) fn unknown_secrets(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let next = || {
        let secret = gatebird::secret::ClientSecret::random();
        request::post("/token", &json!({ "clientSecret": secret.reveal() }), None)
    };
    Ok((0..4).map(|_| flood(server, ATTACKER, 8, next)).collect())
}

pub(super) fn foreign_tokens(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "introspector")?;
    let own = account.register("one.introspector.example.com", "premium", None)?;
    let other = account.register("two.introspector.example.com", "premium", None)?.token(server, ATTACKER)?;
    let job = |_| {
        let (own, other) = (own.clone(), other.clone());
        flood(server, ATTACKER, 4, move || {
            let forged = format!("{}{:016x}", &other[..other.len() - 16], random());
            let token = if random().is_multiple_of(2) { &other } else { &forged };
            request::form("/introspect", &format!("token={token}"), &own.id, &own.secret)
        })
    };
    Ok((0..4).map(job).collect())
}
