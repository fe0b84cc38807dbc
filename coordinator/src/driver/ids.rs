//! Makes the ids of operations: UUIDs of version 7, in the order in which they were made.

use std::sync::{Mutex, PoisonError};

use rfs_model::{OperationId, Timestamp};
use uuid::{ContextV7, Uuid};

/// Makes ids. Those of one coordinator never stand still nor go back, whatever its clock does.
pub(super) struct Ids(Mutex<ContextV7>);

impl Ids {
    pub(super) fn new() -> Self {
        Self(Mutex::new(ContextV7::new()))
    }

    pub(super) fn next(&self, now: Timestamp) -> OperationId {
        let context = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = u64::try_from(now.0).unwrap_or(0);
        let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
        OperationId::from_uuid(Uuid::new_v7(uuid::Timestamp::from_unix(&*context, millis / 1000, nanos)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_they_were_made_even_when_the_clock_stands_or_jumps_back() {
        let ids = Ids::new();
        let times = [1_000, 1_000, 1_000, 1_001, 500, 500, 2_000];
        let made = times.map(|millis| ids.next(Timestamp(1_700_000_000_000 + millis)));
        assert!(made.is_sorted(), "{made:?}");
        assert!(made.iter().all(|id| id.as_uuid().get_version_num() == 7));
    }
}
