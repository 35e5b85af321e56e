//! Domains that register public keys instead of a secret (RFC 7517, RFC 7591 `jwks`): which keys are accepted, what is
//! shown of them, and what ends when they are replaced.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatebird::db::domain;
use gatebird::id::DomainId;

use super::{ClientKey, ENDPOINTS, KeyClient, gate, invalid_client, long_running, register_with, with};
use crate::harness::{Gate, User, Value, check_each, json};

/// The payload of a registration with those keys.
#[track_caller]
fn registered(gate: &Gate, user: &User, host: &str, keys: Value) -> Value {
    register_with(gate, user, host, json!({"jwks": {"keys": keys}})).expect(201)["payload"].clone()
}

#[test]
fn client_keys__domain_gets_no_secret() {
    let gate = gate(&[]);
    let user = gate.sign_up("alice");
    for (number, key) in ClientKey::each().iter().enumerate() {
        let named = json!({"kid": "my-key", "use": "sig", "alg": key.alg, "key_ops": ["verify"], "x5t": "x", "ext": 1});
        for (spelling, jwk) in [key.jwk(), with(key.jwk(), named)].iter().enumerate() {
            let host = format!("h{number}-{spelling}.example.com");
            let reply = register_with(&gate, &user, &host, json!({"jwks": {"keys": [jwk], "more": "ignored"}}));
            let answer = reply.expect(201);
            assert!(!reply.text().to_lowercase().contains("secret"), "{answer}");
            assert_eq!(answer["message"], "Domain registered. It authenticates by its keys");
            // Shown unchanged, with the public members only.
            let shown = &answer["payload"]["jwks"]["keys"][0];
            for (member, value) in key.jwk().as_object().expect("an object") {
                assert_eq!(&shown[member], value, "{shown}");
            }
            let extra = ["kid", "use", "alg", "kty", "crv", "x", "y", "n", "e"];
            let members = shown.as_object().expect("an object").keys();
            assert!(members.into_iter().all(|member| extra.contains(&member.as_str())), "{shown}");
            assert_eq!(shown.get("kid"), jwk.get("kid"), "{shown}");
            let path = format!("/v1/domains/{}", answer["payload"]["id"].as_str().expect("an id"));
            let again = gate.get(&path).token(&user.token).send().expect(200);
            assert_eq!(again["payload"]["jwks"], answer["payload"]["jwks"]);
        }
    }
    // A domain with a secret shows no keys, and accepts none.
    let domain = gate.register(&user, "secret.example.com");
    let path = format!("/v1/domains/{}", domain.id);
    assert!(gate.get(&path).token(&user.token).send().expect(200)["payload"].get("jwks").is_none());
    let body = json!({"jwks": {"keys": [ClientKey::es256().jwk()]}});
    assert_eq!(gate.patch(&path).token(&user.token).json(&body).send().refused(400, "invalid_field")["field"], "jwks");
    gate.access_token(&domain);
}

