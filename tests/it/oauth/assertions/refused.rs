//! Assertions that are invalid for one reason each.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::{ClientKey, ISSUER, KeyClient, PUBLIC_URL, Pair, invalid_client, long_running, with};
use super::{Change, changed, claims, header, without};
use crate::harness::{Gate, User, Value, check_each, json, mint_with};

/// A client with a key of each algorithm, on one server.
fn with_each_key(check: impl Fn(&Gate, &User, &KeyClient<'_>)) {
    let gate = long_running();
    let user = gate.sign_up("alice");
    for (number, key) in ClientKey::each().into_iter().enumerate() {
        let client = KeyClient::register(&gate, &user, &format!("h{number}.example.com"), key);
        check(&gate, &user, &client);
    }
}

/// Checks that each assertion is refused at `/token`, and that a good one of the same client is still accepted.
fn assert_refused(client: &KeyClient<'_>, assertions: impl IntoIterator<Item = (String, String)>) {
    let good = client.assertion();
    check_each(assertions, |(name, assertion)| {
        invalid_client(&format!("{}: {name}", client.key.alg), &client.present("/token", &assertion));
    });
    client.present("/token", &good).expect(200);
}

#[test]
fn client_assertion__invalid_claim_or_header() {
    with_each_key(|gate, user, client| {
        let domain = gate.register(user, &format!("secret-{}.example.com", client.key.alg.to_lowercase()));
        let host = format!("key-{}.example.com", client.key.alg.to_lowercase());
        let neighbour = KeyClient::register(gate, user, &host, ClientKey::es256());
        let now = gate.clock.now();
        let bad: Vec<(&str, Change<'_>)> = vec![
            ("no iss", without("iss")),
            ("no sub", without("sub")),
            ("iss is another", claims(json!({"iss": neighbour.id}))),
            ("sub is another", claims(json!({"sub": neighbour.id}))),
            ("both are another", claims(json!({"iss": neighbour.id, "sub": neighbour.id}))),
            ("both are one with a secret", claims(json!({"iss": domain.id, "sub": domain.id}))),
            (
                "both are unknown",
                claims(json!({"iss": "dom_0000000000000000000000", "sub": "dom_0000000000000000000000"})),
            ),
            ("both are a user", claims(json!({"iss": format!("usr_{}", user.id), "sub": format!("usr_{}", user.id)}))),
            ("iss is us", claims(json!({"iss": ISSUER}))),
            ("iss is a list", claims(json!({"iss": [client.id]}))),
            ("sub is null", claims(json!({"sub": null}))),
            ("sub is empty", claims(json!({"sub": "", "iss": ""}))),
            ("sub with a blank", claims(json!({"sub": format!("{} ", client.id)}))),
            ("no aud", without("aud")),
            ("aud is empty", claims(json!({"aud": ""}))),
            ("aud is an empty list", claims(json!({"aud": []}))),
            ("aud is null", claims(json!({"aud": null}))),
            ("aud is a number", claims(json!({"aud": 1}))),
            ("aud has a number", claims(json!({"aud": [ISSUER, 1]}))),
            ("aud is another server", claims(json!({"aud": "https://other.example"}))),
            ("aud is another server's endpoint", claims(json!({"aud": "https://other.example/token"}))),
            ("aud is only others", claims(json!({"aud": ["https://other.example", client.id]}))),
            ("aud has a slash more", claims(json!({"aud": format!("{ISSUER}/")}))),
            ("aud in capitals", claims(json!({"aud": "HTTPS://GATE.TEST"}))),
            ("aud is two in one", claims(json!({"aud": format!("{ISSUER} {PUBLIC_URL}")}))),
            ("aud is where it came in", claims(json!({"aud": format!("{}/token", gate.url)}))),
            ("aud is another path", claims(json!({"aud": format!("{PUBLIC_URL}/verify")}))),
            ("aud is an object", claims(json!({"aud": {"0": ISSUER}}))),
            ("no exp", without("exp")),
            ("exp is null", claims(json!({"exp": null}))),
            ("exp is text", claims(json!({"exp": (now + 60).to_string()}))),
            ("exp is now", claims(json!({"exp": now}))),
            ("exp is past", claims(json!({"exp": now - 1}))),
            ("exp is past, within the skew", claims(json!({"exp": now - 4, "iat": now - 60}))),
            ("exp is negative", claims(json!({"exp": -1}))),
            ("exp is too far", claims(json!({"exp": now + 3700}))),
            (
                "exp is too far, and iat ahead",
                Box::new(|_, claims| {
                    // The clock continues, and the limit is exact to a few seconds.
                    let now = gate.clock.now();
                    *claims = with(claims.clone(), json!({"iat": now + 4, "exp": now + 3613}));
                }),
            ),
            ("exp is far too far", claims(json!({"exp": i64::MAX}))),
            ("exp is beyond numbers", claims(json!({"exp": 1e300}))),
            ("iat is ahead", claims(json!({"iat": now + 30}))),
            ("iat is too long ago for its exp", claims(json!({"iat": now - 3600}))),
            ("iat is zero", claims(json!({"iat": 0}))),
            ("iat is text", claims(json!({"iat": now.to_string()}))),
            ("iat is null", claims(json!({"iat": null}))),
            ("nbf is ahead", claims(json!({"nbf": now + 30}))),
            ("nbf is text", claims(json!({"nbf": now.to_string()}))),
            ("nbf is null", claims(json!({"nbf": null}))),
            ("no jti", without("jti")),
            ("jti is empty", claims(json!({"jti": ""}))),
            ("jti is null", claims(json!({"jti": null}))),
            ("jti is a number", claims(json!({"jti": 1}))),
            ("jti is too long", claims(json!({"jti": "j".repeat(257)}))),
            ("no alg", without("alg")),
            ("alg is null", header(json!({"alg": null}))),
            ("alg none", header(json!({"alg": "none"}))),
            ("alg HS256", header(json!({"alg": "HS256"}))),
            ("alg of another size", header(json!({"alg": format!("{}384", &client.key.alg[..2])}))),
            ("alg in small letters", header(json!({"alg": client.key.alg.to_lowercase()}))),
            ("alg PS256", header(json!({"alg": "PS256"}))),
            ("alg ES256K", header(json!({"alg": "ES256K"}))),
            ("kid is unknown", header(json!({"kid": "x"}))),
            ("kid is empty", header(json!({"kid": ""}))),
            ("kid is null", header(json!({"kid": null}))),
            ("kid is a number", header(json!({"kid": 1}))),
            ("kid is a path", header(json!({"kid": "../../../../dev/null"}))),
            ("kid is a query", header(json!({"kid": "' OR '1'='1"}))),
            ("kid is a neighbour's", header(json!({"kid": neighbour.key.thumbprint()}))),
            ("typ is an access token's", header(json!({"typ": "at+jwt"}))),
            ("typ is empty", header(json!({"typ": ""}))),
            ("typ is null", header(json!({"typ": null}))),
            ("crit", header(json!({"crit": ["exp"]}))),
            ("crit is empty", header(json!({"crit": []}))),
            ("crit is null", header(json!({"crit": null}))),
            ("b64", header(json!({"b64": false, "crit": ["b64"]}))),
            ("zip", header(json!({"zip": "DEF"}))),
            ("jwk", header(json!({"jwk": client.key.jwk()}))),
            ("jku", header(json!({"jku": "http://127.0.0.1:1/jwks.json"}))),
            ("x5u", header(json!({"x5u": "http://127.0.0.1:1/cert.pem"}))),
            ("x5c", header(json!({"x5c": ["MIIB"]}))),
            ("header is a list", Box::new(|header, _| *header = json!([client.key.alg]))),
            ("claims are a list", Box::new(|_, claims| *claims = json!([claims.clone()]))),
            ("claims are null", Box::new(|_, claims| *claims = Value::Null)),
            ("too large", claims(json!({"pad": "x".repeat(8 * 1024)}))),
        ];
        assert_refused(client, bad.iter().map(|(name, change)| (name.to_string(), changed(client, change))));
    });
}

#[test]
fn client_assertion__audience_of_another_endpoint() {
    with_each_key(|_, _, client| {
        let pairs =
            [("/token", "/introspect"), ("/introspect", "/revoke"), ("/revoke", "/v1/token"), ("/v1/token", "/revoke")];
        check_each(pairs, |(path, other)| {
            let elsewhere = claims(json!({"aud": format!("{PUBLIC_URL}{other}")}));
            invalid_client(other, &client.present(path, &changed(client, &elsewhere)));
        });
    });
}

/// With and without that key in the header.
#[test]
fn client_assertion__signed_with_another_key() {
    with_each_key(|gate, _, client| {
        let stranger = KeyClient { gate, id: client.id.clone(), key: ClientKey::es256() };
        let headers = [
            json!({}),
            json!({"jwk": stranger.key.jwk()}),
            json!({"kid": client.key.thumbprint()}),
            json!({"alg": client.key.alg}),
        ];
        let signed = |header: &Value| stranger.sign(&with(stranger.header(), header.clone()), &stranger.claims());
        assert_refused(client, headers.iter().map(|header| (header.to_string(), signed(header))));
    });
}

/// RFC 8725 §2.1, in every known notation of the key.
#[test]
fn client_assertion__public_key_as_an_hmac_secret() {
    with_each_key(|_, _, client| {
        let hs256 = json!({"alg": "HS256", "typ": "JWT"}).to_string();
        let signed = |secret: Vec<u8>| mint_with(&hs256, &client.claims().to_string(), &secret);
        let spellings = hmac_spellings(&client.key).into_iter();
        assert_refused(client, spellings.map(|secret| (format!("{secret:?}"), signed(secret))));
    });
}

#[test]
fn client_assertion__malformed_text() {
    with_each_key(|gate, user, client| {
        let domain = gate.register(user, &format!("secret-{}.example.com", client.key.alg.to_lowercase()));
        let (now, token) = (gate.clock.now(), gate.access_token(&domain));
        let good = client.assertion();
        let [head, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts: {good}") };
        let last = |text: &str, replacement: &str| format!("{}{replacement}", &text[..text.len() - 1]);
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
        let repeated = |text: &str, member: &str| format!("{},{member}}}", &text[..text.len() - 1]);
        let (header, claims) = (client.header().to_string(), client.claims().to_string());
        let texts = [
            format!("{unsigned}.{payload}."),
            format!("{unsigned}.{payload}.{signature}"),
            format!("{head}.{payload}."),
            format!("{head}.{payload}"),
            format!("{head}.{payload}.{signature}."),
            format!("{head}.{payload}.{signature}.{signature}"),
            format!(".{payload}.{signature}"),
            format!("{head}..{signature}"),
            format!("{head}.{payload}.{signature}="),
            format!(" {good}"),
            format!("{good}\n"),
            format!("Bearer {good}"),
            format!("{head}.{payload}.{}", last(signature, "!")),
            format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(client.claims().to_string())),
            token.clone(),
            user.token.clone(),
            domain.secret.clone(),
            client.id.clone(),
            "..".into(),
            "a.b.c".into(),
            "키.키.키".into(),
            client.key.sign(&header, &repeated(&claims, &format!("\"exp\":{}", now + 60))),
            client.key.sign(&header, &repeated(&claims, "\"x\":1,\"x\":2")),
            client.key.sign(&header, &repeated(&claims, "\"s\\u0075b\":\"x\"")),
            client.key.sign(&repeated(&header, &format!("\"alg\":\"{}\"", client.key.alg)), &claims),
            client.key.sign(&repeated(&header, "\"x\":1,\"x\":1"), &claims),
            client.key.sign(&header, &format!("{claims}{claims}")),
            client.key.sign(&header, &"[".repeat(5000)),
            client.key.sign(&header, ""),
            client.key.sign("", &claims),
        ];
        assert_refused(client, texts.map(|text| (text.clone(), text)));
    });
}

/// Notations of a public key that could serve as an HMAC secret.
fn hmac_spellings(key: &ClientKey) -> Vec<Vec<u8>> {
    let (raw, der) = match &key.pair {
        Pair::Ec(pair) => (pair.public_key().as_ref().to_vec(), spki(pair.public_key())),
        Pair::Ed(pair) => (pair.public_key().as_ref().to_vec(), spki(pair.public_key())),
        Pair::Rsa(pair) => (pair.public_key().as_ref().to_vec(), spki(pair.public_key())),
    };
    let lines: Vec<String> =
        STANDARD.encode(&der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let pem = |end: &str, last: &str| {
        format!("-----BEGIN PUBLIC KEY-----{end}{}{end}-----END PUBLIC KEY-----{last}", lines.join(end)).into_bytes()
    };
    let jwk = key.jwk().to_string().into_bytes();
    vec![Vec::new(), raw, der, jwk, pem("\n", "\n"), pem("\n", ""), pem("\r\n", "\r\n"), key.thumbprint().into_bytes()]
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    key.as_der().expect("a public key").as_ref().to_vec()
}
