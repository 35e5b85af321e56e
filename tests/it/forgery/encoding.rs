//! Other encodings of a token: each token has one text, and every bit counts.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use gatebird::config::Algorithm;
use gatebird::token;
use proptest::prelude::*;

use super::{GOOD, INVALID, Target, append, split, texts};
use crate::harness::{Gate, JWT_SECRET, json, mint_with};
use crate::http::raw;

/// Whether the library accepts that text as a token of this server.
fn verifies(target: &Target, text: &str) -> bool {
    let app = &target.gate.app;
    token::verify(text, &app.directory.keyring(), &app.config, app.now()).is_some()
}

#[test]
fn token__flipped_bit() {
    Target::each(|target| {
        assert!(verifies(target, &target.token));
        let parts = split(&target.token).map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
        let mut flips = 0;
        for part in 0..3 {
            // Every bit of a signature, except RSA's 2048; and every bit of the signed part where verification is fast.
            let all = target.algorithm == Algorithm::Hs256 || part == 2 && target.algorithm != Algorithm::Rs256;
            for bit in (0..parts[part].len() * 8).step_by(if all { 1 } else { 7 }) {
                let mut flipped = parts.clone();
                flipped[part][bit / 8] ^= 1 << (bit % 8);
                let flipped = flipped.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
                assert!(!verifies(target, &flipped), "part {part}, bit {bit}");
                if flips % 61 == 0 {
                    target.gets(&format!("part {part}, bit {bit}"), &flipped, INVALID);
                }
                flips += 1;
            }
        }
        assert!(flips > 700, "{flips}");
        let positions = (0..target.token.len()).step_by(if target.algorithm == Algorithm::Hs256 { 1 } else { 5 });
        for (position, bit) in positions.flat_map(|position| (0..7).map(move |bit| (position, bit))) {
            let mut flipped = target.token.clone().into_bytes();
            flipped[position] ^= 1 << bit;
            let flipped = String::from_utf8(flipped).expect("ASCII");
            assert!(!verifies(target, &flipped), "character {position}, bit {bit}");
        }
        target.gets("the good token", &target.token, GOOD);
    });
}

#[test]
fn token__truncated_or_extended() {
    Target::each(|target| {
        for position in 0..target.token.len() {
            let (before, after) = target.token.split_at(position);
            assert!(!verifies(target, before), "cut at {position}");
            assert!(!verifies(target, &format!("{before}{}", &after[1..])), "without {position}");
            for extra in ["A", ".", "=", "-", "%2E", " ", "\n", "\t", "\0"] {
                assert!(!verifies(target, &format!("{before}{extra}{after}")), "{extra:?} at {position}");
            }
        }
    });
}

#[test]
fn token__non_canonical_base64url() {
    Target::each(|target| {
        let (header, claims) = texts(&target.token);
        // One to three more bytes, so that each part ends in each of the three ways of base64.
        let fillers = if target.algorithm == Algorithm::Hs256 { 3 } else { 1 };
        for filler in &["a", "aa", "aaa"][..fillers] {
            let member = format!("\"x\":\"{filler}\"");
            let whole = target.mint(&append(&header, &member), &append(&claims, &member));
            target.gets("canonical", &whole, GOOD);
            let [header, payload, signature] = split(&whole);
            for padding in ["=", "==", "===", "%3D", "\n"] {
                target.refused(&format!("header{padding}"), target.signed(&format!("{header}{padding}.{payload}")));
                target.refused(&format!("payload{padding}"), target.signed(&format!("{header}.{payload}{padding}")));
                target.refused(&format!("signature{padding}"), format!("{whole}{padding}"));
            }
            for other in other_spellings(header) {
                target.refused("header with stray bits", target.signed(&format!("{other}.{payload}")));
            }
            for other in other_spellings(payload) {
                target.refused("payload with stray bits", target.signed(&format!("{header}.{other}")));
            }
            let spellings = other_spellings(signature);
            // 32 bytes leave two bits, 64 and 256 bytes leave four.
            assert!(matches!(spellings.len(), 3 | 15), "{}", spellings.len());
            for other in spellings {
                target.refused("signature with stray bits", format!("{header}.{payload}.{other}"));
            }
        }
        // This nick needs + and / in the standard alphabet. One of its two lengths leaves room for padding.
        let nicks = ["", "x"]
            .map(|end| target.with_claims(|claims| claims["nick"] = json!(format!("ûïþ???>>>~~~ûûûï¿¿{end}"))));
        let nick = nicks.iter().find(|nick| !texts(nick).1.len().is_multiple_of(3)).expect("a token with padding");
        let (header, claims) = texts(nick);
        let standard = STANDARD_NO_PAD.encode(&claims);
        assert!(standard.contains(['+', '/']), "{standard}");
        target.refused("standard alphabet", target.signed(&format!("{}.{standard}", URL_SAFE_NO_PAD.encode(&header))));
        target.refused("padded", target.signed(&format!("{}.{}", URL_SAFE.encode(&header), URL_SAFE.encode(&claims))));
        target.gets("the same, canonical", nick, GOOD);
    });
}

