//! Usernames and nicks: which are allowed, and which look alike. The rules for characters, scripts and look-alikes are
//! those of UTS #39.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use compact_str::CompactString;
use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_security::general_security_profile::IdentifierType;
use unicode_security::{GeneralSecurityProfile, MixedScript, skeleton};

use crate::id::UserId;
use crate::locale::Message;

/// Characters that a username may contain beside letters, digits and marks.
const PUNCTUATION: &str = "._-+@";

/// An invisible symbol.
const BLANK_BRAILLE: char = '\u{2800}';

/// The name by which a user signs in: 3 to 40 characters, which are letters of one script, digits or `. _ - + @`. It
/// does not look like a public id. A name that is not ASCII does not look like an ASCII name. Usernames are unique
/// ignoring case.
pub(crate) struct Username(String);

impl Username {
    pub(crate) fn parse(text: &str) -> Result<Username, Message> {
        let text = nfc(text);
        if !has_good_length(&text, 3) {
            return Err(Message::UsernameLength);
        }
        if !Username::is_spelled(&text) {
            return Err(Message::UsernameCharacter);
        }
        if !text.as_ref().is_single_script() {
            return Err(Message::UsernameScripts);
        }
        if looks_like_id(&appearance(&text)) {
            return Err(Message::UsernameIsId);
        }
        // Lower-case letters may look like ASCII where their capitals do not, and the reverse.
        if !text.is_ascii() && [&*text, &fold_case(&text)].iter().any(|text| skeleton(text).all(|part| part.is_ascii()))
        {
            return Err(Message::UsernameLookalike);
        }
        Ok(Username(text.into_owned()))
    }

    /// Whether a text consists of characters that a username may contain.
    pub(crate) fn is_spelled(text: &str) -> bool {
        let text = nfc(text);
        let mut before = '.';
        text.chars().all(|character| {
            let carries = !PUNCTUATION.contains(std::mem::replace(&mut before, character));
            PUNCTUATION.contains(character)
                || character.identifier_type() == Some(IdentifierType::Recommended)
                    && (carries || !GeneralCategoryGroup::Mark.contains(category(character)))
        })
    }

    /// The key by which a username is unique: lower case for ASCII, and otherwise a form that all look-alikes share.
    pub(crate) fn key(text: &str) -> String {
        let text = nfc(text);
        if text.is_ascii() { text.to_ascii_lowercase() } else { skeleton(&fold_case(&text)).collect() }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// A user's display name: 1 to 40 visible characters of any script, normalised (NFKC).
pub(crate) struct Nick(String);

impl Nick {
    pub(crate) fn parse(text: &str) -> Result<Nick, Message> {
        let nick = plain(text);
        let separators = GeneralCategoryGroup::LineSeparator.union(GeneralCategoryGroup::ParagraphSeparator);
        let control = GeneralCategoryGroup::Other.union(separators);
        if nick.chars().any(|character| control.contains(category(character))) {
            return Err(Message::NickCharacter);
        }
        let nick = nick.trim();
        if has_good_length(nick, 1) { Ok(Nick(nick.to_owned())) } else { Err(Message::NickLength) }
    }

    /// Makes a nick of a text from another system; `None` if nothing usable is left.
    pub(crate) fn cleaned(text: &str) -> Option<Nick> {
        let cleaned: String = text.chars().filter(|character| !character.is_control()).take(40).collect();
        Nick::parse(&cleaned).ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// A stored username or nick.
#[derive(Clone, Debug)]
pub struct Name {
    /// Short texts, as most are, need no allocation.
    text: CompactString,
    /// Tokens may contain it.
    is_public: bool,
}

impl Name {
    /// The name as tokens contain it. The user's public id replaces a name that may be an e-mail address or looks like
    /// a public id.
    pub fn in_tokens(&self, id: UserId) -> Cow<'_, str> {
        if self.is_public { Cow::Borrowed(&self.text) } else { Cow::Owned(id.to_string()) }
    }
}

impl From<String> for Name {
    fn from(text: String) -> Name {
        let appearance = appearance(&text);
        Name { is_public: !appearance.contains('@') && !looks_like_id(&appearance), text: text.into() }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn nfc(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

fn fold_case(text: &str) -> Cow<'_, str> {
    CaseMapper::new().fold_string(text)
}

fn has_good_length(text: &str, min: usize) -> bool {
    (min..=40).contains(&text.chars().count())
}

fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}

/// Removes invisible characters, and normalises the others (NFKC).
fn plain(text: &str) -> String {
    let invisible = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let is_visible = |character: &char| *character != BLANK_BRAILLE && !invisible.contains(*character);
    let visible: String = text.chars().filter(is_visible).collect();
    ComposingNormalizerBorrowed::new_nfkc().normalize(&visible).into_owned()
}

/// The appearance of a text: texts that look alike have the same one. A digit of any script becomes 0.
fn appearance(text: &str) -> String {
    let plain = plain(text);
    let digits_alike: String = plain.chars().map(|part| if part.is_numeric() { '0' } else { part }).collect();
    skeleton(&digits_alike).collect()
}

/// Whether an appearance is that of a user's public id, such as `usr_7`.
fn looks_like_id(appearance: &str) -> bool {
    // O looks like 0, and l like 1.
    let like_digit = |part: char| part.is_ascii_digit() || "Ool".contains(part);
    appearance.split_at_checked(4).is_some_and(|(start, digits)| {
        start.eq_ignore_ascii_case("usr_") && !digits.is_empty() && digits.chars().all(like_digit)
    })
}
