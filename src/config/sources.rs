//! Where the process finds its settings: its environment, files that this names, and `.env` in the working folder.

use std::cell::Cell;
use std::env::VarError;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The keys whose value is never shown. `KEY_FILE` names a file that holds such a value.
pub(super) const SECRETS: [&str; 3] = ["DATABASE_URL", "JWT_SECRET", "JWT_SECRET_PREVIOUS"];

/// How alike a key must be to one that exists (1 is equal) to be taken for it.
const SIMILARITY: f64 = 0.6;

/// Stands for a `$` while the library parses `.env`. No text has this character (see [`text_of`]).
const DOLLAR: &str = "\0";

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: it is the default.
    Default,
    /// In the process's environment.
    Environment,
    /// In that line of `.env`.
    EnvFile(usize),
    /// In the file that `KEY_FILE` names.
    File(PathBuf),
}

impl Source {
    /// Without the line.
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

/// A value as it is written.
pub(super) struct Found {
    /// The text, or why it cannot be read.
    pub(super) text: Result<String, String>,
    pub(super) source: Source,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.text.as_ref().is_ok_and(String::is_empty)
    }
}

/// A setting of `.env`.
struct Entry {
    key: String,
    value: String,
    line: usize,
}

/// The environment over `.env`. Nothing is written into the environment.
#[derive(Default)]
pub(super) struct Sources {
    entries: Vec<Entry>,
    /// The lines of `.env` that cannot be read, each with what seems to be its key.
    faults: Vec<(usize, String)>,
    /// Why `.env` cannot be read at all.
    unreadable: Option<String>,
}

impl Sources {
    /// Reads `.env` in the working folder, if there is one.
    pub(super) fn read() -> Sources {
        let text = match fs::read(".env") {
            // A link that leads nowhere was meant to lead to settings.
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
        // The library would replace `$NAME` by the value of that variable, or by nothing. It reads `\$` as a plain `$`.
        let mut text = text.replace('$', DOLLAR).replace("\\\0", "\\$");
        // The library takes a blank at the very end for a line that goes on.
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
                // The error quotes the line, which may hold a secret.
                Err(_) => sources.faults.push((line + 1, key_of(lines.get(line).copied().unwrap_or_default()))),
            }
        }
    }

    /// The value of a key. The environment counts more than `.env`, and the key counts as much as `KEY_FILE`.
    pub(super) fn find(&self, key: &str) -> Option<Found> {
        let value = self.value(key);
        let file_key = format!("{key}_FILE");
        let file = match SECRETS.contains(&key) {
            true => self.value(&file_key).filter(|file| !file.is_empty()),
            false => None,
        };
        let Some(file) = file else { return value };
        match value.filter(|value| !value.is_empty()) {
            Some(value) if file.source == Source::Environment && value.source != file.source => Some(in_file(file)),
            Some(value) if value.source == Source::Environment && value.source != file.source => Some(value),
            Some(value) => Some(Found { text: Err(format!("is set beside {file_key}: remove one of them")), ..value }),
            None => Some(in_file(file)),
        }
    }

    fn value(&self, key: &str) -> Option<Found> {
        #[expect(clippy::disallowed_methods, reason = "the one place where settings are looked up")]
        match std::env::var(key) {
            Ok(text) => Some(Found { text: Ok(text), source: Source::Environment }),
            Err(VarError::NotUnicode(_)) => {
                Some(Found { text: Err("must be UTF-8".to_owned()), source: Source::Environment })
            }
            Err(VarError::NotPresent) => {
                let entry = self.entries.iter().rev().find(|entry| entry.key == key)?;
                Some(Found { text: Ok(entry.value.clone()), source: Source::EnvFile(entry.line) })
            }
        }
    }

    /// What of `.env` cannot be read, given all keys that exist.
    pub(super) fn problems(&self, keys: &[String]) -> Vec<String> {
        let fault = |(line, key): &(usize, String)| {
            // Anything else could be a part of a secret.
            let key = if keys.contains(key) { key } else { "a setting" };
            format!(
                "{key} cannot be read: write KEY=value, with single quotes around a value that has a blank, a quote or a \
                 backslash (.env, line {line})"
            )
        };
        self.unreadable.iter().cloned().chain(self.faults.iter().map(fault)).collect()
    }

    /// A line for each key of `.env` that does not exist, given all that do.
    pub(super) fn unknown(&self, keys: &[String]) -> Vec<String> {
        let unknown = self.entries.iter().filter(|entry| !keys.contains(&entry.key));
        let warning = |Entry { key, line, .. }: &Entry| {
            let upper = key.to_uppercase();
            let alike = keys.iter().map(|known| (strsim::normalized_damerau_levenshtein(&upper, known), known));
            let nearest =
                alike.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(alike, _)| *alike >= SIMILARITY);
            match nearest {
                Some((_, meant)) => format!("{key} is no setting, did you mean {meant}? (.env, line {line})"),
                None if key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') => {
                    format!("{key} is no setting (.env, line {line})")
                }
                // It could be the second line of a secret.
                None => format!("the key is no setting (.env, line {line})"),
            }
        };
        unknown.map(warning).collect()
    }
}

/// What the file holds that is named there.
fn in_file(named: Found) -> Found {
    let Ok(path) = named.text else { return named };
    let text = text_of(fs::read(&path)).and_then(|text| match text.trim().is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(text),
    });
    Found { text, source: Source::File(path.into()) }
}

/// The text of a file that a person has written with any editor.
fn text_of(bytes: io::Result<Vec<u8>>) -> Result<String, String> {
    let bytes = bytes.map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => "is a folder, and must be a file".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || bytes.contains(&0) {
        return Err("is written in UTF-16 or is no text; save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("is not written in UTF-8: see line {line}")
    })?;
    // The mark with which some editors begin a file.
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// What stands where a line has its key.
fn key_of(line: &str) -> String {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    line.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}

/// Gives one line at a time to a reader that buffers what it gets, and counts the lines.
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
