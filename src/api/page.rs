//! Long lists, read in parts: which part a query asks for, and where the next one begins.

use std::fmt;

use actix_web::web;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::db::Page;
use crate::error::{Error, Result};
use crate::id::number;
use crate::locale::Message;

/// Which part of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// At most so many, 1 to 100; 50 if absent.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// `nextCursor` of the part before.
    // A positive number of eight bytes, as `Cursor` writes it.
    #[param(pattern = "^(?!A{11}$)[A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048]$")]
    cursor: Option<String>,
}

/// A part of a list that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    limit: i64,
    after: Option<Cursor>,
}

impl Part {
    /// Parses a query string.
    pub(super) fn parse(query: &str) -> Result<Part> {
        let query = web::Query::<PageQuery>::from_query(query).map_err(|_| Error::Malformed(Message::Malformed))?;
        let limit = match query.limit.as_deref().map(number) {
            None => 50,
            Some(Some(limit @ 1..=100)) => limit,
            Some(_) => return Err(Error::field("limit", Message::Limit)),
        };
        let cursor = query
            .cursor
            .as_deref()
            .map(|text| Cursor::parse(text).ok_or_else(|| Error::field("cursor", Message::Cursor)));
        Ok(Part { limit, after: cursor.transpose()? })
    }

    /// Whether the list begins with it.
    pub(super) fn is_first(self) -> bool {
        self.after.is_none()
    }

    /// What to read: one row more, which tells whether the list goes on.
    pub(super) fn page(self) -> Page {
        Page { limit: self.limit + 1, before: self.after.map(|cursor| cursor.0) }
    }

    /// What was read, without the row more, and the cursor of the next part if there is one.
    pub(super) fn cut<T>(self, mut rows: Vec<T>, number: impl Fn(&T) -> i64) -> (Vec<T>, Option<String>) {
        let goes_on = rows.len() as i64 > self.limit;
        rows.truncate(self.limit as usize);
        let next = rows.last().filter(|_| goes_on).map(|row| Cursor(number(row)).to_string());
        (rows, next)
    }
}

/// Where a list goes on: after the row of this number. It holds a place and no right; the tenant's filter stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor(i64);

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let number = i64::from_be_bytes(bytes.try_into().ok()?);
        (number > 0).then_some(Cursor(number))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_parses_to_itself(number in 1..i64::MAX) {
            prop_assert_eq!(Cursor::parse(&Cursor(number).to_string()), Some(Cursor(number)));
        }

        #[test]
        fn a_text_is_the_only_spelling_of_a_cursor_or_none(text in ".*") {
            if let Some(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
