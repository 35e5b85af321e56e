//! Limits, meters and the last token of a domain, with the time passed in.

use std::time::Duration;

use gatebird::plan::{Left, Limit, Meter, Plan};

const SECOND: u64 = 1_000_000_000;

fn spend_all(meter: &Meter, limit: Limit, now: u64) -> u64 {
    (0..).take_while(|_| meter.spend(limit, now).is_ok()).count() as u64
}

#[test]
fn plan__every_name_leads_to_its_plan() {
    for name in Plan::names() {
        assert_eq!(Plan::parse(name).map(Plan::as_str), Some(name));
    }
    assert_eq!((Plan::default().as_str(), Plan::parse("Free")), ("free", None));
}

#[test]
fn meter__limit_passes_and_then_refills_evenly() {
    let limit = Limit::parse("60/m").expect("a limit");
    let meter = Meter::default();
    let start = 5 * SECOND;
    assert_eq!(spend_all(&meter, limit, start), 60);
    assert_eq!(meter.spend(limit, start), Err(Duration::from_secs(1)));
    assert_eq!(spend_all(&meter, limit, start + 10 * SECOND), 10);
    assert_eq!(spend_all(&meter, limit, start + 600 * SECOND), 60);
}

#[test]
fn meter__parallel_requests_pass_exactly_the_limit() {
    let limit = Limit::parse("10/h").expect("a limit");
    let meter = Meter::default();
    let passed: u64 = std::thread::scope(|scope| {
        let spend = || scope.spawn(|| (0..50).filter(|_| meter.spend(limit, SECOND).is_ok()).count() as u64);
        let threads: Vec<_> = (0..4).map(|_| spend()).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 10);
}

#[test]
fn meter__limit_that_does_not_divide_its_period_passes_exactly() {
    for (requests, unit) in [(7, "s"), (999_983, "s"), (1_000_000, "s"), (13, "m"), (50, "d")] {
        let text = format!("{requests}/{unit}");
        let limit = Limit::parse(&text).expect("a limit");
        let meter = Meter::default();
        let full = meter.left(limit, SECOND);
        assert_eq!((full.requests, full.full_in), (requests, Duration::ZERO), "{text}");
        assert_eq!(spend_all(&meter, limit, SECOND), requests, "{text}");
    }
}

/// A span of one period passes at most the whole limit at its start and one limit that refills during the span.
#[test]
fn meter__two_periods_do_not_pass_two_limits_at_once() {
    let limit = Limit::parse("10/m").expect("a limit");
    let meter = Meter::default();
    let ms = SECOND / 1000;
    assert_eq!(spend_all(&meter, limit, 59_900 * ms), 10);
    assert_eq!(spend_all(&meter, limit, 60_100 * ms), 0);
    let in_the_next_minute: u64 = (60_100..=119_900).step_by(100).map(|at| spend_all(&meter, limit, at * ms)).sum();
    assert_eq!(in_the_next_minute, 10);
}

#[test]
fn meter__left_after_requests() {
    let limit = Limit::parse("60/m").expect("a limit");
    let meter = Meter::default();
    let left = |requests, seconds| Left { requests, full_in: Duration::from_secs(seconds) };
    assert_eq!(meter.spend(limit, SECOND), Ok(left(59, 1)));
    assert_eq!(meter.spend(limit, SECOND), Ok(left(58, 2)));
    assert_eq!(meter.left(limit, 2 * SECOND), left(59, 1));
    assert_eq!(spend_all(&meter, limit, SECOND), 58);
    assert_eq!(meter.left(limit, SECOND), left(0, 60));
    assert_eq!(limit.left(limit.give_back(61 * SECOND), SECOND), left(1, 59));
    // After a change to a smaller limit, more is used than the limit has.
    assert_eq!(meter.left(Limit::parse("1/s").expect("a limit"), SECOND), left(0, 60));
}

#[test]
fn meter__token_is_redundant_in_the_first_half_of_the_last_lifetime() {
    let meter = Meter::default();
    for (at, generation, redundant) in [
        (1000, 0, false),
        (1000, 0, true),
        (1029, 0, true),
        (1059, 0, false),
        (1088, 0, true),
        // The generation revoked the token before.
        (1089, 1, false),
        (1090, 1, true),
        (2000, 1, false),
    ] {
        assert_eq!(meter.issued(generation, at, 60), redundant, "{at}");
    }
    assert_eq!(meter.last_token_lives(1, 2017), Some(43));
    assert_eq!(meter.last_token_lives(1, 2060), None, "dead at its exp");
    assert_eq!(meter.last_token_lives(2, 2017), None, "of an earlier generation");
    meter.revoked(1, 2059);
    assert_eq!(meter.last_token_lives(1, 2017), Some(43), "another token was revoked");
    meter.revoked(1, 2060);
    assert_eq!(meter.last_token_lives(1, 2017), None);
}

#[test]
fn limit__times_is_capped() {
    for (text, tenfold) in [("6000/m", "60000/m"), ("1/s", "10/s"), ("500000/h", "1000000/h")] {
        assert_eq!(Limit::parse(text).expect("a limit").times(10).to_string(), tenfold);
    }
}

#[test]
fn limit__has_one_spelling() {
    for text in ["60/m", "1/s", "1000000/h", "50/d"] {
        assert_eq!(Limit::parse(text).map(|limit| limit.to_string()), Some(text.to_owned()));
    }
    for text in ["", "0/m", "60", "60/w", "-1/m", "1000001/h", "60/m ", "1e3/m"] {
        assert_eq!(Limit::parse(text), None, "{text}");
    }
}
