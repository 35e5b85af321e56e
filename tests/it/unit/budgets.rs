//! Budgets and their owners.

use std::net::IpAddr;
use std::time::Duration;

use gatebird::id::TokenId;
use gatebird::plan::Limit;
use gatebird::shares::{Budget, BudgetLimits, Budgets, Guesser, Network};

const SECOND: u64 = 1_000_000_000;

fn budgets(limit: &str) -> Budgets {
    let limit = Limit::parse(limit);
    let limits = BudgetLimits {
        requests: limit,
        failures: limit,
        sign_ins: limit,
        sign_ups: limit,
        passwords: limit,
        lines: None,
        changes: limit,
    };
    Budgets::new(limits)
}

fn network(address: &str) -> Network {
    Network::of(Some(address.parse().expect("an address")))
}

#[test]
fn network__ipv4_address_or_upper_half_of_an_ipv6_address() {
    for (one, other, same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("::1", "127.0.0.1", false),
    ] {
        assert_eq!(network(one) == network(other), same, "{one} {other}");
    }
}

#[test]
fn budgets__are_separate_for_each_kind_and_network() {
    let budgets = budgets("3/m");
    for budget in
        [Budget::Requests as fn(Network) -> Budget<'static>, Budget::Failures, Budget::SignIns, Budget::SignUps]
    {
        for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            let passed = (0..5).filter(|_| budgets.spend(budget(network(address)), SECOND).is_ok()).count();
            assert_eq!(passed, 3, "{address}");
        }
    }
    let wait = budgets.spend(Budget::Requests(network("192.0.2.1")), SECOND);
    assert_eq!(wait, Err(Duration::from_secs(20)));
    assert_eq!(budgets.spend(Budget::Requests(network("192.0.2.1")), 21 * SECOND), Ok(()));
}

#[test]
fn budgets__parallel_requests_pass_exactly_the_limit() {
    let budgets = budgets("10/h");
    let spend = || (0..50).filter(|_| budgets.spend(Budget::Requests(Network::of(None)), SECOND).is_ok()).count();
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 10);
}

#[test]
fn budgets__exhausted_budget_survives_a_crowd() {
    let budgets = budgets("60/m");
    let greedy = network("198.51.100.1");
    let over = || budgets.spend(Budget::Failures(greedy), SECOND).is_err();
    assert!((0..=60).any(|_| over()));
    for number in 0..1_200_000_u32 {
        let network = Network::of(Some(IpAddr::V4(number.into())));
        budgets.spend(Budget::Failures(network), SECOND).expect("the first of its network");
    }
    assert!(over());
}

#[test]
fn passwords__strangers_share_a_budget_and_the_owner_has_others() {
    let budgets = budgets("5/d");
    let attempt = |guesser| budgets.try_password(guesser, SECOND);
    assert_eq!((0..50).filter(|_| attempt(Guesser::Strangers("alice")).is_ok()).count(), 5);
    assert!(attempt(Guesser::Strangers("nobody")).is_ok(), "another account has another budget");

    let at_home = Guesser::KnownNetwork("alice", network("192.0.2.1"));
    for owner in [at_home, Guesser::Token(TokenId::random())] {
        for _ in 0..20 {
            budgets.was_right(attempt(owner).expect("others cannot lock out the owner"));
        }
        assert_eq!((0..50).filter(|_| attempt(owner).is_ok()).count(), 5, "{owner:?} has the same limit");
    }
}

#[test]
fn passwords__right_or_untried_ones_are_returned() {
    let budgets = budgets("5/d");
    let stranger = || budgets.try_password(Guesser::Strangers("alice"), SECOND);
    for _ in 0..20 {
        budgets.was_not_tried(stranger().expect("untried attempts do not count"));
    }
    for _ in 0..4 {
        let _wrong = stranger().expect("within the budget");
    }
    budgets.was_right(stranger().expect("the last one"));
    assert!(stranger().is_ok(), "the right one was returned");
    assert!(stranger().is_err(), "the four wrong ones were not");
}
