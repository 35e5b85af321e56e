//! IDNA2008: the characters that a label may contain (RFC 5892). UTS #46 accepts more, such as the fraction slash and
//! emoji.

use icu_normalizer::uts46::Uts46MapperBorrowed;
use icu_properties::props::{GeneralCategory as Category, HangulSyllableType as Hangul, Script};
use icu_properties::{CodePointMapData, CodePointMapDataBorrowed};

const CATEGORY: CodePointMapDataBorrowed<'static, Category> = CodePointMapData::<Category>::new();
const HANGUL: CodePointMapDataBorrowed<'static, Hangul> = CodePointMapData::<Hangul>::new();
const SCRIPT: CodePointMapDataBorrowed<'static, Script> = CodePointMapData::<Script>::new();

/// Whether a U-label has only characters that it may contain. UTS #46 checks leading marks, joiners and directions instead.
pub(super) fn is_allowed(label: &str) -> bool {
    let characters: Vec<char> = label.chars().collect();
    (0..characters.len()).all(|at| is_allowed_at(&characters, at))
}

/// Whether the character at `at` is valid, alone or in its context (RFC 5892 §2.6, §2.7, §3, appendix A).
fn is_allowed_at(label: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| label[before]);
    let after = label.get(at + 1).copied();
    let is_of = |c: Option<char>, script| c.is_some_and(|c| SCRIPT.get(c) == script);
    let has = |digits: std::ops::RangeInclusive<char>| label.iter().any(|c| digits.contains(c));
    match label[at] {
        c if c.is_ascii() => c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
        'ß' | 'ς' | '\u{6FD}' | '\u{6FE}' | '\u{F0B}' | '〇' => true,
        '\u{640}' | '\u{7FA}' | '\u{302E}' | '\u{302F}' | '\u{3031}'..='\u{3035}' | '\u{303B}' => false,
        // UTS #46 checks the context of joiners.
        '\u{200C}' | '\u{200D}' => true,
        '·' => before == Some('l') && after == Some('l'),
        '\u{375}' => is_of(after, Script::Greek),
        '\u{5F3}' | '\u{5F4}' => is_of(before, Script::Hebrew),
        '・' => label.iter().any(|&c| matches!(SCRIPT.get(c), Script::Hiragana | Script::Katakana | Script::Han)),
        '\u{660}'..='\u{669}' => !has('\u{6F0}'..='\u{6F9}'),
        '\u{6F0}'..='\u{6F9}' => !has('\u{660}'..='\u{669}'),
        // Marks for symbols and for music.
        '\u{20D0}'..='\u{20FF}' | '\u{1D100}'..='\u{1D24F}' => false,
        c => is_stable(c) && is_letter_or_digit(c) && !is_old_hangul(c),
    }
}

/// Whether UTS #46 keeps the character unchanged.
pub(super) fn is_stable(c: char) -> bool {
    Uts46MapperBorrowed::new().map_normalize([c].into_iter()).eq([c])
}

fn is_letter_or_digit(c: char) -> bool {
    use Category as C;
    matches!(
        CATEGORY.get(c),
        C::UppercaseLetter
            | C::LowercaseLetter
            | C::OtherLetter
            | C::ModifierLetter
            | C::NonspacingMark
            | C::SpacingMark
            | C::DecimalNumber
    )
}

/// Whether the character is a part of a Hangul syllable, which can make a syllable look like another one.
fn is_old_hangul(c: char) -> bool {
    matches!(HANGUL.get(c), Hangul::LeadingJamo | Hangul::VowelJamo | Hangul::TrailingJamo)
}
