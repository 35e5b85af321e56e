//! Shares: how everything that is scarce is divided, so that one caller can exhaust only a part of it.
//!
//! The rules, which hold for hashing, the database, host verification, connections and the memory of used assertions:
//!
//! 1. A [`Share`] has a fixed number of permits. Each request names its [`Holder`]: a network, and an account once it is known.
//! 2. A network may take another permit only while it holds fewer than remain free. The same goes for an account, except for
//!    its first permit in a network: an account that is used elsewhere by a thief is not closed to its owner.
//!    So one holder gets at most half, and others always find a permit.
//! 3. A request that gets no permit waits in line. Rule 2 also divides the places in the line.
//! 4. A permit that is given back goes to the waiting network that was served longest ago, within it to the account that
//!    was served longest ago, and then to the request that came first.
//! 5. What ends a theft (a new password, a revocation, a suspension) counts as an account of its own: a thief with a
//!    stolen token cannot use up what the owner needs.
//! 6. A request that waits too long is refused. Nothing of it was done.
//!
//! What is counted per unit of time instead has [`Budgets`].

mod budgets;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use self::budgets::Table;
pub use self::budgets::{Attempt, Budget, BudgetLimits, Budgets, Guesser};
use crate::id::UserId;

/// An IPv4 address, or the /64 from which an IPv6 host can choose its addresses. Peers without an address, as on a Unix
/// socket, are one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(Option<IpAddr>);

impl Network {
    /// The network of that address.
    pub fn of(address: Option<IpAddr>) -> Network {
        Network(address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        }))
    }
}

/// Shows the address, and of IPv6 the network.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(IpAddr::V4(address)) => address.fmt(f),
            Some(IpAddr::V6(address)) => write!(f, "{address}/64"),
            None => f.write_str("-"),
        }
    }
}

/// On whose behalf something is taken: a network, and an account within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    network: Network,
    account: Account,
}

/// The account side of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    /// All accounts that are not known.
    Unknown,
    /// A caller who signs in from a network from which that account was signed in to before, by a hash of both.
    KnownThere(u64),
    User(UserId),
    /// The same account for what ends a theft.
    EndOfTheft(UserId),
}

/// What has a share of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
    Network(Network),
    /// An account within a network.
    Member(Network, Account),
    /// An account, wherever it is used.
    Account(Account),
}

impl Holder {
    /// A caller whose account is not known yet.
    pub fn network(network: Network) -> Holder {
        Holder { network, account: Account::Unknown }
    }

    /// A caller of that account.
    pub fn account(network: Network, user: UserId) -> Holder {
        Holder { network, account: Account::User(user) }
    }

    /// The same caller for an act that ends a theft, which has a share of its own.
    #[must_use]
    pub fn ends_theft(self) -> Holder {
        match self.account {
            Account::User(user) => Holder { account: Account::EndOfTheft(user), ..self },
            _ => self,
        }
    }

    /// The user, if the account is known.
    pub fn user(self) -> Option<UserId> {
        match self.account {
            Account::User(user) | Account::EndOfTheft(user) => Some(user),
            _ => None,
        }
    }

    /// Whether the holder has a token of the account for what ends a theft, or comes from a network in which the account is
    /// known.
    pub fn is_owner(self) -> bool {
        matches!(self.account, Account::EndOfTheft(_) | Account::KnownThere(_))
    }

    /// The parties of which this holder is one, in the order in which their turns count.
    fn parties(self) -> [Party; 3] {
        [Party::Network(self.network), Party::Member(self.network, self.account), Party::Account(self.account)]
    }
}

/// Who holds how much of something that is limited.
#[derive(Debug)]
pub struct Holdings {
    /// Below zero while more is held than there is, by [`Holdings::take_always`].
    free: isize,
    /// How many units one party may hold at most.
    limit: isize,
    held: HashMap<Party, isize>,
}

impl Holdings {
    /// With so many units, all of them free.
    pub fn new(capacity: usize) -> Holdings {
        Holdings { free: capacity.cast_signed(), limit: isize::MAX, held: HashMap::new() }
    }

    /// Whether the holder may take another unit: its network and its account each hold fewer than remain free.
    pub fn may_take(&self, holder: Holder) -> bool {
        let [of_network, of_member, of_account] = holder.parties().map(|party| self.held(party));
        let most = self.free.min(self.limit);
        of_network < most && (of_account < most || of_member == 0 || holder.account == Account::Unknown)
    }

    fn held(&self, party: Party) -> isize {
        self.held.get(&party).copied().unwrap_or_default()
    }

    /// Takes a unit, if the holder may.
    pub fn take(&mut self, holder: Holder) -> bool {
        let may = self.may_take(holder);
        if may {
            self.take_always(holder);
        }
        may
    }

