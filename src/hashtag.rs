//! Hashtags: how they are found in a text, and their canonical form, which different spellings share.

use std::collections::HashSet;

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use unicode_ident::{is_xid_continue, is_xid_start};

/// A hashtag's title without the `#`, in its canonical form: NFC, full case folding, NFC again.
///
/// So `#Straße` and `#STRASSE` are the same tag, and so are composed and decomposed Hangul.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hashtag(String);

impl Hashtag {
    /// Parses a title, with or without one leading `#`. `None` if no text can contain this tag: the title is empty, or
    /// has a character that ends a hashtag.
    pub fn parse(title: &str) -> Option<Hashtag> {
        let title = title.strip_prefix('#').unwrap_or(title);
        let whole = !title.is_empty() && leading_title(title) == title;
        whole.then(|| Hashtag::fold(title))
    }

    /// The title in its canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn fold(title: &str) -> Hashtag {
        let nfc = ComposingNormalizerBorrowed::new_nfc();
        let folded = CaseMapper::new().fold_string(&nfc.normalize(title)).into_owned();
        Hashtag(nfc.normalize(&folded).into_owned())
    }
}

/// All hashtags of a text, each once, in order of first appearance.
///
/// A hashtag is `#` and the letters, digits, marks and underscores of any script that follow. It begins with a letter,
/// digit or underscore. Zero-width joiners between two such characters belong to it, since Persian and Indic spelling
/// needs them. Any other character ends it: white space, punctuation, a symbol, an emoji or the next `#`.
pub fn hashtags(content: &str) -> Vec<Hashtag> {
    let mut seen = HashSet::new();
    content
        .split('#')
        .skip(1)
        .map(leading_title)
        .filter(|title| !title.is_empty())
        .map(Hashtag::fold)
        .filter(|tag| seen.insert(tag.clone()))
        .collect()
}

/// The longest title that `text` begins with, perhaps empty.
fn leading_title(text: &str) -> &str {
    // A leading mark belongs to the `#` itself, as in the keycap emoji, and NFC may move it.
    if !text.starts_with(|c: char| c == '_' || c.is_numeric() || is_xid_start(c)) {
        return "";
    }
    let mut end = 0;
    for (at, c) in text.char_indices() {
        if is_joiner(c) {
            // A joiner is kept only if a character of the title follows and moves `end` past it.
            if end != at {
                break;
            }
        } else if c.is_numeric() || is_xid_continue(c) {
            end = at + c.len_utf8();
        } else {
            break;
        }
    }
    &text[..end]
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}')
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use proptest::prelude::*;

    use super::{Hashtag, hashtags, leading_title};

    fn found(content: &str) -> Vec<String> {
        hashtags(content).into_iter().map(|tag| tag.0).collect()
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
    fn fold__every_character_has_one_form() {
        // The other planes have only ideographs that do not change, and no letters.
        for c in (char::MIN..='\u{1ffff}').chain('\u{2f800}'..='\u{2fa1f}') {
            for title in [c.to_string(), format!("α{c}\u{301}")] {
                if leading_title(&title) == title {
                    let tag = Hashtag::fold(&title);
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
}
