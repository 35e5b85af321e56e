//! Discovery for libraries and verifiers: complete, true, from the configuration alone, and without secrets.

use std::sync::atomic::{AtomicU64, Ordering};

use gatebird::config::Algorithm;

use super::{jwks, max_age, rotate};
use crate::binary::free_port;
use crate::forgery::signer::{Signer, stored_keys, thumbprint};
use crate::forgery::{Target, kid};
use crate::harness::{Domain, Gate, Reply, Request, Value, json, parts};
use crate::http::raw;

const METADATA: &str = "/.well-known/oauth-authorization-server";
const GRANT: &str = "grant_type=client_credentials";

/// A server at the URL of its own PUBLIC_URL.
fn reachable(settings: &[(&str, &str)]) -> Gate {
    let port = free_port().to_string();
    let url = format!("http://127.0.0.1:{port}");
    let own = [("PORT", port.as_str()), ("PUBLIC_URL", &url), ("JWT_ISSUER", "")];
    let gate = Gate::with(&[&own[..], settings].concat());
    assert_eq!(gate.url, url);
    gate
}

/// An assertion of a client (RFC 7523 §3).
fn assertion(gate: &Gate, client: &str, key: &Signer, alg: &str, audience: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = gate.clock.now();
    let claims = json!({
        "iss": client,
        "sub": client,
        "aud": audience,
        "iat": now,
        "exp": now + 60,
        "jti": NUMBER.fetch_add(1, Ordering::Relaxed).to_string(),
    });
    key.mint(&json!({"alg": alg, "typ": "JWT"}).to_string(), &claims.to_string())
}

/// Adds the authentication of a client to a request with that form.
type Proof<'a> = Box<dyn Fn(Request, &str) -> Request + 'a>;

/// Every authentication method that the metadata lists for an endpoint, each with a client that uses it.
fn proofs<'a>(
    gate: &'a Gate,
    owner: &crate::harness::User,
    metadata: &'a Value,
    endpoint: &str,
    keys: &'a [Signer],
) -> Vec<(String, String, Proof<'a>)> {
    let list = |name: &str| {
        let list = metadata[format!("{endpoint}_{name}_supported")].as_array().expect("an array");
        list.iter().map(|value| value.as_str().expect("a string").to_owned()).collect::<Vec<_>>()
    };
    let issuer = metadata["issuer"].as_str().expect("a string");
    let mut proofs: Vec<(String, String, Proof<'a>)> = Vec::new();
    for method in list("auth_methods") {
        let host = format!("{}.{}.example.com", method.replace('_', "-"), endpoint.replace('_', "-"));
        if method == "private_key_jwt" {
            for alg in list("auth_signing_alg_values") {
                // RFC 9864 has another name for EdDSA with this curve.
                let algorithm = if alg == "Ed25519" { "EdDSA" } else { &alg };
                let key = keys.iter().find(|key| key.algorithm().name() == algorithm).expect("a known algorithm");
                let body = json!({"host": format!("{}.{host}", alg.to_lowercase()), "type": "free", "jwks": {"keys": [key.jwk()]}});
                let answer = gate.post("/v1/domains").token(&owner.token).json(&body).send().expect(201);
                let id = answer["payload"]["id"].as_str().expect("an id").to_owned();
                let name = format!("{method} with {alg}");
                let client = id.clone();
                let prove = move |request: Request, form: &str| {
                    let assertion = assertion(gate, &client, key, &alg, issuer);
                    let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
                    request.form(format!("{form}&client_assertion_type={kind}&client_assertion={assertion}"))
                };
                proofs.push((name, id, Box::new(prove)));
            }
            continue;
        }
        let Domain { id, secret } = gate.register(owner, &host);
        let client = id.clone();
        let prove: Proof<'a> = match method.as_str() {
            "client_secret_basic" => Box::new(move |request, form| request.form(form).basic(&client, &secret)),
            "client_secret_post" => {
                Box::new(move |request, form| request.form(format!("{form}&client_id={client}&client_secret={secret}")))
            }
            other => panic!("unexpected value {other}"),
        };
        proofs.push((method, id, prove));
    }
    proofs
}

