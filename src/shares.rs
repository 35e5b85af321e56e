//! Fair sharing of scarce resources, so that one caller can exhaust only a part of each.
//!
//! These rules apply to password hashing, the database, host verification, connections and the memory of used
//! assertions:
//!
//! 1. A [`Share`] has a fixed number of permits. Each request has a [`Holder`]: a network, and an account once it is
//!    known.
//! 2. A network may take another permit only while it holds fewer than remain free. The same applies to an account,
//!    except for its first permit in a network, so that a thief who uses an account elsewhere cannot lock out its
//!    owner. So one holder gets at most half, and others always find a permit.
//! 3. A request without a permit waits in a queue. Rule 2 also limits the places in the queue.
//! 4. A returned permit goes to the waiting network that was served longest ago, then to the account within it that was
//!    served longest ago, then to the request that came first.
//! 5. Actions that end a theft (a new password, a revocation, a suspension) count as a separate account. A thief with a
//!    stolen token cannot exhaust what the owner needs.
//! 6. A request that waits too long is refused before it has any effect.
//!
//! [`Budgets`] limit rates instead.

mod budgets;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(crate) use self::budgets::Table;
pub use self::budgets::{Attempt, Budget, BudgetLimits, Budgets, Guesser};
use crate::id::UserId;

/// An IPv4 address, or an IPv6 /64, from which one host can choose its addresses. All peers without an address, such as
/// those on a Unix socket, are one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(Option<IpAddr>);

impl Network {
    /// The network of an address.
    pub fn of(address: Option<IpAddr>) -> Network {
        Network(address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        }))
    }
}

/// Writes an IPv4 address, an IPv6 prefix with `/64`, or `-` without an address.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(IpAddr::V4(address)) => address.fmt(f),
            Some(IpAddr::V6(address)) => write!(f, "{address}/64"),
            None => f.write_str("-"),
        }
    }
}

/// The caller that a permit or a unit is taken for: a network, and an account within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    network: Network,
    account: Account,
}

/// The account side of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    /// Not known yet; all such callers of a network share this account.
    Unknown,
    /// A caller that signs in from a network known to the account, by a hash of both.
    KnownThere(u64),
    User(UserId),
    /// The same account for actions that end a theft.
    EndOfTheft(UserId),
}

/// An entity whose use is limited by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
    Network(Network),
    /// An account within a network.
    Member(Network, Account),
    /// An account in all networks together.
    Account(Account),
}

impl Holder {
    /// A caller whose account is not known yet.
    pub fn network(network: Network) -> Holder {
        Holder { network, account: Account::Unknown }
    }

    /// A caller with a known account.
    pub fn account(network: Network, user: UserId) -> Holder {
        Holder { network, account: Account::User(user) }
    }

    /// The same caller for an action that ends a theft, which counts as a separate account.
    #[must_use]
    pub fn ends_theft(self) -> Holder {
        match self.account {
            Account::User(user) => Holder { account: Account::EndOfTheft(user), ..self },
            _ => self,
        }
    }

    /// Whether the holder is most likely the account's owner: it ends a theft with a token of the account, or signs in
    /// from a network known to the account.
    pub fn is_owner(self) -> bool {
        matches!(self.account, Account::EndOfTheft(_) | Account::KnownThere(_))
    }

    /// The parties of this holder, in the order in which their turns count.
    fn parties(self) -> [Party; 3] {
        [Party::Network(self.network), Party::Member(self.network, self.account), Party::Account(self.account)]
    }
}

/// How many units of a limited resource each party holds.
#[derive(Debug)]
pub struct Holdings {
    /// Negative while [`Holdings::take_always`] has exceeded the capacity.
    free: isize,
    /// Largest number of units of one party.
    limit: isize,
    held: HashMap<Party, isize>,
}

impl Holdings {
    /// `capacity` free units.
    pub fn new(capacity: usize) -> Holdings {
        Holdings { free: capacity.cast_signed(), limit: isize::MAX, held: HashMap::new() }
    }

    /// Whether the holder may take another unit by rule 2.
    pub fn may_take(&self, holder: Holder) -> bool {
        let [of_network, of_member, of_account] = holder.parties().map(|party| self.held(party));
        let max = self.free.min(self.limit);
        of_network < max && (of_account < max || of_member == 0 || holder.account == Account::Unknown)
    }

    fn held(&self, party: Party) -> isize {
        self.held.get(&party).copied().unwrap_or_default()
    }

    /// Takes a unit if the holder may. Returns whether it did.
    pub fn take(&mut self, holder: Holder) -> bool {
        let may = self.may_take(holder);
        if may {
            self.take_always(holder);
        }
        may
    }

    /// Takes a unit without a check.
    pub fn take_always(&mut self, holder: Holder) {
        self.free -= 1;
        for party in holder.parties() {
            *self.held.entry(party).or_default() += 1;
        }
    }

    /// Returns a unit that the holder took.
    pub fn give_back(&mut self, holder: Holder) {
        self.free += 1;
        for party in holder.parties() {
            match self.held.get_mut(&party) {
                Some(held) if *held > 1 => *held -= 1,
                _ => drop(self.held.remove(&party)),
            }
        }
    }
}

/// How many requests may wait for one share. A waiting request costs little more than its connection.
const MAX_WAITING: usize = 1024;
/// How many parties' turns are remembered. Beyond that, all are forgotten, which costs fairness for a moment.
const MAX_TURNS: usize = 8192;

