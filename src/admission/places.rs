//! Places that are shared out by address, so that whoever takes all that it can get keeps no other address waiting.
//!
//! An address gets another place while more than three times as many as it holds are free. So one that takes all it can gets a
//! quarter of them, `n` that go on doing so get one in `n + 3` each, and three times that stays free for whoever comes next. A
//! fixed share would have to be small to hold against several such addresses, and then be too small for an API server that
//! is alone.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What has to be free for each that is held already.
const FREE_FOR_EACH: usize = 3;

/// So many places, and room for so many who wait for one.
pub(super) struct Places {
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// For so many more to wait; shared out by the same rule.
    room: usize,
    shares: HashMap<IpAddr, Share>,
    /// The addresses that wait, each once: they take turns.
    turns: VecDeque<IpAddr>,
}

#[derive(Default)]
struct Share {
    held: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// One place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

/// What comes of asking for a place.
pub(super) enum Taken {
    /// There is one.
    Now(Place),
    /// There will be one.
    Later(oneshot::Receiver<Place>),
    /// As many of this address wait as may.
    Full,
}

impl Places {
    pub(super) fn new(free: usize, room: usize) -> Arc<Places> {
        let state = State { free, room, shares: HashMap::new(), turns: VecDeque::new() };
        Arc::new(Places { state: Mutex::new(state) })
    }

    pub(super) fn take(self: &Arc<Places>, peer: IpAddr) -> Taken {
        let mut state = self.state();
        let State { free, room, shares, turns } = &mut *state;
        let share = shares.entry(peer).or_default();
        if share.waiting.is_empty() && may_have_another(share.held, *free) {
            share.held += 1;
            *free -= 1;
            return Taken::Now(Place { places: Arc::clone(self), peer });
        }
        if !may_have_another(share.waiting.len(), *room) {
            // some may have given up
            let before = share.waiting.len();
            share.waiting.retain(|waiting| !waiting.is_closed());
            *room += before - share.waiting.len();
            if share.waiting.is_empty() {
                turns.retain(|turn| *turn != peer);
            }
        }
        if !may_have_another(share.waiting.len(), *room) {
            if share.is_over() {
                shares.remove(&peer);
            }
            return Taken::Full;
        }
        *room -= 1;
        if share.waiting.is_empty() {
            turns.push_back(peer);
        }
        let (waiting, place) = oneshot::channel();
        share.waiting.push_back(waiting);
        Taken::Later(place)
    }

