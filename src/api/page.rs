//! Pagination of lists with `limit` and `cursor`.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::db::Page;
use crate::error::{Error, Result};
use crate::id::number;
use crate::locale::Message;

/// The query parameters of a paginated list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The maximum number of items, 1 to 100. Defaults to 50.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// `nextCursor` of the previous page.
    // The pattern: the base64url form of a positive `i64` in big-endian order.
    #[param(pattern = "^(?!A{11}$)[A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048]$")]
    cursor: Option<String>,
}

/// A requested page of a list, from the query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageRequest {
    limit: i64,
    after: Option<Cursor>,
}

impl FromRequest for PageRequest {
    type Error = Error;
    type Future = Ready<Result<PageRequest>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(PageRequest::parse(req.query_string()))
    }
}

impl PageRequest {
    fn parse(query: &str) -> Result<PageRequest> {
        let query = web::Query::<PageQuery>::from_query(query).map_err(|_| Error::Malformed(Message::Malformed))?;
        let limit = match query.limit.as_deref().map(number) {
            None => 50,
            Some(Some(limit @ 1..=100)) => limit,
            Some(_) => return Err(Error::field("limit", Message::Limit)),
        };
        let parse = |text: &str| Cursor::parse(text).ok_or_else(|| Error::field("cursor", Message::Cursor));
        Ok(PageRequest { limit, after: query.cursor.as_deref().map(parse).transpose()? })
    }

    pub(super) fn is_first(self) -> bool {
        self.after.is_none()
    }

    /// The rows to read: one more than the limit, which shows whether another page follows.
    pub(super) fn page(self) -> Page {
        Page { limit: self.limit + 1, before: self.after.map(|cursor| cursor.0) }
    }

    /// Drops the additional row and returns the cursor of the next page.
    pub(super) fn cut<T>(self, mut rows: Vec<T>, number: impl Fn(&T) -> i64) -> (Vec<T>, Option<String>) {
        let goes_on = rows.len() as i64 > self.limit;
        rows.truncate(self.limit as usize);
        let next = rows.last().filter(|_| goes_on).map(|row| Cursor(number(row)).to_string());
        (rows, next)
    }
}

/// The number of the last row of the previous page. It grants nothing: every query also filters by tenant.
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
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursor__parses_to_itself(number in 1..i64::MAX) {
            prop_assert_eq!(Cursor::parse(&Cursor(number).to_string()), Some(Cursor(number)));
        }

        #[test]
        fn cursor__has_one_spelling(text in ".*") {
            if let Some(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
