//! A map from the hosts of an operation to their records, of which a copy is cheap.
//!
//! The hosts of an operation never change, and a decision touches few of them. So the names are shared by all copies, and the
//! records lie in blocks of which a copy shares those that it has not changed: to decide on one report of ten thousand hosts
//! copies one block.

use std::fmt;
use std::iter::{FlatMap, Zip};
use std::ops::Index;
use std::slice;
use std::sync::Arc;

use rfs_model::HostId;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many records one block holds.
const BLOCK: usize = 32;

/// A map from hosts, in the order of their names, whose keys never change.
#[derive(Clone)]
pub struct Hosts<T> {
    names: Arc<[HostId]>,
    blocks: Vec<Arc<Vec<T>>>,
}

impl<T> Hosts<T> {
    fn place(&self, host: &HostId) -> Option<usize> {
        self.names.binary_search(host).ok()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether the host is one of them.
    pub fn contains_key(&self, host: &HostId) -> bool {
        self.place(host).is_some()
    }

    /// What is known of a host.
    pub fn get(&self, host: &HostId) -> Option<&T> {
        self.place(host).map(|place| &self.blocks[place / BLOCK][place % BLOCK])
    }

    /// A host's name as it is kept here, with what is known of it.
    pub fn get_key_value(&self, host: &HostId) -> Option<(&HostId, &T)> {
        let place = self.place(host)?;
        Some((&self.names[place], &self.blocks[place / BLOCK][place % BLOCK]))
    }

    /// The names, in order.
    pub fn keys(&self) -> slice::Iter<'_, HostId> {
        self.names.iter()
    }

    /// What is known of each, in the order of the names.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// The same hosts with what is made of each record; none if nothing can be made of one.
    pub(crate) fn try_map<U>(self, mut make: impl FnMut(T) -> Option<U>) -> Option<Hosts<U>>
    where
        T: Clone,
    {
        let Self { names, blocks } = self;
        let mut made = Vec::with_capacity(blocks.len());
        for block in blocks {
            let block = Arc::unwrap_or_clone(block).into_iter().map(&mut make).collect::<Option<Vec<U>>>()?;
            made.push(Arc::new(block));
        }
        Some(Hosts { names, blocks: made })
    }

    /// Each with what is known of it, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&HostId, &T)> {
        self.into_iter()
    }
}

impl<T: PartialEq> Hosts<T> {
    /// The hosts of which something else was known in `before`; none if the hosts are others. What both share is not looked at.
    pub fn changed_since<'h>(&'h self, before: &'h Self) -> Option<impl Iterator<Item = &'h HostId>> {
        if !Arc::ptr_eq(&self.names, &before.names) && self.names != before.names {
            return None;
        }
        let blocks = self.names.chunks(BLOCK).zip(self.blocks.iter().zip(&before.blocks));
        let blocks = blocks.filter(|(_, (is, was))| !Arc::ptr_eq(is, was));
        Some(blocks.flat_map(|(names, (is, was))| {
            let records = names.iter().zip(is.iter().zip(was.iter()));
            records.filter(|(_, (is, was))| is != was).map(|(name, _)| name)
        }))
    }
}

impl<T: Clone> Hosts<T> {
    /// What is known of a host, to be changed.
    pub fn get_mut(&mut self, host: &HostId) -> Option<&mut T> {
        let place = self.place(host)?;
        Some(&mut Arc::make_mut(&mut self.blocks[place / BLOCK])[place % BLOCK])
    }

    /// What is known of each, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flat_map(|block| Arc::make_mut(block).iter_mut())
    }

    /// Each with what is known of it, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&HostId, &mut T)> {
        let Self { names, blocks } = self;
        names.iter().zip(blocks.iter_mut().flat_map(|block| Arc::make_mut(block).iter_mut()))
    }
}