/// Texts that end in other bits than `part`, but that a lenient decoder reads as the same bytes.
fn other_spellings(part: &str) -> Vec<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let spare = match part.len() % 4 {
        2 => 4,
        3 => 2,
        _ => 0,
    };
    let (start, last) = part.split_at(part.len() - 1);
    let value = ALPHABET.iter().position(|letter| [*letter] == last.as_bytes()).expect("base64url");
    (1..1 << spare).map(|bits| format!("{start}{}", char::from(ALPHABET[value | bits]))).collect()
}

impl Target {
    #[track_caller]
    fn refused(&self, name: &str, token: String) {
        assert!(!verifies(self, &token), "{name}: {token}");
        if !token.contains(['\n', '\0']) {
            self.gets(name, &token, INVALID);
        }
    }
}

#[test]
fn token__signature_of_another_length() {
    Target::each(|target| {
        let [header, payload, signature] = split(&target.token);
        let good = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let lengths = [0, 1, 16, 31, 32, 33, 63, 64, 65, 128, 255, 256, 257, 1024];
        for length in lengths.into_iter().filter(|length| *length != good.len()) {
            for fill in [0_u8, 0xFF] {
                // As much of the right signature as fits.
                let mut bytes = good.clone();
                bytes.resize(length, fill);
                let signature = URL_SAFE_NO_PAD.encode(bytes);
                target.gets(&format!("{length} bytes"), &format!("{header}.{payload}.{signature}"), INVALID);
            }
        }
        for byte in [0, 1, 0x7F, 0xFF] {
            let filled = URL_SAFE_NO_PAD.encode(vec![byte; good.len()]);
            target.gets(&format!("all {byte}"), &format!("{header}.{payload}.{filled}"), INVALID);
        }
        let reversed: Vec<u8> = good.iter().rev().copied().collect();
        target.gets("reversed", &format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(reversed)), INVALID);
        let hex: String = good.iter().map(|byte| format!("{byte:02x}")).collect();
        target.gets("hexadecimal", &format!("{header}.{payload}.{hex}"), INVALID);
    });
}

#[test]
fn token__not_three_parts() {
    Target::each(|target| {
        target.refuses(&[
            ("one part", |t| split(&t.token)[0].into()),
            ("two parts", |t| split(&t.token)[..2].join(".")),
            ("no signature", |t| format!("{}.", split(&t.token)[..2].join("."))),
            ("four parts", |t| format!("{}.e30", t.token)),
            ("four parts, the last empty", |t| format!("{}.", t.token)),
            ("four parts, the first empty", |t| format!(".{}", t.token)),
            ("four parts, signed so", |t| t.signed(&format!("{}.e30", split(&t.token)[..2].join(".")))),
            ("no payload", |t| t.signed(&format!("{}.", split(&t.token)[0]))),
            ("no header", |t| t.signed(&format!(".{}", split(&t.token)[1]))),
            ("dots only", |_| "..".into()),
            ("one dot", |_| ".".into()),
            ("five dots", |_| ".....".into()),
            ("detached payload", |t| format!("{}..{}", split(&t.token)[0], split(&t.token)[2])),
            ("JWE", |t| {
                let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM","typ":"at+jwt"}"#);
                format!("{header}..AAAAAAAAAAAAAAAA.{}.AAAAAAAAAAAAAAAAAAAAAA", split(&t.token)[1])
            }),
            ("JWE with a key", |t| {
                let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RSA-OAEP","enc":"A128CBC-HS256"}"#);
                format!("{header}.AAAA.BBBB.{}.CCCC", split(&t.token)[1])
            }),
            ("JSON, flattened", |t| {
                let [header, payload, signature] = split(&t.token);
                json!({"protected": header, "payload": payload, "signature": signature}).to_string()
            }),
            ("JSON, general", |t| {
                let [header, payload, signature] = split(&t.token);
                json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]}).to_string()
            }),
            ("twice", |t| format!("{}.{}", t.token, t.token)),
            ("twice with a comma", |t| format!("{},{}", t.token, t.token)),
            ("in quotes", |t| format!("\"{}\"", t.token)),
            ("percent-encoded dots", |t| t.token.replace('.', "%2E")),
            ("in capitals", |t| t.token.to_uppercase()),
            ("reversed", |t| t.token.chars().rev().collect()),
            ("not a token", |_| "undefined".into()),
            ("the client's secret", |t| t.domain.secret.clone()),
            ("the client's id", |t| t.domain.id.clone()),
        ])
    });
}