#[test]
fn metadata__everything_listed_works() {
    let gate = reachable(&[("JWT_ALGORITHM", "ES256"), ("SCOPES", "posts:read posts:write orders:read")]);
    let reply = gate.get(METADATA).send();
    let metadata = reply.expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(max_age(&reply) > 0);
    let at = |path: &str| json!(format!("{}{path}", gate.url));
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt"]);
    let algorithms = metadata["token_endpoint_auth_signing_alg_values_supported"].clone();
    for algorithm in Algorithm::PUBLIC {
        assert!(algorithms.as_array().is_some_and(|list| list.contains(&algorithm.name().into())), "{algorithms}");
    }
    assert_eq!(
        metadata,
        json!({
            "issuer": gate.url,
            "token_endpoint": at("/token"),
            "jwks_uri": at("/.well-known/jwks.json"),
            "scopes_supported": ["posts:read", "posts:write", "orders:read"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint": at("/revoke"),
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_endpoint": at("/introspect"),
            "introspection_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        })
    );
    // From here on with the URLs of the metadata.
    let post = |member: &str| {
        let url = metadata[member].as_str().expect("a URL");
        gate.post(url.strip_prefix(&gate.url).expect("a URL of this server"))
    };
    let owner = gate.sign_up("alice");
    let keys = Algorithm::PUBLIC.map(Signer::random);
    let token_of = |proof: &Proof<'_>, form: &str| {
        let answer = proof(post("token_endpoint"), form).send().expect(200);
        answer["access_token"].as_str().expect("a token").to_owned()
    };
    for (name, client, proof) in proofs(&gate, &owner, &metadata, "token_endpoint", &keys) {
        let claims = parts(&token_of(&proof, GRANT)).1;
        assert_eq!((&claims["client_id"], &claims["iss"]), (&json!(client), &metadata["issuer"]), "{name}");
        for scope in metadata["scopes_supported"].as_array().expect("an array") {
            let scope = scope.as_str().expect("a string");
            assert_eq!(parts(&token_of(&proof, &format!("{GRANT}&scope={scope}"))).1["scope"], scope, "{name}");
        }
    }
    for (name, client, proof) in proofs(&gate, &owner, &metadata, "introspection_endpoint", &keys) {
        let token = token_of(&proof, GRANT);
        let answer = proof(post("introspection_endpoint"), &format!("token={token}")).send().expect(200);
        assert_eq!((&answer["active"], &answer["client_id"]), (&json!(true), &json!(client)), "{name}");
    }
    for (name, _, proof) in proofs(&gate, &owner, &metadata, "revocation_endpoint", &keys) {
        let token = token_of(&proof, GRANT);
        let reply = proof(post("revocation_endpoint"), &format!("token={token}")).send();
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    }
    let url = metadata["jwks_uri"].as_str().expect("a URL").strip_prefix(&gate.url).expect("a URL of this server");
    let keys = gate.get(url).send().expect(200);
    let token = gate.access_token(&gate.register(&owner, "shop.example.com"));
    assert_eq!(keys["keys"][0]["kid"], kid(&token), "the key of a token is found by its name");
}

#[test]
fn metadata__urls_come_from_the_configuration() {
    let settings = [
        ("JWT_ALGORITHM", "EdDSA"),
        ("PUBLIC_URL", "https://gate.example.com/auth/"),
        ("JWT_ISSUER", "https://issuer.example.com"),
    ];
    let gate = Gate::with(&settings);
    let metadata = gate.get(METADATA).send();
    let answer = metadata.expect(200);
    assert_eq!(answer["issuer"], "https://issuer.example.com");
    for (member, path) in [
        ("token_endpoint", "/token"),
        ("jwks_uri", "/.well-known/jwks.json"),
        ("revocation_endpoint", "/revoke"),
        ("introspection_endpoint", "/introspect"),
    ] {
        assert_eq!(answer[member], json!(format!("https://gate.example.com/auth{path}")));
    }
    let set = jwks(&gate);
    let (_, domain, _) = gate.tenant("alice");
    let body = json!({"clientSecret": domain.secret}).to_string();
    let issue = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    for (target, headers) in [
        ("", "Host: evil.test"),
        ("", "Host: evil.test:8443"),
        ("", "Host: gate\r\nX-Forwarded-Host: evil.test"),
        ("", "Host: gate\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Port: 666"),
        ("", "Host: gate\r\nX-Forwarded-Server: evil.test\r\nX-Forwarded-Prefix: /evil\r\nX-Host: evil.test"),
        ("", "Host: gate\r\nForwarded: for=1.2.3.4;host=evil.test;proto=gopher"),
        ("", "Host: gate\r\nX-Original-URL: http://evil.test/\r\nX-Rewrite-URL: http://evil.test/"),
        ("", "Host: gate\r\nOrigin: https://evil.test\r\nReferer: https://evil.test/"),
        ("http://evil.test", "Host: evil.test"),
    ] {
        let ask = |line: &str, rest: &str, body: &str| -> Reply {
            let request = format!("{line}\r\n{headers}\r\nConnection: close\r\n{rest}\r\n{body}");
            raw(&gate, request.as_bytes()).remove(0)
        };
        let answer = ask(&format!("GET {target}{METADATA} HTTP/1.1"), "", "");
        assert_eq!(answer.text(), metadata.text(), "{headers}");
        assert!(answer.headers.iter().all(|(_, value)| !value.contains("evil")), "{headers}: {answer:?}");
        let answer = ask(&format!("GET {target}/.well-known/jwks.json HTTP/1.1"), "", "");
        assert_eq!(answer.text(), set.text(), "{headers}");
        let token = ask(&format!("POST {target}/token HTTP/1.1"), &issue, &body).expect(200);
        let (_, claims) = parts(token["token"].as_str().expect("a token"));
        assert_eq!(claims["iss"], "https://issuer.example.com", "{headers}");
        assert_eq!(claims["aud"], json!(["https://issuer.example.com"]), "{headers}");
    }
}

/// RFC 7517 with RFC 7638: each key by its thumbprint, with its use and its algorithm, and nothing else.
#[track_caller]
fn is_public(target: &Target) {
    let reply = jwks(&target.gate);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(max_age(&reply) >= 60);
    let published = reply.expect(200);
    let expected = stored_keys(&target.gate).into_iter().map(|row| {
        let key = Signer::of(&target.gate, &row.kid);
        let mut jwk = key.jwk();
        jwk["kid"] = key.thumbprint().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = row.algorithm.name().into();
        assert_eq!(jwk["kid"], row.kid);
        jwk
    });
    // The whole document: it must have no private member.
    assert_eq!(published, json!({"keys": expected.collect::<Vec<_>>()}));
}

#[test]
fn jwks__public_keys_by_thumbprint_only() {
    for algorithm in Algorithm::PUBLIC {
        let target = Target::of(algorithm);
        is_public(&target);
        rotate(&target.gate, false);
        is_public(&target);
        assert_eq!(stored_keys(&target.gate).len(), 2);
    }
    let mut target = Target::new();
    assert_eq!(jwks(&target.gate).expect(200), json!({"keys": []}));
    for (algorithm, keys) in [("ES256", 1), ("HS256", 1), ("RS256", 2), ("HS256", 2), ("EdDSA", 3)] {
        target.gate.clock.advance(4);
        target = target.restart(&[("JWT_ALGORITHM", algorithm)]);
        is_public(&target);
        assert_eq!(stored_keys(&target.gate).len(), keys, "{algorithm}");
        assert!(
            stored_keys(&target.gate)
                .iter()
                .all(|row| row.kid != crate::forgery::signer::hmac_kid(&target.gate, crate::harness::JWT_SECRET))
        );
    }
}

/// The examples of RFC 7638 §3.1 and RFC 8037 appendix A.3.
#[test]
fn test_thumbprint__examples_of_the_rfcs() {
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
    assert_eq!(thumbprint(&rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    assert_eq!(thumbprint(&ed25519), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}