    /// Takes a unit whether the holder may or not.
    pub fn take_always(&mut self, holder: Holder) {
        self.free -= 1;
        for party in holder.parties() {
            *self.held.entry(party).or_default() += 1;
        }
    }

    /// Gives back a unit that the holder took.
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

/// How many requests may wait for one share. Each costs little more than its connection.
const MAX_WAITING: usize = 1024;
/// How many parties' turns are remembered. Beyond that the memory of turns is cleared, which costs fairness for a moment.
const MAX_TURNS: usize = 8192;

/// Permits to use something scarce. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Share(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    permits: Holdings,
    places_in_line: Holdings,
    /// In order of arrival.
    line: Vec<Waiting>,
    /// When each party was served last, counted in permits. A party that is not here was not served while others waited.
    turns: HashMap<Party, u64>,
    /// How many permits were given so far, and how many requests have waited.
    served: u64,
    arrived: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    holder: Holder,
    give: oneshot::Sender<Permit>,
}

/// The right to use the thing, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    share: Share,
    holder: Holder,
}

impl Share {
    /// With so many permits.
    pub fn new(capacity: usize) -> Share {
        Share(Arc::new(Mutex::new(State {
            permits: Holdings::new(capacity),
            places_in_line: Holdings::new(MAX_WAITING),
            line: Vec::new(),
            turns: HashMap::new(),
            served: 0,
            arrived: 0,
        })))
    }

    /// With so many permits, of which one holder gets at most `limit`.
    pub fn limited(capacity: usize, limit: usize) -> Share {
        let share = Share::new(capacity);
        share.state().permits.limit = limit.cast_signed();
        share
    }

    /// Takes a permit without waiting. `None` when the holder may not have another one now.
    pub fn try_take(&self, holder: Holder) -> Option<Permit> {
        self.state().serve(holder).then(|| Permit { share: self.clone(), holder })
    }

    /// Takes a permit, and waits for it in line if need be. `None` after `timeout`, or when the holder's network or account
    /// has its share of the line already.
    pub async fn take(&self, holder: Holder, timeout: Duration) -> Option<Permit> {
        let (number, given) = {
            let mut state = self.state();
            if state.serve(holder) {
                drop(state);
                return Some(Permit { share: self.clone(), holder });
            }
            state.line_up(holder)?
        };
        let _place = PlaceInLine { share: self, number, holder };
        tokio::time::timeout(timeout, given).await.ok()?.ok()
    }

    /// How many permits are free.
    #[cfg(test)]
    fn free(&self) -> usize {
        self.state().permits.free.try_into().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, holder: Holder) {
        let next: Vec<Waiting> = {
            let mut state = self.state();
            state.permits.give_back(holder);
            std::iter::from_fn(|| state.serve_next()).collect()
        };
        for Waiting { holder, give, .. } in next {
            // A request that has gone meanwhile drops its permit, which serves the next one.
            drop(give.send(Permit { share: self.clone(), holder }));
        }
    }
}

impl State {
    /// Gives a permit to the holder, if it may have one.
    fn serve(&mut self, holder: Holder) -> bool {
        let may = self.permits.take(holder);
        if may {
            self.served += 1;
            if self.turns.len() > MAX_TURNS || self.line.is_empty() {
                self.turns.clear();
            }
            self.turns.extend(holder.parties().map(|party| (party, self.served)));
        }
        may
    }

    /// Gives a permit to the waiting request whose turn it is.
    fn serve_next(&mut self) -> Option<Waiting> {
        let turn = |party: Party| self.turns.get(&party).copied().unwrap_or_default();
        let may = self.line.iter().enumerate().filter(|(_, waiting)| self.permits.may_take(waiting.holder));
        // Requests are in order of arrival, and the first of equals is taken.
        let (index, _) = may.min_by_key(|(_, waiting)| waiting.holder.parties().map(turn))?;
        let waiting = self.line.remove(index);
        self.serve(waiting.holder);
        Some(waiting)
    }

    fn line_up(&mut self, holder: Holder) -> Option<(u64, oneshot::Receiver<Permit>)> {
        if !self.places_in_line.take(holder) {
            return None;
        }
        let (give, given) = oneshot::channel();
        self.arrived += 1;
        self.line.push(Waiting { number: self.arrived, holder, give });
        Some((self.arrived, given))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.give_back(self.holder);
    }
}

/// A place in line, which its request leaves with a permit or without.
struct PlaceInLine<'a> {
    share: &'a Share,
    number: u64,
    holder: Holder,
}

impl Drop for PlaceInLine<'_> {
    fn drop(&mut self) {
        let mut state = self.share.state();
        state.places_in_line.give_back(self.holder);
        state.line.retain(|waiting| waiting.number != self.number);
    }
}
