//! Extractors of request bodies, with limits of size and time. An error names the invalid member.

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

/// The default limit of a body, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body of at most `LIMIT` bytes.
#[derive(Debug)]
pub struct Json<T, const LIMIT: usize = MAX_BODY_BYTES>(pub T);

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

/// A JSON body, or the default if the request has neither a body nor a `Content-Type`.
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

/// The supported media types of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Json,
    Form,
}

impl MediaType {
    /// Parses `Content-Type`. `None` if it is absent or unsupported.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<MediaType>> {
        let mut types = headers.get_all(CONTENT_TYPE);
        let text = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
        if types.next().is_some() {
            return Err(Error::Malformed(Message::TwoTypes));
        }
        // The crate `mime` refuses white space before a semicolon, which RFC 9110 §5.6.6 allows.
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
        if parameters.any(is_other_charset) { Err(Error::MediaType(Message::Charset)) } else { Ok(Some(media_type)) }
    }
}

/// Whether the headers say that no body follows.
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
    // Most bodies arrive together with their head and need no timer.
    if let Some(result) = poll_twice(collecting.as_mut()).await {
        return result;
    }
    match tokio::time::timeout(BODY_TIMEOUT, collecting).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Error::RequestTimeout),
    }
}

/// Polls a future twice. A body that arrived with its head is ready at the second poll, because the server dispatches a
/// request before it reads the body.
async fn poll_twice<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut polled = false;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polled => Poll::Ready(None),
        Poll::Pending => {
            polled = true;
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

/// Parses a JSON object. An error of a member has the member's path.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => {}
        None => return Err(Error::Malformed(Message::NoBody)),
        // A derived `Deserialize` would also accept an array of the members' values.
        Some(_) => return Err(Error::Malformed(Message::NotAnObject)),
    }
    // Tracking the path doubles the cost, so it is done for errors only.
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            data_error::<T>(bytes)
        } else {
            Error::Json { line: error.line(), column: error.column() }
        }
    })
}

fn data_error<T: DeserializeOwned>(bytes: &[u8]) -> Error {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else {
        return Error::Malformed(Message::Malformed);
    };
    let sentence = error.inner().to_string();
    match error.path().to_string().as_str() {
        "." | "" | "?" => body_error(&sentence),
        path if is_printable(path) => Error::field(path, member_problem(&sentence)),
        _ => Error::Malformed(Message::Malformed),
    }
}

/// Whether the path may be a part of `error_description` (RFC 6749 §5.2).
fn is_printable(path: &str) -> bool {
    path.len() <= 64 && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

/// The error of the body as a whole. serde names a missing member only in its message.
fn body_error(sentence: &str) -> Error {
    match sentence.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((name, _)) => Error::field(name, Message::Required),
        None => Error::Malformed(Message::Malformed),
    }
}

fn member_problem(sentence: &str) -> Message {
    if sentence.starts_with("unknown field") { Message::Unknown } else { Message::WrongType }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
