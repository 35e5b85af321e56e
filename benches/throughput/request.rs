//! HTTP for a load generator: the bytes of requests, and the end of an answer.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A GET request, with a bearer token if there is one.
pub(crate) fn get(path: &str, token: Option<&str>) -> Vec<u8> {
    without_body("GET", path, token)
}

/// A request of that method without a body.
pub(crate) fn without_body(method: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", authorization(token)).into_bytes()
}

/// A POST request with a JSON body.
pub(crate) fn post(path: &str, body: &Value, token: Option<&str>) -> Vec<u8> {
    json("POST", path, body, token)
}

/// A request of that method with a JSON body.
pub(crate) fn json(method: &str, path: &str, body: &Value, token: Option<&str>) -> Vec<u8> {
    let (body, authorization) = (body.to_string(), authorization(token));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A POST request with a form and HTTP Basic credentials.
pub(crate) fn form(path: &str, body: &str, id: &str, secret: &str) -> Vec<u8> {
    let credentials = STANDARD.encode(format!("{id}:{secret}"));
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn authorization(token: Option<&str>) -> String {
    token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
}

/// Status and extent of a complete answer at the start of a buffer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: std::ops::Range<usize>,
}

impl Answer {
    /// `None` while bytes are missing.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let (mut status, mut length, mut position) = (None, None, 0);
        while let Some(end) = bytes[position..].iter().position(|&byte| byte == b'\n') {
            let line = bytes[position..position + end].trim_ascii();
            position += end + 1;
            if status.is_none() {
                let code = line.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse::<u16>().ok());
                status = Some(code.ok_or_else(|| broken("no status line"))?);
            } else if line.is_empty() {
                let body = position..position + length.ok_or_else(|| broken("no Content-Length"))?;
                let status = status.unwrap_or_default();
                return match bytes.len().cmp(&body.end) {
                    std::cmp::Ordering::Less => Ok(None),
                    std::cmp::Ordering::Equal => Ok(Some(Self { status, body })),
                    std::cmp::Ordering::Greater => Err(broken("more bytes than announced")),
                };
            } else if let Some((name, value)) = line.split_at_checked(15)
                && name.eq_ignore_ascii_case(b"content-length:")
            {
                let value = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse::<usize>().ok());
                length = Some(value.ok_or_else(|| broken("a strange Content-Length"))?);
            }
        }
        Ok(None)
    }
}
