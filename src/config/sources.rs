//! The sources of settings: the environment, files that it names, and `.env` in the working directory.

use std::cell::Cell;
use std::env::VarError;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The settings whose value is never shown. `KEY_FILE` can name a file with the value.
pub(super) const SECRETS: [&str; 3] = ["DATABASE_URL", "JWT_SECRET", "JWT_SECRET_PREVIOUS"];

/// The similarity from which an unknown key counts as a misspelling of a setting. 1 is equality.
const MIN_SIMILARITY: f64 = 0.6;

/// Replaces `$` while dotenvy parses `.env`. No text has this character (see [`text_of`]).
const DOLLAR: &str = "\0";

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The default of the setting.
    Default,
    /// The environment of the process.
    Environment,
    /// A line of `.env`, counted from 1.
    EnvFile(usize),
    /// The file that `KEY_FILE` names.
    File(PathBuf),
}

impl Source {
    /// The name for `check-config`, without the line.
    pub fn name(&self) -> String {
        match self {
            Source::Default => "default".to_owned(),
            Source::Environment => "environment".to_owned(),
            Source::EnvFile(_) => ".env".to_owned(),
            Source::File(path) => format!("file {}", path.display()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::EnvFile(line) => write!(f, ".env, line {line}"),
            source => f.write_str(&source.name()),
        }
    }
}

/// An unparsed value.
pub(super) struct RawValue {
    /// The text, or the reason why it cannot be read.
    pub(super) text: Result<String, String>,
    pub(super) source: Source,
}

impl RawValue {
    fn is_empty(&self) -> bool {
        self.text.as_ref().is_ok_and(String::is_empty)
    }
}

/// A setting in `.env`.
struct Entry {
    key: String,
    value: String,
    line: usize,
}

/// The environment and `.env`. The environment takes precedence and is not modified.
#[derive(Default)]
pub(super) struct Sources {
    entries: Vec<Entry>,
    /// The invalid lines of `.env`, each with the text before its `=`.
    invalid_lines: Vec<(usize, String)>,
    /// The reason why `.env` as a whole cannot be read.
    unreadable: Option<String>,
}

impl Sources {
    /// Reads `.env` in the working directory, if it exists.
    pub(super) fn read() -> Sources {
        let text = match fs::read(".env") {
            // A dangling symbolic link is a mistake, not an absent file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !Path::new(".env").is_symlink() => {
                return Sources::default();
            }
            bytes => text_of(bytes),
        };
        match text {
            Ok(text) => Sources::parse(text),
            Err(problem) => Sources { unreadable: Some(format!(".env {problem}")), ..Sources::default() },
        }
    }

    fn parse(text: String) -> Sources {
        // dotenvy would substitute `$NAME`. It reads `\$` as a plain `$`.
        let mut text = text.replace('$', DOLLAR).replace("\\\0", "\\$");
        // Without a final newline, dotenvy takes a trailing blank for a continued line.
        text.push('\n');
        let lines: Vec<&str> = text.lines().collect();
        let taken = Cell::new(0);
        let mut entries = dotenvy::from_read_iter(LineByLine { rest: text.as_bytes(), taken: &taken });
        let mut sources = Sources::default();
        loop {
            let before = taken.get();
            let Some(entry) = entries.next() else { return sources };
            let is_setting = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
            let line = before + lines[before..].iter().take_while(|line| !is_setting(line)).count();
            match entry {
                Ok((key, value)) => {
                    sources.entries.push(Entry { key, value: value.replace(DOLLAR, "$"), line: line + 1 });
                }
                // The error quotes the line, which may have a secret.
                Err(_) => sources.invalid_lines.push((line + 1, key_of(lines.get(line).copied().unwrap_or_default()))),
            }
        }
    }

