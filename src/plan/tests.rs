//! Limits, meters and the last token of a domain, with the time passed in.

use std::num::NonZeroU64;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn spend_all(meter: &Meter, limit: Limit, now: u64) -> u64 {
    (0..).take_while(|_| meter.spend(limit, now).is_ok()).count() as u64
}

#[test]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
fn plan__every_name_leads_to_its_plan() {
    for name in Plan::names() {
        assert_eq!(Plan::parse(name).map(Plan::as_str), Some(name));
    }
    assert_eq!((Plan::default().as_str(), Plan::parse("Free")), ("free", None));
}

#[test]
fn exactly_the_limit_passes_and_then_it_refills_evenly() {
    let limit = Limit::parse("60/m").expect("a limit");
    let meter = Meter::default();
    let start = 5 * SECOND;
    assert_eq!(spend_all(&meter, limit, start), 60);
    assert_eq!(meter.spend(limit, start), Err(Duration::from_secs(1)));
    assert_eq!(spend_all(&meter, limit, start + 10 * SECOND), 10);
    assert_eq!(spend_all(&meter, limit, start + 600 * SECOND), 60);
}

#[test]
fn parallel_requests_pass_exactly_the_limit() {
    let limit = Limit::parse("10/h").expect("a limit");
    let meter = Meter::default();
    let passed: u64 = std::thread::scope(|scope| {
        let spend = || scope.spawn(|| (0..50).filter(|_| meter.spend(limit, SECOND).is_ok()).count() as u64);
        let threads: Vec<_> = (0..4).map(|_| spend()).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 10);
}

/// Also where the period cannot be divided by the number of requests.
#[test]
fn exactly_the_limit_passes_whatever_its_number() {
    for text in ["7/s", "999983/s", "1000000/s", "13/m", "50/d"] {
        let limit = Limit::parse(text).expect("a limit");
        let meter = Meter::default();
        let full = meter.left(limit, SECOND);
        assert_eq!((full.requests, full.full_in), (limit.requests.get(), Duration::ZERO), "{text}");
        assert_eq!(spend_all(&meter, limit, SECOND), limit.requests.get(), "{text}");
    }
}

/// As documented: a whole limit just before the end of a span and what refilled in it, but never twice at one moment.
#[test]
fn the_edge_of_a_window_is_no_place_for_a_second_limit() {
    let limit = Limit::parse("10/m").expect("a limit");
    let meter = Meter::default();
    let ms = SECOND / 1000;
    assert_eq!(spend_all(&meter, limit, 59_900 * ms), 10);
    assert_eq!(spend_all(&meter, limit, 60_100 * ms), 0);
    let in_the_next_minute: u64 = (60_100..=119_900).step_by(100).map(|at| spend_all(&meter, limit, at * ms)).sum();
    assert_eq!(in_the_next_minute, 10);
}

#[test]
fn what_is_left_is_told() {
    let limit = Limit::parse("60/m").expect("a limit");
    let meter = Meter::default();
    let left = |requests, seconds| Left { requests, full_in: Duration::from_secs(seconds) };
    assert_eq!(meter.spend(limit, SECOND), Ok(left(59, 1)));
    assert_eq!(meter.spend(limit, SECOND), Ok(left(58, 2)));
    assert_eq!(meter.left(limit, 2 * SECOND), left(59, 1));
    assert_eq!(spend_all(&meter, limit, SECOND), 58);
    assert_eq!(meter.left(limit, SECOND), left(0, 60));
    assert_eq!(limit.left(limit.give_back(61 * SECOND), SECOND), left(1, 59));
    // After a change to a smaller limit more is used than there is.
    assert_eq!(meter.left(Limit::parse("1/s").expect("a limit"), SECOND), left(0, 60));
}

#[test]
fn a_token_is_needless_while_more_than_half_of_the_last_ones_life_is_left() {
    let meter = Meter::default();
    for (at, generation, redundant) in [
        (1000, 0, false),
        (1000, 0, true),
        (1029, 0, true),
        (1059, 0, false),
        (1088, 0, true),
        // Ended with the generation.
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
fn ten_times_a_limit_is_a_limit() {
    let ten = NonZeroU64::new(10).expect("not 0");
    for (text, tenfold) in [("6000/m", "60000/m"), ("1/s", "10/s"), ("500000/h", "1000000/h")] {
        assert_eq!(Limit::parse(text).expect("a limit").times(ten).to_string(), tenfold);
    }
}

#[test]
fn limits_have_one_spelling() {
    for text in ["60/m", "1/s", "1000000/h", "50/d"] {
        assert_eq!(Limit::parse(text).map(|limit| limit.to_string()), Some(text.to_owned()));
    }
    for text in ["", "0/m", "60", "60/w", "-1/m", "1000001/h", "60/m ", "1e3/m"] {
        assert_eq!(Limit::parse(text), None, "{text}");
    }
}
