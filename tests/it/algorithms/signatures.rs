//! Signatures at the edges of each algorithm. Tests that are the same for every algorithm (lengths, single bits,
//! encodings) are in [`crate::forgery`].

use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatebird::config::Algorithm;

use super::decoded;
use crate::forgery::signer::{Signer, with_signature};
use crate::forgery::{GOOD, INVALID, REVOKED, Target, split};

/// The order of P-256.
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
/// The order of Ed25519's base point.
const ED25519_ORDER: &str = "1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed";

fn hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The sum of two big-endian numbers of equal length; `None` on overflow.
fn plus(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0_u16;
    let mut sum: Vec<u8> = Vec::new();
    for (a, b) in a.iter().zip(b).rev() {
        carry += u16::from(*a) + u16::from(*b);
        sum.insert(0, carry as u8);
        carry >>= 8;
    }
    (carry == 0).then_some(sum)
}

/// The difference of two numbers of equal length. The first must be the larger.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let complement: Vec<u8> = b.iter().map(|byte| !byte).collect();
    let mut one = vec![0; a.len()];
    one[a.len() - 1] = 1;
    // a - b is a + !b + 1 without the carry, which the extra highest byte absorbs.
    let wide = |number: &[u8]| [&[0], number].concat();
    let sum = plus(&plus(&wide(a), &wide(&complement)).expect("fits"), &wide(&one)).expect("fits");
    assert_eq!(sum[0], 1, "the first is the larger");
    sum[1..].into()
}

/// The signed part of a token, and its signature.
fn signed(token: &str) -> (String, Vec<u8>) {
    let [header, payload, signature] = split(token);
    (format!("{header}.{payload}"), decoded(signature))
}

impl Target {
    /// A good token with such a signature. Each try makes another token.
    fn token_with(&self, wanted: impl Fn(&[u8]) -> bool) -> String {
        let tries = 0..20_000_u32;
        let token = |number| self.with_claims(|claims| claims["jti"] = format!("{number:032x}").into());
        tries.map(token).find(|token| wanted(&signed(token).1)).expect("one in a few hundred tokens matches")
    }
}

/// A number in ASN.1 DER.
fn der_integer(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
    let mut number = number[start..].to_vec();
    if number[0] >= 0x80 {
        number.insert(0, 0);
    }
    [&[2, number.len() as u8][..], &number].concat()
}

#[test]
fn es256__r_and_s_must_be_in_range() {
    let target = Target::of(Algorithm::Es256);
    let (message, good) = signed(&target.token);
    let order = hex(P256_ORDER);
    let number = |small: u8| [vec![0; 31], vec![small]].concat();
    let edges = [number(0), number(1), minus(&order, &number(1)), order.clone()];
    for r in &edges {
        for s in &edges {
            target.gets(&format!("r {r:x?}, s {s:x?}"), &with_signature(&message, &[&r[..], s].concat()), INVALID);
        }
    }
    let (r, s) = good.split_at(32);
    let full = vec![0xFF; 32];
    for (name, signature) in [
        ("r of 0", [&edges[0][..], s].concat()),
        ("s of 0", [r, &edges[0]].concat()),
        ("r of n", [&order[..], s].concat()),
        ("s of n", [r, &order].concat()),
        ("r of all ones", [&full[..], s].concat()),
        ("s of all ones", [r, &full].concat()),
        ("r for s", [s, r].concat()),
        ("s twice", [s, s].concat()),
        ("r negated", [&minus(&order, r)[..], s].concat()),
        ("both negated", [&minus(&order, r)[..], &minus(&order, s)].concat()),
    ] {
        target.gets(name, &with_signature(&message, &signature), INVALID);
    }
    target.gets("the good token", &target.token, GOOD);
}

/// RFC 7518 §3.4: two numbers of 32 bytes each and nothing else.
#[test]
fn es256__only_the_fixed_length_encoding() {
    let target = Target::of(Algorithm::Es256);
    let (message, good) = signed(&target.token);
    let (r, s) = good.split_at(32);
    let numbers = [der_integer(r), der_integer(s)].concat();
    let der = [&[0x30, numbers.len() as u8][..], &numbers].concat();
    for (name, signature) in [
        ("DER", der.clone()),
        ("DER, filled up", [&der[..], &vec![0; 72 - der.len()]].concat()),
        ("with a length", [&[64][..], &good].concat()),
        ("each number with a zero before", [&[0][..], r, &[0], s].concat()),
        ("both behind zeroes", [&[0, 0][..], &good].concat()),
        ("little-endian", [r.iter().rev().copied().collect::<Vec<_>>(), s.iter().rev().copied().collect()].concat()),
    ] {
        target.gets(name, &with_signature(&message, &signature), INVALID);
    }
    let short = target.token_with(|signature| signature[0] == 0);
    let (message, good) = signed(&short);
    target.gets("r without its zero", &with_signature(&message, &good[1..]), INVALID);
    target.gets("r with its zero", &short, GOOD);
    let short = target.token_with(|signature| signature[32] == 0);
    let (message, good) = signed(&short);
    target.gets("s without its zero", &with_signature(&message, &[&good[..32], &good[33..]].concat()), INVALID);
    target.gets("s with its zero", &short, GOOD);
}