    /// The value of a setting. The environment takes precedence over `.env`. `KEY` and `KEY_FILE` have equal
    /// precedence: both in the same source are an error.
    pub(super) fn find(&self, key: &str) -> Option<RawValue> {
        let value = self.value(key);
        let file_key = format!("{key}_FILE");
        let file = self.value(&file_key).filter(|file| SECRETS.contains(&key) && !file.is_empty());
        let Some(file) = file else { return value };
        match value.filter(|value| !value.is_empty()) {
            Some(value) if file.source == Source::Environment && value.source != file.source => Some(read_file(file)),
            Some(value) if value.source == Source::Environment && value.source != file.source => Some(value),
            Some(value) => {
                Some(RawValue { text: Err(format!("is set beside {file_key}: remove one of them")), ..value })
            }
            None => Some(read_file(file)),
        }
    }

    fn value(&self, key: &str) -> Option<RawValue> {
        #[expect(clippy::disallowed_methods, reason = "the one place where settings are looked up")]
        match std::env::var(key) {
            Ok(text) => Some(RawValue { text: Ok(text), source: Source::Environment }),
            Err(VarError::NotUnicode(_)) => {
                Some(RawValue { text: Err("must be UTF-8".to_owned()), source: Source::Environment })
            }
            Err(VarError::NotPresent) => {
                let entry = self.entries.iter().rev().find(|entry| entry.key == key)?;
                Some(RawValue { text: Ok(entry.value.clone()), source: Source::EnvFile(entry.line) })
            }
        }
    }

    /// Messages about invalid lines of `.env`. `keys` are the names of all settings.
    pub(super) fn problems(&self, keys: &[String]) -> Vec<String> {
        let fault = |(line, key): &(usize, String)| {
            // An unknown name could be a part of a secret.
            let key = if keys.contains(key) { key } else { "a setting" };
            format!(
                "{key} cannot be read: write KEY=value, with single quotes around a value that has a blank, a quote or a \
                 backslash (.env, line {line})"
            )
        };
        self.unreadable.iter().cloned().chain(self.invalid_lines.iter().map(fault)).collect()
    }

    /// Messages about keys of `.env` that are not among `keys`, the names of all settings.
    pub(super) fn unknown(&self, keys: &[String]) -> Vec<String> {
        let unknown = self.entries.iter().filter(|entry| !keys.contains(&entry.key));
        let warning = |Entry { key, line, .. }: &Entry| {
            let upper = key.to_uppercase();
            let alike = keys.iter().map(|known| (strsim::normalized_damerau_levenshtein(&upper, known), known));
            let nearest =
                alike.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(alike, _)| *alike >= MIN_SIMILARITY);
            match nearest {
                Some((_, meant)) => format!("{key} is not a setting, did you mean {meant}? (.env, line {line})"),
                None if key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') => {
                    format!("{key} is not a setting (.env, line {line})")
                }
                // The key could be the second line of a secret.
                None => format!("the key is not a setting (.env, line {line})"),
            }
        };
        unknown.map(warning).collect()
    }
}

/// Reads the file that a `KEY_FILE` names.
fn read_file(named: RawValue) -> RawValue {
    let Ok(path) = named.text else { return named };
    let text = text_of(fs::read(&path))
        .and_then(|text| if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text) });
    RawValue { text, source: Source::File(path.into()) }
}

/// The text of a file in UTF-8, with or without a byte order mark.
fn text_of(bytes: io::Result<Vec<u8>>) -> Result<String, String> {
    let bytes = bytes.map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => "is a directory and must be a file".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || bytes.contains(&0) {
        return Err("is UTF-16 or not a text; save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("is not UTF-8: see line {line}")
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// The text where a line has its key.
fn key_of(line: &str) -> String {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    line.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}

/// Gives a buffering reader one line per call and counts the lines.
struct LineByLine<'a> {
    rest: &'a [u8],
    taken: &'a Cell<usize>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |end| end + 1);
        let (now, later) = self.rest.split_at(line.min(buffer.len()));
        buffer[..now.len()].copy_from_slice(now);
        self.taken.set(self.taken.get() + usize::from(now.ends_with(b"\n")));
        self.rest = later;
        Ok(now.len())
    }
}