/// The records of all blocks, one after the other.
type Records<'h, T> =
    FlatMap<slice::Iter<'h, Arc<Vec<T>>>, slice::Iter<'h, T>, fn(&'h Arc<Vec<T>>) -> slice::Iter<'h, T>>;

impl<'h, T> IntoIterator for &'h Hosts<T> {
    type Item = (&'h HostId, &'h T);
    type IntoIter = Zip<slice::Iter<'h, HostId>, Records<'h, T>>;

    fn into_iter(self) -> Self::IntoIter {
        let records: fn(&'h Arc<Vec<T>>) -> slice::Iter<'h, T> = |block| block.iter();
        self.names.iter().zip(self.blocks.iter().flat_map(records))
    }
}

impl<T> Index<&HostId> for Hosts<T> {
    type Output = T;

    fn index(&self, host: &HostId) -> &T {
        self.get(host).expect("the host is one of the operation's")
    }
}

impl<T> FromIterator<(HostId, T)> for Hosts<T> {
    fn from_iter<I: IntoIterator<Item = (HostId, T)>>(hosts: I) -> Self {
        let mut hosts: Vec<(HostId, T)> = hosts.into_iter().collect();
        // Mostly it is in order already.
        hosts.sort_by(|(one, _), (other, _)| one.cmp(other));
        hosts.dedup_by(|(later, _), (first, _)| later == first);
        let (names, records): (Vec<HostId>, Vec<T>) = hosts.into_iter().unzip();
        let mut blocks = Vec::with_capacity(names.len().div_ceil(BLOCK));
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            blocks.push(Arc::new(records.by_ref().take(BLOCK).collect()));
        }
        Self { names: names.into(), blocks }
    }
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { names: Arc::default(), blocks: Vec::new() }
    }
}

impl<T: PartialEq> PartialEq for Hosts<T> {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names && self.blocks == other.blocks
    }
}

impl<T: Eq> Eq for Hosts<T> {}

impl<T: fmt::Debug> fmt::Debug for Hosts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T: Serialize> Serialize for Hosts<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Hosts<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Hosts<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from host names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Hosts<T>, A::Error> {
                let mut hosts = Vec::with_capacity(map.size_hint().unwrap_or_default());
                while let Some(entry) = map.next_entry()? {
                    hosts.push(entry);
                }
                Ok(hosts.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn host(n: usize) -> HostId {
        format!("h-{n}").parse().expect("a valid name")
    }

    #[test]
    fn it_is_the_map_that_its_entries_make() {
        for count in [0, 1, BLOCK, BLOCK + 1, 10 * BLOCK - 1] {
            let map: BTreeMap<HostId, usize> = (0..count).map(|n| (host(n), n)).collect();
            let mut hosts: Hosts<usize> = (0..count).rev().map(|n| (host(n), n)).collect();
            assert!(hosts.iter().eq(&map) && hosts.keys().eq(map.keys()) && hosts.values().eq(map.values()));
            assert_eq!((hosts.len(), hosts.is_empty()), (count, count == 0));
            for n in 0..count {
                assert_eq!((hosts.get(&host(n)), hosts[&host(n)]), (Some(&n), n));
                *hosts.get_mut(&host(n)).expect("it is there") += 1;
            }
            assert!(hosts.get(&host(count)).is_none() && !hosts.contains_key(&host(count)));
            hosts.values_mut().for_each(|n| *n -= 1);
            assert!(hosts.iter_mut().map(|(host, n)| (host.clone(), *n)).eq(map.clone()));
            let text = serde_json::to_string(&hosts).expect("it has text for keys");
            assert_eq!(text, serde_json::to_string(&map).expect("the same"));
            assert_eq!(serde_json::from_str::<Hosts<usize>>(&text).expect("it reads"), hosts);
        }
    }

    #[test]
    fn a_change_copies_one_block_and_leaves_the_copy_as_it_was() {
        let before: Hosts<usize> = (0..10 * BLOCK).map(|n| (host(n), n)).collect();
        let mut after = before.clone();
        *after.get_mut(&host(7)).expect("it is there") = 700;
        assert_eq!((before[&host(7)], after[&host(7)]), (7, 700));
        assert!(after.changed_since(&before).expect("the same hosts").eq([&host(7)]));
        assert!(Hosts::from_iter([(host(1), 1)]).changed_since(&before).is_none());
        let shared = before.blocks.iter().zip(&after.blocks).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.count(), 9);
        assert_ne!(before, after);
    }
}