#[test]
fn client_keys__invalid_key_set_is_refused() {
    let gate = gate(&[]);
    let user = gate.sign_up("alice");
    let (key, other, ed) = (ClientKey::es256(), ClientKey::es256(), ClientKey::ed_dsa());
    let [jwk, other, ed_jwk] = [&key, &other, &ed].map(ClientKey::jwk);
    let one = |members: Value| json!({"keys": [with(jwk.clone(), members)]});
    let rsa = |bits: usize, e: &[u8], last: u8| {
        let mut modulus = vec![0xA5; bits / 8];
        *modulus.last_mut().expect("bytes") = last;
        json!({"keys": [{"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(e)}]})
    };
    let (e, x) = (&[1, 0, 1], URL_SAFE_NO_PAD.encode([7; 32]));
    let named = |jwk: &Value, kid: &str| with(jwk.clone(), json!({"kid": kid}));
    let canary = "c4naryc4naryc4naryc4naryc4naryc4naryc4naryc";
    let private = "private or symmetric";
    let many: Vec<Value> = (0..5).map(|number| named(&ClientKey::ed_dsa().jwk(), &number.to_string())).collect();
    let rows: Vec<(&str, Value, &str)> = vec![
        ("a private P-256 key", one(json!({"d": canary})), private),
        ("an empty private member", one(json!({"d": ""})), private),
        ("a private member that is null", one(json!({"d": null})), private),
        ("a private Ed25519 key", json!({"keys": [with(ed_jwk.clone(), json!({"d": canary}))]}), private),
        ("the second one private", json!({"keys": [jwk, with(other.clone(), json!({"d": canary}))]}), private),
        (
            "a private RSA key",
            json!({"keys": [{"kty": "RSA", "n": "AQ", "e": "AQAB", "p": canary, "dq": canary}]}),
            private,
        ),
        ("a symmetric key", json!({"keys": [{"kty": "oct", "k": canary}]}), private),
        ("an empty symmetric key", json!({"keys": [{"kty": "oct", "k": ""}]}), private),
        ("a symmetric key without a key", json!({"keys": [{"kty": "oct"}]}), "JWK Set"),
        ("no keys", json!({"keys": []}), "JWK Set"),
        ("five keys", json!({"keys": many}), "JWK Set"),
        ("five times one key", json!({"keys": [jwk, jwk, jwk, jwk, jwk]}), "JWK Set"),
        ("one key twice", json!({"keys": [jwk, jwk]}), "JWK Set"),
        ("one name twice", json!({"keys": [named(&jwk, "a"), named(&other, "a")]}), "JWK Set"),
        ("a name of another's thumbprint", json!({"keys": [jwk, named(&other, &key.thumbprint())]}), "JWK Set"),
        ("an empty name", one(json!({"kid": ""})), "JWK Set"),
        ("a long name", one(json!({"kid": "k".repeat(129)})), "JWK Set"),
        ("a name with a blank", one(json!({"kid": "a b"})), "JWK Set"),
        ("a name with a line end", one(json!({"kid": "a\r\nb"})), "JWK Set"),
        ("a number as a name", one(json!({"kid": 1})), "JWK Set"),
        ("no name but null", one(json!({"kid": null})), "JWK Set"),
        ("for encryption", one(json!({"use": "enc"})), "JWK Set"),
        ("for signing only", one(json!({"key_ops": ["sign"]})), "JWK Set"),
        ("for nothing", one(json!({"key_ops": []})), "JWK Set"),
        ("ES256 said to be RS256", one(json!({"alg": "RS256"})), "JWK Set"),
        ("ES256 said to be ES384", one(json!({"alg": "ES384"})), "JWK Set"),
        ("ES256 said to be HS256", one(json!({"alg": "HS256"})), "JWK Set"),
        ("ES256 said to be none", one(json!({"alg": "none"})), "JWK Set"),
        ("an algorithm that is null", one(json!({"alg": null})), "JWK Set"),
        ("Ed25519 said to be ES256", json!({"keys": [with(ed_jwk, json!({"alg": "ES256"}))]}), "JWK Set"),
        ("P-384", one(json!({"crv": "P-384"})), "JWK Set"),
        ("secp256k1", one(json!({"crv": "secp256k1"})), "JWK Set"),
        ("X25519", json!({"keys": [{"kty": "OKP", "crv": "X25519", "x": x}]}), "JWK Set"),
        ("Ed448", json!({"keys": [{"kty": "OKP", "crv": "Ed448", "x": x}]}), "JWK Set"),
        ("Ed25519, short", json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}]}), "JWK Set"),
        ("not on the curve", one(json!({"x": x})), "JWK Set"),
        (
            "the point at zero",
            one(json!({"x": URL_SAFE_NO_PAD.encode([0; 32]), "y": URL_SAFE_NO_PAD.encode([0; 32])})),
            "JWK Set",
        ),
        ("coordinates exchanged", one(json!({"x": jwk["y"], "y": jwk["x"]})), "JWK Set"),
        ("coordinates shorter", one(json!({"x": "AQ", "y": "AQ"})), "JWK Set"),
        ("coordinates padded", one(json!({"x": format!("{}=", jwk["x"].as_str().expect("text"))})), "JWK Set"),
        ("no y", json!({"keys": [{"kty": "EC", "crv": "P-256", "x": jwk["x"]}]}), "JWK Set"),
        ("RSA of 1024 bits", rsa(1024, e, 1), "JWK Set"),
        ("RSA of 2040 bits", rsa(2040, e, 1), "JWK Set"),
        ("RSA of 8192 bits", rsa(8192, e, 1), "JWK Set"),
        ("RSA with e = 1", rsa(2048, &[1], 1), "JWK Set"),
        ("RSA with e = 3", rsa(2048, &[3], 1), "JWK Set"),
        ("RSA with an even e", rsa(2048, &[1, 0, 0], 1), "JWK Set"),
        ("RSA with an even modulus", rsa(2048, e, 2), "JWK Set"),
        ("RSA without e", json!({"keys": [{"kty": "RSA", "n": "AQ"}]}), "JWK Set"),
        ("another kind", json!({"keys": [{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AQ"}]}), "JWK Set"),
        ("no kind", json!({"keys": [{"crv": "P-256", "x": x, "y": x}]}), "JWK Set"),
        ("a key that is no object", json!({"keys": ["x"]}), "JWK Set"),
        ("a key that is null", json!({"keys": [null]}), "JWK Set"),
        ("keys that are no array", json!({"keys": jwk}), "JWK Set"),
        ("keys that are null", json!({"keys": null}), "JWK Set"),
        ("a bare key", jwk.clone(), "JWK Set"),
        ("a bare private key", with(jwk.clone(), json!({"d": canary})), "JWK Set"),
        ("an array", json!([jwk]), "JWK Set"),
        ("an address", json!("https://c4nary.example.com/jwks.json"), "JWK Set"),
        ("an empty object", json!({}), "JWK Set"),
        ("null", Value::Null, "JWK Set"),
        ("false", json!(false), "JWK Set"),
        ("text", json!("{\"keys\":[]}"), "JWK Set"),
    ];
    let mut good = registered(&gate, &user, "good.example.com", json!([jwk]));
    good.as_object_mut().expect("an object").remove("verification").expect("shown at registration");
    let path = format!("/v1/domains/{}", good["id"].as_str().expect("an id"));
    check_each(&rows, |(name, jwks, says)| {
        for reply in [
            register_with(&gate, &user, "shop.example.com", json!({"jwks": jwks})),
            gate.patch(&path).token(&user.token).json(&json!({"jwks": jwks})).send(),
        ] {
            assert_eq!(reply.status, 400, "{name}: {}", reply.text());
            let body = reply.refused(400, "invalid_field");
            assert_eq!(body["field"], "jwks", "{name}");
            assert!(body["error_description"].as_str().expect("text").contains(says), "{name}: {body}");
            assert!(!reply.text().contains("c4nary"), "{name} is repeated");
        }
    });
    // None of that has been stored.
    let domains = gate.get("/v1/domains").token(&user.token).send().expect(200);
    assert_eq!(domains["payload"], json!([good]));
    if !gate.database.is_postgres() {
        for entry in std::fs::read_dir(gate.database.dir.path().join("data")).expect("a folder") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("readable");
            assert!(!bytes.windows(6).any(|window| window == b"c4nary"), "a private key is stored");
        }
    }
    // Four are allowed, and a name may have any visible ASCII character.
    let four: Vec<Value> = many[..4].to_vec();
    registered(&gate, &user, "four.example.com", json!(four));
    registered(
        &gate,
        &user,
        "odd.example.com",
        json!([named(&jwk, "~!\"#'\\/%00{}"), named(&other, &"k".repeat(128))]),
    );
    let rsa_key = ClientKey::rs256().jwk();
    let by_rfc_9864 = with(ClientKey::ed_dsa().jwk(), json!({"alg": "Ed25519"}));
    registered(&gate, &user, "rfc9864.example.com", json!([by_rfc_9864]));
    registered(&gate, &user, "rsa.example.com", json!([rsa_key]));
}

#[test]
fn client_keys__replaced_by_the_owner() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let mallory = gate.sign_up("mallory");
    let old = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::es256());
    let new = KeyClient { gate: &gate, id: old.id.clone(), key: ClientKey::ed_dsa() };
    let path = format!("/v1/domains/{}", old.id);
    let keys = |keys: &[Value]| json!({"jwks": {"keys": keys}});
    let patch = |owner: &str, body: &Value| gate.patch(&path).token(owner).json(body).send();
    let [first, second] = [&old, &new].map(|client| client.key.jwk());

    // Another user learns nothing, whether the keys are good or not.
    for body in [keys(std::slice::from_ref(&second)), json!({"type": "free", "jwks": keys(&[])["jwks"]})] {
        let (theirs, unknown) = (patch(&mallory.token, &body), {
            let path = "/v1/domains/dom_0000000000000000000000";
            gate.patch(path).token(&mallory.token).json(&body).send()
        });
        assert_eq!(theirs.status, unknown.status);
        assert_eq!(theirs.json()["error_description"], unknown.json()["error_description"]);
    }
    patch(&mallory.token, &keys(std::slice::from_ref(&second))).refused(404, "not_found");
    invalid_client("a key that is not there yet", &new.present("/token", &new.assertion()));
    patch(&old.token(), &keys(std::slice::from_ref(&second))).refused(403, "kind");

    // Adding a key revokes nothing.
    let (before, kept) = (old.token(), old.assertion());
    let answer = patch(&user.token, &keys(&[first.clone(), second.clone()])).expect(200);
    assert_eq!(answer["payload"]["jwks"]["keys"].as_array().map(Vec::len), Some(2), "{answer}");
    gate.get("/v1/test").token(&before).send().expect(200);
    old.present("/token", &kept).expect(200);
    let with_new = new.token();
    // Each key signs only under its own name.
    let mixed = old.sign(&json!({"alg": "ES256", "kid": new.key.thumbprint()}), &old.claims());
    invalid_client("one key under the other's name", &old.present("/token", &mixed));
    // Another order or another name: the keys are the same.
    let renamed = with(first.clone(), json!({"kid": "first"}));
    patch(&user.token, &keys(&[second.clone(), renamed])).expect(200);
    gate.get("/v1/test").token(&before).send().expect(200);
    for kid in ["first", &old.key.thumbprint()] {
        let named = old.sign(&json!({"alg": "ES256", "kid": kid}), &old.claims());
        old.present("/token", &named).expect(200);
    }

    // Removing a key revokes its signatures and all earlier tokens at once.
    let (prepared, unused) = (old.assertion(), new.assertion());
    patch(&user.token, &keys(std::slice::from_ref(&second))).expect(200);
    for path in ENDPOINTS {
        invalid_client("dropped", &old.present(path, &prepared));
        invalid_client("dropped", &old.present(path, &old.assertion()));
    }
    for token in [&before, &with_new] {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    new.present("/token", &unused).expect(200);
    gate.get("/v1/test").token(new.token()).send().expect(200);
    // A change of the plan revokes nothing.
    let latest = new.token();
    patch(&user.token, &json!({"type": "premium"})).expect(200);
    gate.get("/v1/test").token(&latest).send().expect(200);
    let body = json!({"type": "free", "jwks": {"keys": [first]}});
    let answer = patch(&user.token, &body).expect(200);
    assert_eq!((&answer["payload"]["type"], answer["payload"].get("clientSecret")), (&json!("free"), None));
    gate.get("/v1/test").token(&latest).send().refused(401, "revoked");
}

/// A generation that is raised by the command line revokes tokens of key clients, too.
#[test]
fn client_keys__raised_generation_revokes_tokens() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::es256());
    let (token, id) = (client.token(), DomainId::parse(&client.id).expect("an id"));
    let raise = |conn: &mut gatebird::db::Conn| Ok(domain::raise_generation(conn, id)?);
    gate.app.db.change_now(raise, |conn| gate.app.directory.catch_up(conn)).expect("the database answers");
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    gate.get("/v1/test").token(client.token()).send().expect(200);
}

/// A refused registration, or one of a taken host, stores no key.
#[test]
fn client_keys__refused_registration_stores_none() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let (first, second) = (ClientKey::es256(), ClientKey::es256());
    let client = KeyClient::register(&gate, &user, "keys.example.com", first);
    let reply = register_with(&gate, &user, "keys.example.com", json!({"jwks": {"keys": [second.jwk()]}}));
    reply.refused(409, "taken");
    let intruder = KeyClient { gate: &gate, id: client.id.clone(), key: second };
    invalid_client("the second key", &intruder.present("/token", &intruder.assertion()));
    client.token();
}
