//! An order that several nodes follow: each batch is decided about where it is applied, with the time of the log.

use crate::hub::Published;
use crate::hub::apply::{Counts, Planned};
use crate::hub::draft::{Claim, Draft};
use crate::hub::own_ids::Repeats;
use crate::order::claims::{Kind, RequestClaim};
use crate::order::decide::{Proposed, Verdict};
use crate::order::memory::MemoryOrder;
use crate::order::refused::Refused;
use crate::types::moment::Moment;
use crate::types::position::Offset;

impl MemoryOrder {
    /// Applies a publish whose events are at the `count` positions from `first` on, each by its index, and which was appended at
    /// `then`.
    ///
    /// # Errors
    ///
    /// If one of them is refused, or the request's claim. Then their positions stay empty.
    pub fn apply_shared(
        &self,
        first: Offset,
        count: u32,
        drafts: Vec<Draft>,
        request: Option<Claim>,
        repeats: Repeats,
        then: Moment,
    ) -> Result<Published, Refused> {
        let last = first + u64::from(count) - 1;
        if drafts.is_empty() {
            self.hub().skip_to(last);
            return Ok(Published::default());
        }
        let request = request.map(|claim| RequestClaim { claim, turn: None });
        let proposed = Proposed::new(self.hub(), drafts, request, repeats);
        let mut claimed = self.claimed();
        if let Some(RequestClaim { claim, .. }) = request {
            // A request of this node may hold it while it is under way.
            claimed.of_mut(Kind::Key).free_running(claim.key);
        }
        let mut applying = self.hub().applying(Counts::Yes);
        let mut planned = Planned::spread_from(first);
        let result = match proposed.decide(Some(&mut claimed), &mut applying, &mut planned, then) {
            Err(refused) => Err(refused),
            Ok(Verdict::Again(first)) => Ok(self.again(first)),
            Ok(Verdict::Apply(mut decided)) => {
                let published = decided.apply(&mut applying, first, then);
                decided.finish(&mut claimed, &published);
                self.count(&published);
                decided.result(published)
            }
        };
        applying.skip_to(last);
        let wakers = applying.finish(then);
        drop(claimed);
        for (_, waker) in wakers {
            waker.wake();
        }
        result
    }
}