/// Anybody can turn an ECDSA signature (r, s) into (r, n - s). This is a property of ECDSA and gains nothing: a token
/// is identified by its `jti`, not by its bytes.
#[test]
fn es256__malleated_signature_is_the_same_token() {
    let target = Target::of(Algorithm::Es256);
    let twin = |token: &str| {
        let (message, good) = signed(token);
        let (r, s) = good.split_at(32);
        with_signature(&message, &[r, &minus(&hex(P256_ORDER), s)].concat())
    };
    let (original, other) = (&target.token, target.gate.access_token(&target.domain));
    let [twin_of_original, twin_of_other] = [original, &other].map(|token| twin(token));
    assert_ne!(&twin_of_original, original);
    target.gets("the twin", &twin_of_original, GOOD);
    target.gets("the original", original, GOOD);
    target.gets("the twin of the twin", &twin(&twin_of_original), GOOD);
    assert_eq!(&twin(&twin_of_original), original);

    target.revoke(original);
    target.gets("the revoked original", original, REVOKED);
    target.gets("its twin, which was seen before", &twin_of_original, REVOKED);
    // The other way around, with a twin that the server has not seen.
    target.gets("another", &other, GOOD);
    target.revoke(&twin_of_other);
    target.gets("it after its twin was revoked", &other, REVOKED);
    target.gets("the twin", &twin_of_other, REVOKED);
}

/// RFC 8032 §5.1.7 and §8.4: S must be below the order, and a point of small order proves nothing.
#[test]
fn ed25519__s_below_the_order_and_no_small_order_point() {
    let target = Target::of(Algorithm::EdDsa);
    let Signer::EdDsa(key) = &target.key else { panic!("EdDSA") };
    let (message, good) = signed(&target.token);
    let (r, s) = good.split_at(32);
    let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
    let order = hex(ED25519_ORDER);
    // The same number modulo the order, as often as it fits into 32 bytes.
    let mut sum = reversed(s);
    let mut larger = 0;
    while let Some(next) = plus(&sum, &order) {
        sum = next;
        larger += 1;
        let signature = [r, &reversed(&sum)].concat();
        target.gets(&format!("S + {larger} L"), &with_signature(&message, &signature), INVALID);
    }
    assert!(larger >= 14, "{larger}");
    let (zero, order) = (vec![0; 32], reversed(&order));
    let below = reversed(&minus(&reversed(&order), &[vec![0; 31], vec![1]].concat()));
    for (name, s) in [("0", &zero), ("L", &order), ("L - 1", &below)] {
        target.gets(&format!("S of {name}"), &with_signature(&message, &[r, s].concat()), INVALID);
    }
    let public = key.public_key().as_ref();
    for point in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        // The same points, with a coordinate that is not below the prime.
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        for (name, s) in [("0", &zero[..]), ("the right one", s)] {
            let signature = [&hex(point), s].concat();
            target.gets(&format!("R {point}, S {name}"), &with_signature(&message, &signature), INVALID);
        }
    }
    for (name, signature) in [
        ("R for S", [s, r].concat()),
        ("the key for R", [public, s].concat()),
        ("the key for S", [r, public].concat()),
        ("big-endian", [reversed(r), reversed(s)].concat()),
    ] {
        target.gets(name, &with_signature(&message, &signature), INVALID);
    }
    target.gets("the good token", &target.token, GOOD);
}

/// RFC 8017 §8.2.2: the signature has the length of the modulus and is below it.
#[test]
fn rs256__signature_below_the_modulus_and_of_its_length() {
    let target = Target::of(Algorithm::Rs256);
    let Signer::Rs256(key) = &target.key else { panic!("RS256") };
    let modulus = key.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let (message, good) = signed(&target.token);
    let number = |small: u8| [vec![0; 255], vec![small]].concat();
    for (name, signature) in [
        ("0", number(0)),
        ("1", number(1)),
        ("n - 1", minus(&modulus, &number(1))),
        ("n", modulus.clone()),
        ("all ones", vec![0xFF; 256]),
        ("negated", minus(&modulus, &good)),
        ("a zero before", [&[0][..], &good].concat()),
        ("a zero behind", [&good[..], &[0]].concat()),
        ("twice", [&good[..], &good].concat()),
        ("little-endian", good.iter().rev().copied().collect()),
    ] {
        target.gets(name, &with_signature(&message, &signature), INVALID);
    }
    let short = target.token_with(|signature| signature[0] == 0);
    let (message, good) = signed(&short);
    target.gets("without its zero", &with_signature(&message, &good[1..]), INVALID);
    target.gets("with its zero", &short, GOOD);
    // A number this small plus the modulus still has 256 bytes.
    let larger = plus(&good, &modulus).expect("fits");
    target.gets("n more", &with_signature(&message, &larger), INVALID);
}

#[test]
fn test_arithmetic__big_integers_and_der() {
    let (one, order) = ([vec![0; 31], vec![1]].concat(), hex(P256_ORDER));
    let below = minus(&order, &one);
    assert_eq!(below[31], 0x50);
    assert_eq!(plus(&below, &one).as_deref(), Some(&order[..]));
    assert_eq!(minus(&order, &below), one);
    assert_eq!(plus(&[0xFF, 0xFF], &[0, 1]), None);
    assert_eq!(der_integer(&[0, 0x80]), [2, 2, 0, 0x80]);
    assert_eq!(URL_SAFE_NO_PAD.encode(der_integer(&[0, 0])), "AgEA");
}
