//! The rules of shares.

use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use gatebird::UserId;
use gatebird::shares::{Holder, Network, Permit, Share};

const LONG: Duration = Duration::from_secs(60);
/// How many requests may wait for one share.
const QUEUE_PLACES: usize = 1024;

fn network(number: u32) -> Network {
    Network::of(Some(IpAddr::V4(number.into())))
}

/// An id comes from a token or from a row.
fn user(number: i64) -> UserId {
    let conn = &mut SqliteConnection::establish(":memory:").expect("a database");
    diesel::select(number.into_sql::<BigInt>()).get_result(conn).expect("a row")
}

fn take_all(share: &Share, holder: Holder) -> Vec<Permit> {
    std::iter::from_fn(|| share.try_take(holder)).collect()
}

/// Runs a test within a runtime.
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(test);
}

/// Polls a request once.
fn poll(request: Pin<&mut impl Future<Output = Option<Permit>>>) -> Poll<Option<Permit>> {
    request.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn permits__each_network_gets_at_most_half_of_the_free_ones() {
    let share = Share::new(128);
    let greedy: Vec<Vec<Permit>> = (1..=4).map(|number| take_all(&share, Holder::network(network(number)))).collect();
    assert_eq!(greedy.iter().map(Vec::len).collect::<Vec<_>>(), [64, 32, 16, 8]);
    assert!(share.try_take(Holder::network(network(5))).is_some());
    drop(greedy);
    assert_eq!(take_all(&share, Holder::network(network(4))).len(), 64, "all permits were returned");
}

#[test]
fn permits__accounts_of_one_network_share_its_half() {
    let share = Share::new(128);
    let greedy: Vec<Permit> =
        (1..=32).flat_map(|number| take_all(&share, Holder::account(network(1), user(number)))).collect();
    assert_eq!(greedy.len(), 64);
}

#[test]
fn permits__one_account_in_many_networks_gets_half_and_one_for_each_network() {
    let share = Share::new(128);
    let (account, another) = (user(7), user(8));
    let thief = |number| Holder::account(network(number), account);
    let mut greedy = take_all(&share, thief(1));
    greedy.extend((2..=500).flat_map(|number| {
        let mut taken = take_all(&share, thief(number));
        taken.truncate(1);
        taken
    }));
    assert_eq!(greedy.len(), 128, "each network of a thief counts like any other");
    greedy.truncate(100);
    let first = share.try_take(thief(501));
    assert!(first.is_some(), "the owner's first permit in a network");
    assert!(share.try_take(thief(501)).is_none(), "the account has more than half");
    let other = Holder::account(network(501), another);
    let both = [share.try_take(other), share.try_take(other)];
    assert!(both.iter().all(Option::is_some), "another account has its own half");
}

#[test]
fn queue__networks_are_served_in_turn() {
    run(async {
        let share = Share::new(1);
        let (flood, guest) = (Holder::network(network(1)), Holder::network(network(2)));
        let held = share.try_take(flood).expect("free");
        let mut first = pin!(share.take(flood, LONG));
        let mut second = pin!(share.take(flood, LONG));
        let mut late = pin!(share.take(guest, LONG));
        for waiting in [first.as_mut(), second.as_mut()] {
            assert!(poll(waiting).is_pending());
        }
        assert!(poll(late.as_mut()).is_pending());
        drop(held);
        let Poll::Ready(Some(permit)) = poll(late.as_mut()) else {
            panic!("the guest must be served before the flood")
        };
        drop(permit);
        let Poll::Ready(Some(permit)) = poll(first.as_mut()) else {
            panic!("requests of one network must keep their order")
        };
        assert!(poll(second.as_mut()).is_pending());
        drop(permit);
        assert!(poll(second.as_mut()).is_ready());
    });
}

#[test]
fn queue__accounts_of_one_network_are_served_in_turn() {
    run(async {
        let share = Share::new(1);
        let holder = |number| Holder::account(network(1), user(number));
        let held = share.try_take(holder(1)).expect("free");
        let mut flood = pin!(share.take(holder(1), LONG));
        let mut guest = pin!(share.take(holder(2), LONG));
        assert!(poll(flood.as_mut()).is_pending() && poll(guest.as_mut()).is_pending());
        drop(held);
        assert!(poll(flood.as_mut()).is_pending());
        assert!(poll(guest.as_mut()).is_ready());
    });
}

#[test]
fn queue__one_network_gets_half_of_the_places() {
    run(async {
        let share = Share::new(1);
        let _held = share.try_take(Holder::network(network(9)));
        let mut flood: Vec<_> =
            (0..QUEUE_PLACES).map(|_| Box::pin(share.take(Holder::network(network(1)), LONG))).collect();
        let pending = flood.iter_mut().filter_map(|request| poll(request.as_mut()).is_pending().then_some(())).count();
        assert_eq!(pending, QUEUE_PLACES / 2);
        assert!(poll(pin!(share.take(Holder::network(network(2)), LONG))).is_pending(), "others find a place");
        drop(flood);
        assert!(
            poll(pin!(share.take(Holder::network(network(1)), LONG))).is_pending(),
            "ended requests leave their places"
        );
    });
}

#[test]
fn queue__thief_in_one_network_leaves_the_owner_a_place() {
    run(async {
        let share = Share::new(1);
        let _held = share.try_take(Holder::network(network(9)));
        let thief = Holder::account(network(1), user(7)).ends_theft();
        let mut flood: Vec<_> = (0..QUEUE_PLACES).map(|_| Box::pin(share.take(thief, LONG))).collect();
        flood.iter_mut().for_each(|request| drop(poll(request.as_mut())));
        let owner = Holder::account(network(2), user(7)).ends_theft();
        assert!(poll(pin!(share.take(owner, LONG))).is_pending());
    });
}

#[test]
fn queue__ended_request_returns_its_permit() {
    run(async {
        let share = Share::new(1);
        let held = share.try_take(Holder::network(network(1))).expect("free");
        let mut gone = Box::pin(share.take(Holder::network(network(2)), LONG));
        assert!(poll(gone.as_mut()).is_pending());
        drop(held);
        let other = Holder::network(network(3));
        assert!(share.try_take(other).is_none(), "the request was served");
        drop(gone);
        assert!(share.try_take(other).is_some());
    });
}

#[test]
fn queue__timeout() {
    run(async {
        let share = Share::new(1);
        let _held = share.try_take(Holder::network(network(1)));
        assert!(share.take(Holder::network(network(2)), Duration::ZERO).await.is_none());
    });
}
