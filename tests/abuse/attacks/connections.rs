//! Attacks by idle and by slow connections.

use std::time::Duration;

use super::ATTACKER;
use crate::Result;
use crate::attack::{Horde, Job};
use crate::client::{TIMEOUT, connect};
use crate::people::Account;
use crate::request;
use crate::stage::Stage;

fn one_horde(stage: &Stage, horde: Horde) -> Result<Vec<Job>> {
    Ok(vec![horde.job(stage.address(), ATTACKER)])
}

/// That many bytes of consecutive requests.
fn pipelined(path: &str, bytes: usize) -> Vec<u8> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    request.repeat(bytes / request.len() + 1).into_bytes()
}

pub(super) fn unread(stage: &mut Stage, connections: usize) -> Result<Vec<Job>> {
    let first = pipelined("/openapi.json", 256 << 10);
    one_horde(stage, Horde { connections, first, then: None, reads: false })
}

pub(super) fn full_buffer(stage: &mut Stage, path: &str, connections: usize) -> Result<Vec<Job>> {
    let first = pipelined(path, 312 << 10);
    one_horde(stage, Horde { connections, first, then: None, reads: false })
}

pub(super) fn unfinished_heads(stage: &mut Stage) -> Result<Vec<Job>> {
    let lines = format!("X-Line: {}\r\n", "x".repeat(1000)).repeat(120);
    let first = [&pipelined("/healthz", 1)[..], b"GET /healthz HTTP/1.1\r\nHost: a\r\n", lines.as_bytes()].concat();
    one_horde(stage, Horde { connections: 5_000, first, then: None, reads: true })
}

pub(super) fn all_connections(stage: &mut Stage) -> Result<Vec<Job>> {
    let ask = pipelined("/healthz", 1);
    let then = Some((ask.clone(), Duration::from_secs(20)));
    one_horde(stage, Horde { connections: 10_500, first: ask, then, reads: true })
}

pub(super) fn slow_bodies(stage: &mut Stage) -> Result<Vec<Job>> {
    let account = Account::sign_up(stage.address(), ATTACKER, "slow-bodies")?;
    let head = format!(
        "POST /v1/posts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 60000\r\n\r\n",
        account.token
    );
    let then = Some((b" ".to_vec(), Duration::from_secs(2)));
    one_horde(stage, Horde { connections: 2_000, first: head.into_bytes(), then, reads: true })
}

pub(super) fn slow_heads(stage: &mut Stage) -> Result<Vec<Job>> {
    let then = Some((b"X: y\r\n".to_vec(), Duration::from_secs(1)));
    one_horde(stage, Horde { connections: 2_000, first: b"GET /v1/test HTTP/1.1\r\n".to_vec(), then, reads: true })
}

pub(super) fn tls_hellos(stage: &mut Stage) -> Result<Vec<Job>> {
    // The first 39 bytes of a record of 512 bytes with a TLS 1.2 hello.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[0xa5; 32]].concat();
    one_horde(stage, Horde { connections: 2_000, first: hello, then: None, reads: true })
}

pub(super) fn churn(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let job = || -> Job {
        Box::new(move |run| {
            let ask = request::get("/healthz", None);
            while !run.is_over() {
                // Every other connection is closed during a request.
                for asks in [false, true] {
                    let opened = connect(server, ATTACKER, None, TIMEOUT);
                    let asked = opened.and_then(|mut stream| match asks {
                        true => std::io::Write::write_all(&mut stream, &ask),
                        false => Ok(()),
                    });
                    run.count(if asked.is_ok() { "connections" } else { "refused" }, 1);
                }
            }
        })
    };
    Ok((0..4).map(|_| job()).collect())
}
