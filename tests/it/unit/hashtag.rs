//! Hashtags in a text, and their canonical form.

use gatebird::hashtag::{Hashtag, hashtags};
use proptest::prelude::*;

fn found(content: &str) -> Vec<String> {
    hashtags(content).iter().map(|tag| tag.as_str().to_owned()).collect()
}

#[test]
fn hashtags__found_in_content() {
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        ("no tags here", &[]),
        ("#rust", &["rust"]),
        ("see #rust, #web_dev and #2026!", &["rust", "web_dev", "2026"]),
        ("before#after", &["after"]),
        ("#a#b", &["a", "b"]),
        ("##a", &["a"]),
        ("#", &[]),
        ("# a", &[]),
        ("#!a", &[]),
        ("a #", &[]),
        ("#_", &["_"]),
        ("#a-b", &["a"]),
        ("#a.b", &["a"]),
        ("(#a)", &["a"]),
        ("#a\u{a0}b", &["a"]),
        ("#a\u{3000}b", &["a"]),
        ("#a\nb", &["a"]),
        ("#a\0b", &["a"]),
        // Each tag once, by its canonical form, in order of first appearance.
        ("#b #a #B #a #b", &["b", "a"]),
        ("#Straße #STRASSE #strasse", &["strasse"]),
        ("#Café #cafe\u{301} #CAFÉ", &["café"]),
        ("#ΣΊΣΥΦΟΣ #σίσυφος", &["σίσυφοσ"]),
        ("#α\u{345}\u{301} #α\u{301}\u{345}", &["άι"]),
        // Any script, with its marks.
        ("#여행 #\u{110b}\u{1167}\u{1112}\u{1162}\u{11bc}", &["여행"]),
        ("#東京。 #カラオケ、#ありがとう!", &["東京", "カラオケ", "ありがとう"]),
        ("#ศุกร์", &["ศุกร์"]),
        ("#हिन्दी", &["हिन्दी"]),
        ("#עִבְרִית", &["עִבְרִית"]),
        ("#x² #½", &["x²", "½"]),
        ("#\u{301}a", &[]),
        ("#\u{81b}\u{11a47}", &[]), // marks that NFC reorders
        // Joiners between characters only.
        ("#می\u{200c}خواهم", &["می\u{200c}خواهم"]),
        ("#a\u{200d}", &["a"]),
        ("#\u{200d}a", &[]),
        ("#a\u{200d}\u{200d}b", &["a"]),
        // Emoji and other symbols end a hashtag; invisible characters do too.
        ("#😀", &[]),
        ("#fun😀x", &["fun"]),
        ("#\u{fe0f}\u{20e3}", &[]),
        ("#aⒶ", &["a"]),
        ("#a\u{200b}b", &["a"]),
        ("#a\u{202e}b", &["a"]),
    ];
    for (content, tags) in table {
        assert_eq!(found(content), *tags, "{content:?}");
    }
}

#[test]
fn parse__titles_of_urls() {
    for (title, tag) in [
        ("rust", Some("rust")),
        ("#rust", Some("rust")),
        ("RUST", Some("rust")),
        ("STRASSE", Some("strasse")),
        ("\u{110b}\u{1167}\u{1112}\u{1162}\u{11bc}", Some("여행")),
        ("", None),
        ("#", None),
        ("##rust", None),
        ("ru st", None),
        (" rust", None),
        ("rust ", None),
        ("rust#", None),
        ("rust\0", None),
        ("rust%", None),
        ("rust\u{200d}", None),
    ] {
        assert_eq!(Hashtag::parse(title).as_ref().map(Hashtag::as_str), tag, "{title:?}");
    }
}

/// The canonical form must be a title, and its own canonical form.
#[test]
fn parse__every_character_has_one_form() {
    // The other planes have only ideographs that do not change, and no letters.
    for c in (char::MIN..='\u{1ffff}').chain('\u{2f800}'..='\u{2fa1f}') {
        for title in [c.to_string(), format!("α{c}\u{301}")] {
            if let Some(tag) = Hashtag::parse(&title) {
                assert_eq!(Hashtag::parse(tag.as_str()), Some(tag), "{title:?}");
            }
        }
    }
}

fn assert_stable(content: &str) {
    let tags = hashtags(content);
    for tag in &tags {
        assert!(!tag.as_str().contains(|c: char| c.is_whitespace() || c == '#'), "{tag:?}");
        assert_eq!(Hashtag::parse(tag.as_str()).as_ref(), Some(tag), "{content:?}");
    }
    let rewritten: String = tags.iter().map(|tag| format!("#{} ", tag.as_str())).collect();
    assert_eq!(hashtags(&rewritten), tags, "{content:?}");
}

proptest! {
    #[test]
    fn hashtags__any_content(content in any::<String>()) {
        assert_stable(&content);
    }

    #[test]
    fn hashtags__content_full_of_tags(content in r"([# ]?[\p{L}\p{M}\p{N}_\u{200d}]{0,3}){0,20}") {
        assert_stable(&content);
    }
}
