//! Where objects are, in one sorted piece of memory: as small as on disk, and loaded by reading it.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use rfs_model::Digest;

use crate::pack::{Location, PackId};

/// A record: digest, number of the pack in the table's list, offset, stored length, raw length.
pub(super) const RECORD: usize = 48;

/// Objects in all their places, sorted by digest and, for each, by pack.
#[derive(Debug)]
pub(crate) struct Table {
    records: Vec<u8>,
    packs: Vec<PackId>,
    /// Where the records begin whose digests begin with each number.
    starts: Vec<u32>,
    /// With so many bits of a digest `starts` is asked.
    bits: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self { records: Vec::new(), packs: Vec::new(), starts: Vec::new(), bits: 1 }
    }
}

impl Table {
    /// Takes records that are sorted and name packs of the list, each of which is there once. `None`: they are not.
    pub(super) fn new(records: Vec<u8>, packs: Vec<PackId>) -> Option<Self> {
        let count = records.len() / RECORD;
        let distinct: BTreeSet<&PackId> = packs.iter().collect();
        if distinct.len() != packs.len() {
            return None;
        }
        let bits = u64::from(u32::try_from(count).ok()?).next_power_of_two().trailing_zeros().clamp(1, 24);
        let mut table = Self { records, packs, starts: Vec::with_capacity((1 << bits) + 1), bits };
        let mut before: &[u8] = &[];
        for (i, record) in table.records.chunks_exact(RECORD).enumerate() {
            let pack = table.packs.get(pack_number(record))?;
            // By the packs themselves: the list may be in any order.
            let is_sorted = i == 0
                || match before[..32].cmp(&record[..32]) {
                    Ordering::Less => true,
                    Ordering::Equal => table.packs[pack_number(before)] < *pack,
                    Ordering::Greater => false,
                };
            if !is_sorted || !table.read(record).1.is_possible() {
                return None;
            }
            before = record;
            let bucket = bucket(record, bits);
            while table.starts.len() <= bucket {
                table.starts.push(i as u32);
            }
        }
        table.starts.resize((1 << bits) + 1, count as u32);
        Some(table)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len() / RECORD
    }

    pub(super) fn records(&self) -> &[u8] {
        &self.records
    }

    pub(super) fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// The latest place of an object.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Location> {
        self.places(digest).next()
    }

    /// The places of an object, the latest first.
    pub(crate) fn places(&self, digest: &Digest) -> impl Iterator<Item = Location> {
        let bucket = bucket(digest.as_bytes(), self.bits);
        let records = match (self.starts.get(bucket), self.starts.get(bucket + 1)) {
            (Some(from), Some(to)) => &self.records[*from as usize * RECORD..*to as usize * RECORD],
            _ => &[],
        };
        let here = records.chunks_exact(RECORD).rev().filter(|record| record[..32] == *digest.as_bytes());
        here.map(|record| self.read(record).1)
    }

    /// Every object in every place.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Digest, Location)> {
        self.records.chunks_exact(RECORD).map(|record| self.read(record))
    }

    /// Every object, once, in its latest place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Digest, Location)> {
        let mut records = self.records.chunks_exact(RECORD).peekable();
        std::iter::from_fn(move || {
            let mut record = records.next()?;
            while let Some(later) = records.next_if(|next| next[..32] == record[..32]) {
                record = later;
            }
            Some(self.read(record))
        })
    }

    /// Keeps what is in these packs.
    pub(crate) fn retain(&mut self, keep: impl Fn(PackId) -> bool) {
        let kept: Vec<bool> = self.packs.iter().map(|id| keep(*id)).collect();
        if kept.iter().all(|kept| *kept) {
            return;
        }
        let mut records = Vec::with_capacity(self.records.len());
        let mut left = 0u32..;
        let numbers: Vec<u32> =
            kept.iter().map(|kept| if *kept { left.next().unwrap_or(0) } else { 0 }).collect();
        for record in self.records.chunks_exact(RECORD).filter(|record| kept[pack_number(record)]) {
            copy(record, &numbers, &mut records);
        }
        let packs = self.packs.iter().copied().filter(|id| keep(*id)).collect();
        self.rebuild(records, packs);
    }

    /// Adds objects.
    pub(crate) fn merge(&mut self, mut added: Vec<(Digest, Location)>) {
        added.sort_unstable_by_key(|(digest, location)| (*digest, location.pack));
        added.dedup_by_key(|(digest, location)| (*digest, location.pack));
        let mut packs: Vec<PackId> = self.packs.clone();
        packs.extend(added.iter().map(|(_, location)| location.pack));
        packs.sort_unstable();
        packs.dedup();
        let number = |id: PackId| packs.binary_search(&id).unwrap_or_default() as u32;
        let renumbered: Vec<u32> = self.packs.iter().map(|id| number(*id)).collect();
        let mut records = Vec::with_capacity(self.records.len() + added.len() * RECORD);
        let mut old = self.records.chunks_exact(RECORD).peekable();
        for (digest, location) in &added {
            let new = (&digest.as_bytes()[..], number(location.pack));
            let place = |record: &[u8]| renumbered[pack_number(record)];
            while let Some(record) = old.next_if(|record| (&record[..32], place(record)) < new) {
                copy(record, &renumbered, &mut records);
            }
            let _replaced = old.next_if(|record| (&record[..32], place(record)) == new);
            records.extend_from_slice(digest.as_bytes());
            for field in [number(location.pack), location.offset, location.stored, location.raw] {
                records.extend_from_slice(&field.to_le_bytes());
            }
        }
        old.for_each(|record| copy(record, &renumbered, &mut records));
        self.rebuild(records, packs);
    }

    fn rebuild(&mut self, records: Vec<u8>, packs: Vec<PackId>) {
        *self = Self::new(records, packs).expect("a part or a merger of sorted records is sorted");
    }

    fn read(&self, record: &[u8]) -> (Digest, Location) {
        let digest = Digest::from_bytes(std::array::from_fn(|i| record[i]));
        let pack = self.packs[pack_number(record)];
        let location =
            Location { pack, offset: field(record, 36), stored: field(record, 40), raw: field(record, 44) };
        (digest, location)
    }
}

