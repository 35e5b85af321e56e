//! Bodies: read within a size and a time, and parsed so that an error names the member that is to blame.

use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, TRANSFER_ENCODING,
};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, TryFutureExt};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::locale::Message;

/// Bytes that a body may have.
pub const MOST: usize = 16 * 1024;
/// Bytes that a post's body may have.
pub const MOST_OF_POST: usize = 64 * 1024;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A JSON body of at most `LIMIT` bytes.
#[derive(Debug)]
pub struct Json<T, const LIMIT: usize = MOST>(pub T);

impl<T: DeserializeOwned, const LIMIT: usize> FromRequest for Json<T, LIMIT> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let req = req.clone();
        let payload = payload.take();
        async move {
            let bytes = match MediaType::of(req.headers())? {
                Some(MediaType::Json) => read(req.headers(), payload, LIMIT).await?,
                _ if is_empty(req.headers()) => return Err(Error::Malformed(Message::NoBody)),
                _ => return Err(Error::MediaType(Message::SendJson)),
            };
            parse(&bytes).map(Json)
        }
        .boxed_local()
    }
}

/// A JSON body, or, where a request has neither a body nor a `Content-Type`, the default.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalJson<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match payload {
            Payload::None if !req.headers().contains_key(CONTENT_TYPE) => {
                ready(Ok(OptionalJson(T::default()))).boxed_local()
            }
            _ => Json::<T>::from_request(req, payload).map_ok(|Json(body)| OptionalJson(body)).boxed_local(),
        }
    }
}

/// The media types that bodies may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Json,
    Form,
}

impl MediaType {
    /// Reads `Content-Type`. `None` is any type that is not read here, or none at all.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<MediaType>> {
        let mut types = headers.get_all(CONTENT_TYPE);
        let text = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
        if types.next().is_some() {
            return Err(Error::Malformed(Message::TwoTypes));
        }
        // The crate `mime` refuses the blanks that may stand before a semicolon (RFC 9110 §5.6.6).
        let mut parts = text.split(';').map(str::trim);
        let media_type = match parts.next() {
            Some(name) if name.eq_ignore_ascii_case("application/json") => MediaType::Json,
            Some(name) if name.eq_ignore_ascii_case("application/x-www-form-urlencoded") => MediaType::Form,
            _ => return Ok(None),
        };
        let mut parameters = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
        let is_other_charset = |(name, value): (&str, &str)| {
            name.trim_end().eq_ignore_ascii_case("charset") && !value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        };
        match parameters.any(is_other_charset) {
            true => Err(Error::MediaType(Message::Charset)),
            false => Ok(Some(media_type)),
        }
    }
}

/// Whether the head says that no body follows.
fn is_empty(headers: &HeaderMap) -> bool {
    !headers.contains_key(TRANSFER_ENCODING) && text(headers, CONTENT_LENGTH).is_none_or(|length| length == "0")
}

/// Reads a whole body.
pub(super) async fn read(headers: &HeaderMap, payload: Payload, limit: usize) -> Result<Bytes> {
    let mut codings = headers.get_all(CONTENT_ENCODING);
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::MediaType(Message::ContentEncoding));
    }
    if text(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > limit)
    {
        return Err(Error::TooLarge);
    }
    let mut collecting = pin!(collect(payload, limit));
    // Most bodies come with their heads: for those no timer is set.
    if let Some(result) = at_hand(collecting.as_mut()).await {
        return result;
    }
    match tokio::time::timeout(PATIENCE, collecting).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Error::TooSlow),
    }
}

/// What is ready at the second look, if it is: the server hands a request on before it reads on behind the head.
async fn at_hand<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut looked = false;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

async fn collect(mut payload: Payload, limit: usize) -> Result<Bytes> {
    let mut whole = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Error::Malformed(Message::Malformed))?;
        if whole.len() + chunk.len() > limit {
            return Err(Error::TooLarge);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

/// Parses a JSON object; an error of one member names it by its path.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => {}
        None => return Err(Error::Malformed(Message::NoBody)),
        // A derived parser would also take an array of the members' values.
        Some(_) => return Err(Error::Malformed(Message::NotAnObject)),
    }
    // Keeping track of the path costs as much as parsing, so that is done only for an error.
    serde_json::from_slice(bytes).map_err(|error| match error.is_data() {
        true => what_is_wrong::<T>(bytes),
        false => Error::Json { line: error.line(), column: error.column() },
    })
}

fn what_is_wrong<T: DeserializeOwned>(bytes: &[u8]) -> Error {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else {
        return Error::Malformed(Message::Malformed);
    };
    let sentence = error.inner().to_string();
    match error.path().to_string().as_str() {
        "." | "" | "?" => whole_body(&sentence),
        path if is_plain(path) => Error::field(path, member_problem(&sentence)),
        _ => Error::Malformed(Message::Malformed),
    }
}

/// A member's name is repeated in `error_description`, which not every character may stand in (RFC 6749 §5.2).
fn is_plain(path: &str) -> bool {
    path.len() <= 64 && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

/// serde names a missing member only in its sentence.
fn whole_body(sentence: &str) -> Error {
    match sentence.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((name, _)) => Error::field(name, Message::Required),
        None => Error::Malformed(Message::Malformed),
    }
}

fn member_problem(sentence: &str) -> Message {
    match sentence.starts_with("unknown field") {
        true => Message::Unknown,
        false => Message::WrongType,
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
