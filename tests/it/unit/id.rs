//! The text forms of ids.

use gatebird::id::{DomainId, PostId, SecretId, TokenId};

#[test]
fn domain_id__random_one_parses_to_itself() {
    for _ in 0..100 {
        let id = DomainId::random();
        assert_eq!(DomainId::parse(id.as_str()), Some(id));
    }
}

#[test]
fn domain_id__other_forms_are_refused() {
    for text in [
        "",
        "dom_",
        "dom_short",
        "DOM_0123456789ABCDEFGHIJkl",
        "dom_0123456789ABCDEFGHIJk%",
        "dom_0123456789ABCDEFGHIJklm",
    ] {
        assert_eq!(DomainId::parse(text), None, "{text}");
    }
}

#[test]
fn token_id__has_one_spelling() {
    let id = TokenId::random();
    let text = id.to_string();
    assert_eq!(TokenId::parse(&text), Some(id));
    for other in [&text[1..], &format!("{text}0"), &format!("+{}", &text[1..]), &"A".repeat(32), &"g".repeat(32), ""] {
        assert_eq!(TokenId::parse(other), None, "{other}");
    }
}

#[test]
fn row_ids__have_one_spelling() {
    let parse = |text: &str| (PostId::parse(text).map(PostId::get), SecretId::parse(text).map(SecretId::get));
    for known in [1, 7, i64::MAX] {
        assert_eq!(parse(&known.to_string()), (Some(known), Some(known)));
    }
    // Rows count from 1.
    for text in ["", "0", "-0", "-1", "+7", "07", "00", "7.0", "7 ", " 7", "1e1", "9223372036854775808", "٧"] {
        assert_eq!(parse(text), (None, None), "{text}");
    }
}