/// Copies a record, its pack by its new number.
fn copy(record: &[u8], numbers: &[u32], records: &mut Vec<u8>) {
    records.extend_from_slice(&record[..32]);
    records.extend_from_slice(&numbers[pack_number(record)].to_le_bytes());
    records.extend_from_slice(&record[36..]);
}

fn field(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

fn pack_number(record: &[u8]) -> usize {
    field(record, 32) as usize
}

fn bucket(digest: &[u8], bits: u32) -> usize {
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (head >> (32 - bits)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(i: u64, pack: u64) -> (Digest, Location) {
        let digest = Digest::from_bytes(*blake3::hash(&i.to_le_bytes()).as_bytes());
        (digest, Location { pack: PackId(pack), offset: i as u32, stored: 2, raw: 3 })
    }

    #[test]
    fn what_is_merged_is_found_and_the_later_wins() {
        let mut table = Table::default();
        assert_eq!(table.find(&object(1, 1).0), None);
        table.merge((0..1000).map(|i| object(i, i % 7)).collect());
        table.merge((500..2000).map(|i| object(i, 7 + i % 5)).collect());
        assert_eq!((table.len(), table.iter().count()), (2500, 2000));
        for i in 0..2000 {
            let (digest, location) = object(i, if i < 500 { i % 7 } else { 7 + i % 5 });
            assert_eq!(table.find(&digest), Some(location), "{i}");
        }
        assert_eq!(table.find(&object(2000, 1).0), None);
        table.retain(|id| id.0 != 3 && id.0 != 8);
        for i in 0..2000 {
            let first = (i < 1000 && i % 7 != 3).then(|| object(i, i % 7).1);
            let second = (i >= 500 && i % 5 != 1).then(|| object(i, 7 + i % 5).1);
            assert_eq!(table.find(&object(i, 0).0), second.or(first), "the other place of {i}");
        }
    }

    #[test]
    fn records_out_of_order_or_of_no_pack_are_refused() {
        let mut table = Table::default();
        table.merge((0..3).map(|i| object(i, 1)).collect());
        let records = table.records().to_vec();
        assert!(Table::new(records.clone(), vec![PackId(1)]).is_some());
        assert!(Table::new(records.clone(), Vec::new()).is_none());
        let swapped = [&records[RECORD..2 * RECORD], &records[..RECORD]].concat();
        assert!(Table::new(swapped, vec![PackId(1)]).is_none());
        assert!(Table::new(records.clone(), vec![PackId(1), PackId(1)]).is_none(), "a pack twice");
        let mut huge = records;
        huge[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Table::new(huge, vec![PackId(1)]).is_none(), "more than an object can be");
    }

    #[test]
    fn packs_may_be_listed_in_any_order_and_then_merged() {
        let (digest, _) = object(1, 0);
        let record = |number: u32| {
            let fields = [number, 24, 2, 3].map(u32::to_le_bytes).concat();
            [&digest.as_bytes()[..], &fields].concat()
        };
        let packs = vec![PackId(5), PackId(3)];
        assert!(Table::new([record(0), record(1)].concat(), packs.clone()).is_none(), "pack 5 before pack 3");
        let mut table = Table::new([record(1), record(0)].concat(), packs).expect("sorted by pack");
        assert_eq!(table.find(&digest).map(|found| found.pack), Some(PackId(5)));
        table.merge(vec![object(1, 4)]);
        assert_eq!((table.len(), table.find(&digest).map(|found| found.pack)), (3, Some(PackId(5))));
    }
}
