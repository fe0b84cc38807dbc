//! The connections that have proven nothing yet: bounded in number, in all and for each address, and told of in few lines.
//!
//! A connection costs a descriptor until its peer is known, and anybody can open one. Where there are too many, the oldest
//! that has said nothing goes first, then the oldest that takes too long; so whoever speaks at once gets in, however many
//! silent connections there are beside it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A handshake that takes longer may be ended for one that begins.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everybody at the door.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: usize,
    most_of_one_address: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// In the order in which they came.
    guests: BTreeMap<u64, Guest>,
    of_address: BTreeMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Guest {
    address: IpAddr,
    since: Instant,
    is_silent: bool,
    leave: CancellationToken,
}

/// A place at the door, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    crowd: Arc<Crowd>,
    leave: CancellationToken,
}

impl Crowd {
    pub(crate) fn new(most: usize, most_of_one_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one_address, inner: Mutex::default() })
    }

    /// Takes in a connection from `address`, in the place of another one if there are too many. `None`: all others are
    /// newer, or speak.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner.of_address.get(&address).copied().unwrap_or(0) >= self.most_of_one_address {
            inner.make_room(now, |guest| guest.address == address)?;
        }
        if inner.guests.len() >= self.most {
            inner.make_room(now, |_| true)?;
        }
        let (number, leave) = (inner.next, CancellationToken::new());
        inner.next += 1;
        inner.guests.insert(number, Guest { address, since: now, is_silent: true, leave: leave.clone() });
        *inner.of_address.entry(address).or_default() += 1;
        Some(Place { number, crowd: self.clone(), leave })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_room(&mut self, now: Instant, among: impl Fn(&Guest) -> bool) -> Option<()> {
        let find = |wanted: &dyn Fn(&Guest) -> bool| {
            self.guests.iter().find(|(_, guest)| among(guest) && wanted(guest)).map(|(number, _)| *number)
        };
        let slow = |guest: &Guest| now.duration_since(guest.since) > PATIENCE;
        let number = find(&|guest| guest.is_silent).or_else(|| find(&slow))?;
        if let Some(guest) = self.remove(number) {
            guest.leave.cancel();
        }
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Guest> {
        let guest = self.guests.remove(&number)?;
        if let Some(count) = self.of_address.get_mut(&guest.address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&guest.address);
            }
        }
        Some(guest)
    }
}

impl Place {
    /// The peer has said something.
    pub(crate) fn spoke(&self) {
        if let Some(guest) = self.crowd.lock().guests.get_mut(&self.number) {
            guest.is_silent = false;
        }
    }

    /// Completes when another one needs the place.
    pub(crate) async fn taken(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().remove(self.number);
    }
}

/// Lets a few lines a while into the log, however many there would be.
#[derive(Debug)]
pub(crate) struct Quota {
    inner: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    since: Instant,
    said: u32,
    unsaid: u64,
}

impl Quota {
    const LINES: u32 = 10;
    const PER: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Spent { since: Instant::now(), said: 0, unsaid: 0 }) }
    }

    /// Whether a line may be written, and how many were left out before it.
    pub(crate) fn line(&self) -> Option<u64> {
        let mut spent = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.since.elapsed() >= Self::PER {
            (spent.since, spent.said) = (Instant::now(), 0);
        }
        if spent.said == Self::LINES {
            spent.unsaid += 1;
            return None;
        }
        spent.said += 1;
        Some(std::mem::take(&mut spent.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn is_gone(place: &Place) -> bool {
        place.leave.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_silent_one_of_an_address_goes_first() {
        let crowd = Crowd::new(10, 3);
        let other = crowd.admit(address(2)).expect("there is room");
        let [a, b, c] = [(); 3].map(|()| crowd.admit(address(1)).expect("there is room"));
        a.spoke();
        let d = crowd.admit(address(1)).expect("in the place of a silent one");
        assert_eq!([&a, &b, &c, &d, &other].map(is_gone), [false, true, false, false, false]);
        let e = crowd.admit(address(1)).expect("in the place of the next silent one");
        assert!(is_gone(&c));
        d.spoke();
        e.spoke();
        assert!(crowd.admit(address(1)).is_none(), "all speak, and none is slow yet");
        tokio::time::advance(PATIENCE * 2).await;
        crowd.admit(address(1)).expect("in the place of a slow one").spoke();
        assert!(is_gone(&a) && !is_gone(&d));
    }

    #[tokio::test]
    async fn all_addresses_together_have_a_bound_and_a_place_is_given_back() {
        let crowd = Crowd::new(3, 3);
        let places: Vec<_> = (0..3).filter_map(|i| crowd.admit(address(i))).collect();
        let late = crowd.admit(address(9)).expect("in the place of the oldest");
        assert_eq!(places.iter().map(is_gone).collect::<Vec<_>>(), [true, false, false]);
        drop(places);
        assert_eq!(crowd.lock().guests.len(), 1);
        drop(late);
        assert!(crowd.lock().of_address.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_writes_few_lines_and_says_how_many_it_left_out() {
        let quota = Quota::new();
        assert_eq!((0..1000).filter_map(|_| quota.line()).count(), 10);
        tokio::time::advance(Quota::PER).await;
        assert_eq!(quota.line(), Some(990));
        assert_eq!(quota.line(), Some(0));
    }
}
