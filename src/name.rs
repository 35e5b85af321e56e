//! Names that people choose: what may be one, and which of them look alike. The rules for characters, scripts and look-alikes
//! are those of UTS 39.

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

/// What a username may have beside letters, digits and marks.
const PUNCTUATION: &str = "._-+@";

/// A symbol that shows nothing.
const BLANK_BRAILLE: char = '\u{2800}';

/// A user's name, by which the user signs in: 3 to 40 letters of one script, digits or `. _ - + @`. It looks neither like an id
/// nor, unless it is one, like a name in ASCII. Unique without regard to case.
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
        if looks_like_id(&look(&text)) {
            return Err(Message::UsernameIsId);
        }
        // Its small letters may look like ASCII where its capitals do not, and the reverse.
        if !text.is_ascii() && [&*text, &fold_case(&text)].iter().any(|text| skeleton(text).all(|part| part.is_ascii()))
        {
            return Err(Message::UsernameLookalike);
        }
        Ok(Username(text.into_owned()))
    }

    /// Whether a text has only characters that a name may have.
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

    /// The form under which it is unique: of ASCII in small letters, of others the one form of all that look like it.
    pub(crate) fn key(text: &str) -> String {
        let text = nfc(text);
        match text.is_ascii() {
            true => text.to_ascii_lowercase(),
            false => skeleton(&fold_case(&text)).collect(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// How a user wants to be called: 1 to 40 characters of any script, without invisible ones and in their plain form (NFKC).
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
        match has_good_length(nick, 1) {
            true => Ok(Nick(nick.to_owned())),
            false => Err(Message::NickLength),
        }
    }

    /// What a nick can be made of in a text of another system; `None` if there is nothing in it.
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

/// A username or nick as it is stored, and whether servers of domains may read it.
#[derive(Clone, Debug)]
pub struct Name {
    /// Inline where it is short, as most are.
    text: CompactString,
    is_public: bool,
}

impl Name {
    /// As tokens carry it: a name that may be an e-mail address, or that looks like a public id, is replaced by the public id.
    pub fn in_tokens(&self, id: UserId) -> Cow<'_, str> {
        match self.is_public {
            true => Cow::Borrowed(&self.text),
            false => Cow::Owned(id.to_string()),
        }
    }
}

impl From<String> for Name {
    fn from(text: String) -> Name {
        let look = look(&text);
        Name { is_public: !look.contains('@') && !looks_like_id(&look), text: text.into() }
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

fn has_good_length(text: &str, least: usize) -> bool {
    (least..=40).contains(&text.chars().count())
}

fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}

/// Without what nobody sees, and without other forms of the same characters.
fn plain(text: &str) -> String {
    let invisible = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let is_visible = |character: &char| *character != BLANK_BRAILLE && !invisible.contains(*character);
    let visible: String = text.chars().filter(is_visible).collect();
    ComposingNormalizerBorrowed::new_nfkc().normalize(&visible).into_owned()
}

/// What a text looks like: texts that look alike have the same look. A digit of any script looks like 0.
fn look(text: &str) -> String {
    let plain = plain(text);
    let digits_alike: String = plain.chars().map(|part| if part.is_numeric() { '0' } else { part }).collect();
    skeleton(&digits_alike).collect()
}

/// Whether a look is that of a user's public id, such as `usr_7`.
fn looks_like_id(look: &str) -> bool {
    // O looks like 0, and l like 1.
    let like_digit = |part: char| part.is_ascii_digit() || "Ool".contains(part);
    look.split_at_checked(4).is_some_and(|(start, digits)| {
        start.eq_ignore_ascii_case("usr_") && !digits.is_empty() && digits.chars().all(like_digit)
    })
}
