//! Counts of usage before they are written.

use gatebird::id::DomainId;
use gatebird::reason::Reason;
use gatebird::usage::{DAY, Kind, Taken, Usage};

fn total(taken: &Taken, kind: &str) -> i64 {
    taken.counts().filter(|count| count.kind == kind).map(|count| count.count).sum()
}

#[test]
fn usage__counts_during_take_and_put_back_are_kept() {
    let (usage, domain) = (Usage::default(), DomainId::random());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| usage.count(domain, Kind::Token, 5)));
        }
        for _ in 0..100 {
            let mut taken = usage.take();
            taken.next_batch(1).into_iter().for_each(|batch| usage.put_back(batch));
            usage.put_back(taken);
        }
    });
    assert_eq!(total(&usage.take(), "tokens"), 4_000);
    assert!(usage.take().next_batch(1).is_none());
}

#[test]
fn kind__each_reason_has_its_own_name() {
    let name = |kind| {
        let usage = Usage::default();
        usage.count(DomainId::random(), kind, 0);
        usage.take().counts().next().expect("a count").kind
    };
    for reason in Reason::ALL {
        assert_eq!(name(Kind::Refused(*reason)), format!("refused.{}", reason.as_str()));
    }
    assert_eq!(name(Kind::Version1), "v1");
}

#[test]
fn days__begin_at_midnight() {
    let (usage, domain) = (Usage::default(), DomainId::random());
    usage.count(domain, Kind::Call, DAY - 1);
    usage.count(domain, Kind::Call, DAY);
    let mut days: Vec<i64> = usage.take().counts().map(|count| count.day).collect();
    days.sort_unstable();
    assert_eq!(days, [0, 1]);
}
