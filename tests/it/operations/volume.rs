//! The volume of the access log: one network can neither fill the disk nor hide the requests of others.

use std::time::Duration;

use crate::binary::{Child, signal};
use crate::harness::{Database, Value};
use crate::operations::send_raw;

const REFUSED: usize = 500;

/// Sends the smallest possible request, through a trusted proxy.
fn ask(child: &Child, path: &str, network: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {network}\r\nConnection: close\r\n\r\n");
    send_raw(child, &head);
}

/// Refused requests of one network beyond its share are summed up; requests of others are logged in full.
#[test]
fn access_log_limit__many_refusals_of_one_network() {
    let database = Database::new();
    for log in ["errors", "all"] {
        let settings = [("ACCESS_LOG", log), ("LIMIT_LOG", "60/h"), ("TRUSTED_PROXIES", "127.0.0.1")];
        let child = Child::start(&database, &settings);
        for number in 0..REFUSED {
            ask(&child, "/x", "203.0.113.9");
            if number % 50 == 0 {
                ask(&child, "/x", "198.51.100.7");
                ask(&child, "/healthz", "203.0.113.9");
                ask(&child, "/x", &format!("2001:db8::{number}"));
            }
        }
        signal("TERM", child.pid());
        let outcome = child.wait(Duration::from_secs(20));
        assert_eq!(outcome.code, Some(0));
        let lines = outcome.stdout.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let of = |client: &str| -> Vec<&Value> {
            lines.iter().filter(|line| line["client"].as_str().is_some_and(|text| text.starts_with(client))).collect()
        };
        let (mallory, others) = (of("203.0.113.9"), of("198.51.100.7"));
        let left_out: u64 = mallory.iter().filter_map(|line| line["linesLeftOut"].as_u64()).sum();
        let refused = mallory.iter().filter(|line| line["status"].as_u64() == Some(404)).count();
        assert_eq!(refused, 60, "{log}");
        assert_eq!(left_out as usize, REFUSED - 60, "{log}");
        assert_eq!(others.len(), REFUSED / 50, "{log}: another network");
        assert_eq!(of("2001:db8::").len(), REFUSED / 50, "{log}: another network");
        let good = mallory.iter().filter(|line| line["status"].as_u64() == Some(200)).count();
        assert_eq!(good, if log == "all" { REFUSED / 50 } else { 0 }, "{log}: the other requests");
    }
}

/// Requests that are not refused have a separate budget of a hundred times as many lines.
#[test]
fn access_log_limit__many_requests_of_one_network() {
    const ASKED: usize = 250;
    let database = Database::new();
    let settings = [("ACCESS_LOG", "all"), ("LIMIT_LOG", "2/d"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let child = Child::start(&database, &settings);
    for number in 0..ASKED {
        ask(&child, "/healthz", "203.0.113.9");
        if number % 50 == 0 {
            ask(&child, "/healthz", "198.51.100.7");
        }
    }
    (0..3).for_each(|_| ask(&child, "/x", "203.0.113.9"));
    signal("TERM", child.pid());
    let outcome = child.wait(Duration::from_secs(20));
    assert_eq!(outcome.code, Some(0));
    let lines = outcome.stdout.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let with_status = |client: &str, status: u64| {
        lines.iter().filter(|line| line["client"] == client && line["status"].as_u64() == Some(status)).count()
    };
    let left_out: u64 = lines.iter().filter_map(|line| line["linesLeftOut"].as_u64()).sum();
    assert_eq!(with_status("203.0.113.9", 200), 200);
    assert_eq!(with_status("203.0.113.9", 404), 2, "refusals have their own lines");
    assert_eq!(left_out as usize, ASKED - 200 + 1);
    assert_eq!(with_status("198.51.100.7", 200), ASKED / 50, "another network");
}