    /// Takes one back. Returns who gets what is free now, for which they are still to be told, without the lock.
    fn give_back(self: &Arc<Places>, peer: IpAddr) -> Vec<(oneshot::Sender<Place>, Place)> {
        let mut state = self.state();
        state.free += 1;
        if let Some(share) = state.shares.get_mut(&peer) {
            share.held -= 1;
            if share.is_over() {
                state.shares.remove(&peer);
            }
        }
        let mut granted = Vec::new();
        let mut passed = 0;
        while passed < state.turns.len() {
            match state.turn() {
                Turn::Passed => passed += 1,
                Turn::GivenUp => passed = 0,
                Turn::Taken(waiting, peer) => {
                    passed = 0;
                    granted.push((waiting, Place { places: Arc::clone(self), peer }));
                }
            }
        }
        granted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_have_another(held: usize, free: usize) -> bool {
    held * FREE_FOR_EACH < free
}

enum Turn {
    /// The address holds its share.
    Passed,
    /// Its first in line waits no longer.
    GivenUp,
    /// A place is taken for its first in line.
    Taken(oneshot::Sender<Place>, IpAddr),
}

impl State {
    /// The turn of the next address that waits, which goes to the end of the queue if there is more that it waits for.
    fn turn(&mut self) -> Turn {
        let Some(peer) = self.turns.pop_front() else { return Turn::Passed };
        let Some(share) = self.shares.get_mut(&peer) else { return Turn::GivenUp };
        if !may_have_another(share.held, self.free) {
            self.turns.push_back(peer);
            return Turn::Passed;
        }
        let waiting = share.waiting.pop_front();
        self.room += usize::from(waiting.is_some());
        let waiting = waiting.filter(|waiting| !waiting.is_closed());
        if waiting.is_some() {
            share.held += 1;
            self.free -= 1;
        }
        if !share.waiting.is_empty() {
            self.turns.push_back(peer);
        } else if share.is_over() {
            self.shares.remove(&peer);
        }
        waiting.map_or(Turn::GivenUp, |waiting| Turn::Taken(waiting, peer))
    }
}

impl Share {
    fn is_over(&self) -> bool {
        self.held == 0 && self.waiting.is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for (waiting, place) in self.places.give_back(self.peer) {
            // whoever has gone meanwhile gives it back here
            drop(waiting.send(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn all(places: &Arc<Places>, peer: IpAddr) -> Vec<Place> {
        let taken = std::iter::from_fn(|| match places.take(peer) {
            Taken::Now(place) => Some(place),
            Taken::Later(_) | Taken::Full => None,
        });
        taken.collect()
    }

    fn later(places: &Arc<Places>, peer: IpAddr) -> oneshot::Receiver<Place> {
        match places.take(peer) {
            Taken::Later(place) => place,
            Taken::Now(_) | Taken::Full => panic!("it does not have to wait"),
        }
    }

    #[test]
    fn one_address_gets_a_quarter_and_twenty_leave_some_for_the_next() {
        let places = Places::new(1024, 0);
        let held: Vec<Vec<Place>> = (0..21).map(|peer| all(&places, address(peer))).collect();
        let held: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(held[0], 256);
        assert!(held[20] >= 1, "{held:?}");
    }

    #[test]
    fn addresses_that_go_on_taking_all_they_can_come_to_hold_the_same() {
        let places = Places::new(1024, 0);
        let mut held: Vec<VecDeque<Place>> = (0..5).map(|peer| all(&places, address(peer)).into()).collect();
        for _ in 0..1000 {
            for (peer, held) in (0..).zip(&mut held) {
                held.pop_front();
                held.extend(all(&places, address(peer)));
            }
        }
        let held: Vec<usize> = held.iter().map(VecDeque::len).collect();
        assert!(held.iter().all(|held| (120..=135).contains(held)), "{held:?}: 1024 ÷ 8");
        assert!(all(&places, address(5)).len() > 80);
    }

    #[test]
    fn what_is_given_back_goes_to_those_who_hold_less() {
        let places = Places::new(16, 8);
        let (mut first, second) = (all(&places, address(1)), all(&places, address(2)));
        assert_eq!((first.len(), second.len()), (4, 3));
        let (mut more, mut another) = (later(&places, address(1)), later(&places, address(2)));
        first.clear();
        assert!(more.try_recv().is_ok() && another.try_recv().is_ok());
    }

    #[test]
    fn of_one_address_who_came_first_is_served_first() {
        let places = Places::new(1, 8);
        let Taken::Now(place) = places.take(address(1)) else { panic!("it is free") };
        let (mut one, mut two) = (later(&places, address(1)), later(&places, address(1)));
        drop(place);
        assert!(two.try_recv().is_err());
        drop(one.try_recv().unwrap());
        assert!(two.try_recv().is_ok());
    }

    #[test]
    fn addresses_that_wait_take_turns() {
        let places = Places::new(1, 100);
        let Taken::Now(place) = places.take(address(1)) else { panic!("it is free") };
        let mut many: Vec<_> = (0..10).map(|_| later(&places, address(1))).collect();
        let mut one = later(&places, address(2));
        drop(place);
        drop(many.remove(0).try_recv().unwrap());
        assert!(one.try_recv().is_ok(), "its turn is after the first of ten");
    }

    #[test]
    fn who_has_given_up_takes_no_place_and_no_room() {
        let places = Places::new(1, 8);
        let Taken::Now(place) = places.take(address(1)) else { panic!("it is free") };
        let gone = (later(&places, address(1)), later(&places, address(1)));
        assert!(matches!(places.take(address(1)), Taken::Full), "a quarter of the room is taken");
        drop(gone);
        let mut waiting = later(&places, address(1));
        // one gives up before its turn, one has its place and does not fetch it
        let (unfetched, given_up) = (later(&places, address(2)), later(&places, address(1)));
        drop(given_up);
        drop(place);
        drop(waiting.try_recv().unwrap());
        drop(unfetched);
        assert_eq!(all(&places, address(3)).len(), 1);
        let state = places.state();
        assert_eq!((state.free, state.room, state.turns.len(), state.shares.len()), (1, 8, 0, 0));
    }
}