#[test]
fn token__too_large() {
    let target = Target::new();
    let (header, claims) = texts(&target.token);
    let of_length = |length: usize| {
        let grown = |filler: usize| {
            let changed = append(&claims, &format!("\"x\":\"{}\"", "a".repeat(filler)));
            target.mint(&header, &changed)
        };
        let near = grown((length - grown(0).len()) * 3 / 4);
        assert!((length - 2..=length).contains(&near.len()), "{}", near.len());
        near
    };
    target.gets("8 KiB", &of_length(8 * 1024), GOOD);
    target.gets("a little over 8 KiB", &of_length(8 * 1024 + 3), INVALID);
    target.gets("15 KiB", &of_length(15 * 1024), INVALID);

    let keys: Vec<String> = (0..100_000).map(|number| format!("\"k{number}\":0")).collect();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for (name, header) in [
        ("100,000 members", append(&header, &keys.join(","))),
        ("nested 10,000 deep", append(&header, &format!("\"x\":{deep}"))),
        ("a long kid", header.replace("\"kid\":\"", &format!("\"kid\":\"{}", "k".repeat(1 << 20)))),
    ] {
        let token = target.mint(&header, &claims);
        assert!(!verifies(&target, &token), "{name}");
        let request = format!("GET /v1/test HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\n\r\n");
        let replies = raw(&target.gate, request.as_bytes());
        assert!(replies.iter().all(|reply| matches!(reply.status, 400 | 401 | 431)), "{name}: {replies:?}");
        target.gets("the good token", &target.token, GOOD);
    }
}

#[test]
fn token__random_string() {
    let target = Target::new();
    let header = texts(&target.token).0;
    let json = "[ -~]{0,40}|\\{\"[a-z]{1,4}\":[0-9\"\\[\\{]{0,8}[\\]\\}]{0,3}\\}";
    let texts = prop_oneof![
        ".*",
        "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,43}",
        (json, json).prop_map(|(header, claims)| mint_with(&header, &claims, JWT_SECRET.as_bytes())),
        json.prop_map(move |claims| mint_with(&header, &claims, JWT_SECRET.as_bytes())),
    ];
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }, |(text in texts)| {
        prop_assert!(!verifies(&target, &text), "{text}");
    });
}

/// The same over HTTP: every byte that a header value can hold.
#[test]
fn authorization_header__any_byte_is_handled() {
    let target = Target::new();
    let answers = |gate: &Gate, value: &[u8]| {
        let head = b"GET /v1/test HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nAuthorization: ";
        raw(gate, &[&head[..], value, b"\r\n\r\n"].concat())
    };
    for byte in [0_u8, 1, 8, 11, 12, 27, 31, 127, 128, 129, 160, 192, 193, 224, 245, 254, 255] {
        let token = target.token.as_bytes();
        for value in [
            vec![byte],
            [b"Bearer ", &[byte][..]].concat(),
            [b"Bearer ", token, &[byte]].concat(),
            [b"Bearer ", &[byte][..], token].concat(),
            [b"Bearer", &[byte][..], token].concat(),
            [&token[..20], &[byte], &token[20..]].concat(),
        ] {
            let replies = answers(&target.gate, &value);
            assert_eq!(replies.len(), 1, "{byte}: {replies:?}");
            assert!(matches!(replies[0].status, 400 | 401), "{byte}: {replies:?}");
        }
    }
    assert_eq!(answers(&target.gate, format!("Bearer {}", target.token).as_bytes())[0].status, 200);
}
