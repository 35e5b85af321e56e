//! Fair turns at a worker's thread. A worker runs its tasks one after another, in the order in which they became ready.
//! So a network with a thousand ready connections would delay all others by a thousand requests. Therefore a network
//! gets at most [`TURNS_PER_ROUND`] turns in a round, and its other connections wait for the next round. A round ends
//! when all ready tasks have run, so an otherwise idle worker loses no time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::mem::take;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

use actix_web::rt;

use crate::shares::Network;

/// How many times connections of one network may read in a round.
const TURNS_PER_ROUND: usize = 8;

thread_local! {
    static ROUNDS: Rounds = Rounds::default();
}

/// The rounds of one worker.
#[derive(Default)]
struct Rounds {
    /// The number of the current round.
    current: Cell<u64>,
    /// A task that ends the current round was spawned.
    is_ending: Cell<bool>,
    networks: RefCell<HashMap<Network, Weak<Turns>>>,
    /// The networks with waiting connections.
    waiting: RefCell<Vec<Rc<Turns>>>,
}

/// The turns of one network in the current round.
#[derive(Debug)]
struct Turns {
    network: Network,
    round: Cell<u64>,
    taken: Cell<usize>,
    queue: RefCell<VecDeque<(Rc<Cell<State>>, Waker)>>,
}

/// The state of a connection in the queue of its network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Outside,
    Waiting,
    Granted,
}

/// A connection's part in the turns of its network.
#[derive(Debug)]
pub(super) struct Turn {
    of_network: Rc<Turns>,
    state: Rc<Cell<State>>,
}

impl Turn {
    /// For a connection of `network` on this worker.
    pub(super) fn new(network: Network) -> Turn {
        let of_network = ROUNDS.with(|rounds| {
            let mut networks = rounds.networks.borrow_mut();
            let known = networks.get(&network).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turns = Rc::new(Turns {
                    network,
                    round: Cell::default(),
                    taken: Cell::default(),
                    queue: RefCell::default(),
                });
                networks.insert(network, Rc::downgrade(&turns));
                turns
            })
        });
        Turn { of_network, state: Rc::default() }
    }

    /// Takes a turn, and returns whether there was one. If not, the task will be woken when it is granted one.
    pub(super) fn take(&self, context: &mut Context<'_>) -> bool {
        match self.state.get() {
            State::Granted => self.state.set(State::Outside),
            State::Waiting => return false,
            State::Outside => return ROUNDS.with(|rounds| rounds.take(self, context)),
        }
        true
    }
}

impl Rounds {
    fn take(&self, turn: &Turn, context: &mut Context<'_>) -> bool {
        let turns = &turn.of_network;
        if turns.round.replace(self.current.get()) != self.current.get() {
            turns.taken.set(0);
        }
        let taken = turns.taken.get();
        if taken + 1 >= TURNS_PER_ROUND {
            self.end_when_all_have_run();
        }
        if taken < TURNS_PER_ROUND {
            turns.taken.set(taken + 1);
            return true;
        }
        let mut queue = turns.queue.borrow_mut();
        if queue.is_empty() {
            self.waiting.borrow_mut().push(Rc::clone(turns));
        }
        turn.state.set(State::Waiting);
        queue.push_back((Rc::clone(&turn.state), context.waker().clone()));
        false
    }

    /// Ends the round after all tasks that are ready now.
    fn end_when_all_have_run(&self) {
        if !self.is_ending.replace(true) {
            rt::spawn(async { ROUNDS.with(Rounds::end) });
        }
    }

    /// Begins the next round, with the connections that have waited longest.
    fn end(&self) {
        self.is_ending.set(false);
        self.current.set(self.current.get() + 1);
        let mut waiting = take(&mut *self.waiting.borrow_mut());
        waiting.retain(|turns| turns.grant(self.current.get()));
        if !waiting.is_empty() {
            self.end_when_all_have_run();
        }
        self.waiting.borrow_mut().append(&mut waiting);
    }
}

impl Turns {
    /// Grants the turns of a round. Returns whether connections are left waiting.
    fn grant(&self, round: u64) -> bool {
        let mut queue = self.queue.borrow_mut();
        let granted = queue.len().min(TURNS_PER_ROUND);
        self.round.set(round);
        self.taken.set(granted);
        for (state, waker) in queue.drain(..granted) {
            state.set(State::Granted);
            waker.wake();
        }
        !queue.is_empty()
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        // The thread may be ending.
        let _ = ROUNDS.try_with(|rounds| rounds.networks.borrow_mut().remove(&self.network));
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use std::future::poll_fn;
    use std::net::IpAddr;
    use std::task::Poll;

    use super::*;

    /// Takes a turn and logs it.
    fn visit(name: usize, network: IpAddr, log: &Rc<RefCell<Vec<usize>>>) -> rt::task::JoinHandle<()> {
        let (turn, log) = (Turn::new(Network::of(Some(network))), Rc::clone(log));
        rt::spawn(async move {
            poll_fn(|context| if turn.take(context) { Poll::Ready(()) } else { Poll::Pending }).await;
            log.borrow_mut().push(name);
        })
    }

    #[test]
    fn turns__network_with_many_connections_delays_others_by_one_round() {
        const MANY: usize = 1000;
        rt::System::new().block_on(async {
            let log = Rc::default();
            let mut tasks: Vec<_> = (0..MANY).map(|name| visit(name, [192, 0, 2, 1].into(), &log)).collect();
            tasks.push(visit(MANY, [192, 0, 2, 2].into(), &log));
            for task in tasks {
                task.await.expect("the task ends");
            }
            let log = log.borrow();
            assert_eq!(log.iter().position(|name| *name == MANY), Some(TURNS_PER_ROUND), "{log:?}");
            let others: Vec<_> = log.iter().filter(|name| **name != MANY).copied().collect();
            assert_eq!(others, (0..MANY).collect::<Vec<_>>(), "connections of one network keep their order");
        });
        ROUNDS
            .with(|rounds| assert!(rounds.networks.borrow().is_empty(), "a network without connections is forgotten"));
    }
}
