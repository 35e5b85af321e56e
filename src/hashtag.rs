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
