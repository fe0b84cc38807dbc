//! Remembers to which snapshot the host was last brought, so that it can be compared with what others believe.
//!
//! ```text
//! a restore committed        ─▶ its target
//! it went back after a flip  ─▶ its backup: that is what was put back
//! it changed nothing         ─▶ as before it
//! it is stuck                ─▶ none: the host is at neither
//! ```
//! What was deployed since is not known here.

use std::sync::PoisonError;

use rfs_link::Chain;
use rfs_model::{SnapshotId, Standing};

use super::Engine;
use super::phase::Phase;
use super::receipt::Receipt;

/// How many ended restores are looked at: as many as the journal keeps.
const RECEIPTS: u32 = 200;

impl Engine {
    /// The snapshot that the host was last brought to, by whomever; none when it never was, or is at neither state.
    pub fn brought(&self) -> Option<SnapshotId> {
        *self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a restore that has ended made of the host.
    pub(super) fn note_brought(&self, receipt: &Receipt) {
        if let Some(to) = brought_to(receipt) {
            *self.brought.lock().unwrap_or_else(PoisonError::into_inner) = to;
        }
    }

    /// Reads what earlier processes have made of the host. That it cannot be told is no reason for anything to fail.
    pub(super) fn recall_brought(&self) {
        match self.journal.receipts::<Receipt>(RECEIPTS) {
            Ok(receipts) => receipts.iter().rev().for_each(|receipt| self.note_brought(receipt)),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cannot tell what the host was last brought to");
            }
        }
    }
}

/// What the restore brought the host to; none if it changed nothing.
fn brought_to(receipt: &Receipt) -> Option<Option<SnapshotId>> {
    let put_back = || receipt.phases.iter().any(|span| span.phase == Phase::FlippingBack);
    match receipt.standing {
        Standing::Target => Some(Some(receipt.target)),
        Standing::Before if put_back() => Some(receipt.backup),
        Standing::Before => None,
        Standing::Inconsistent => Some(None),
    }
}