/// A fair semaphore: permits to use a scarce resource. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Share(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    permits: Holdings,
    queue_places: Holdings,
    /// In order of arrival.
    queue: Vec<Waiting>,
    /// When each party was last served, counted in permits. An absent party was not served while others waited.
    turns: HashMap<Party, u64>,
    /// Number of permits given so far.
    served: u64,
    /// Number of requests that have waited so far.
    arrived: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    holder: Holder,
    give: oneshot::Sender<Permit>,
}

/// The right to use the resource. Dropping it returns the permit.
#[derive(Debug)]
pub struct Permit {
    share: Share,
    holder: Holder,
}

impl Share {
    /// `capacity` permits.
    pub fn new(capacity: usize) -> Share {
        Share(Arc::new(Mutex::new(State {
            permits: Holdings::new(capacity),
            queue_places: Holdings::new(MAX_WAITING),
            queue: Vec::new(),
            turns: HashMap::new(),
            served: 0,
            arrived: 0,
        })))
    }

    /// `capacity` permits, at most `limit` for one holder.
    pub fn limited(capacity: usize, limit: usize) -> Share {
        let share = Share::new(capacity);
        share.0.lock().permits.limit = limit.cast_signed();
        share
    }

    /// Takes a permit without waiting. `None` if the holder may not have another one now.
    pub fn try_take(&self, holder: Holder) -> Option<Permit> {
        self.0.lock().serve(holder).then(|| Permit { share: self.clone(), holder })
    }

    /// Takes a permit, and waits for one in the queue if necessary. `None` after `timeout`, or if the holder has its
    /// share of the queue already.
    pub async fn take(&self, holder: Holder, timeout: Duration) -> Option<Permit> {
        let (number, given) = {
            let mut state = self.0.lock();
            if state.serve(holder) {
                drop(state);
                return Some(Permit { share: self.clone(), holder });
            }
            state.enqueue(holder)?
        };
        let _place = QueuePlace { share: self, number, holder };
        tokio::time::timeout(timeout, given).await.ok()?.ok()
    }

    fn give_back(&self, holder: Holder) {
        let next: Vec<Waiting> = {
            let mut state = self.0.lock();
            state.permits.give_back(holder);
            std::iter::from_fn(|| state.serve_next()).collect()
        };
        for Waiting { holder, give, .. } in next {
            // If the request has ended, this drops the permit, which serves the next request.
            drop(give.send(Permit { share: self.clone(), holder }));
        }
    }
}

/// A share with a reserve for owners ([`Holder::is_owner`]), so that a flood from many networks does not keep them waiting.
#[derive(Debug)]
pub struct ReservedShare {
    share: Share,
    reserve: Share,
}

impl ReservedShare {
    /// A share, and a reserve with so many permits.
    pub fn new(share: Share, reserve: usize) -> ReservedShare {
        ReservedShare { share, reserve: Share::new(reserve) }
    }

    /// [`Share::take`], of the reserve for an owner.
    pub async fn take(&self, holder: Holder, timeout: Duration) -> Option<Permit> {
        let share = if holder.is_owner() { &self.reserve } else { &self.share };
        share.take(holder, timeout).await
    }
}

impl State {
    /// Gives a permit to the holder if it may have one.
    fn serve(&mut self, holder: Holder) -> bool {
        let may = self.permits.take(holder);
        if may {
            self.served += 1;
            if self.turns.len() > MAX_TURNS || self.queue.is_empty() {
                self.turns.clear();
            }
            self.turns.extend(holder.parties().map(|party| (party, self.served)));
        }
        may
    }

    /// Gives a permit to the waiting request whose turn it is.
    fn serve_next(&mut self) -> Option<Waiting> {
        let turn = |party: Party| self.turns.get(&party).copied().unwrap_or_default();
        let may = self.queue.iter().enumerate().filter(|(_, waiting)| self.permits.may_take(waiting.holder));
        // `min_by_key` returns the first minimum, and the queue is in order of arrival.
        let (index, _) = may.min_by_key(|(_, waiting)| waiting.holder.parties().map(turn))?;
        let waiting = self.queue.remove(index);
        self.serve(waiting.holder);
        Some(waiting)
    }

    fn enqueue(&mut self, holder: Holder) -> Option<(u64, oneshot::Receiver<Permit>)> {
        if !self.queue_places.take(holder) {
            return None;
        }
        let (give, given) = oneshot::channel();
        self.arrived += 1;
        self.queue.push(Waiting { number: self.arrived, holder, give });
        Some((self.arrived, given))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.give_back(self.holder);
    }
}

/// A place in the queue. Its request drops it with a permit or without.
struct QueuePlace<'a> {
    share: &'a Share,
    number: u64,
    holder: Holder,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut state = self.share.0.lock();
        state.queue_places.give_back(self.holder);
        state.queue.retain(|waiting| waiting.number != self.number);
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn memory__holders_and_requests_that_ended_are_forgotten() {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(async {
            let share = Share::new(1);
            let holder = |number: u32| Holder::network(Network::of(Some(IpAddr::V4(number.into()))));
            let permit = share.try_take(holder(1));
            {
                let mut ended = pin!(share.take(holder(2), Duration::from_secs(60)));
                assert!(ended.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                assert_eq!(share.0.lock().queue.len(), 1);
            }
            assert!(share.take(holder(3), Duration::ZERO).await.is_none());
            drop(permit);
            let state = share.0.lock();
            assert!(state.queue.is_empty() && state.queue_places.held.is_empty() && state.permits.held.is_empty());
        });
    }
}
