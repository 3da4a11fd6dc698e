//! Asks the application about what users publish, in rooms whose policy says so (`publish_callback`).
//!
//! An event that the application was not asked about, or did not answer for, is not published. Questions and answers hold
//! bytes of the same budget as bodies, and what an answer gives holds them until its event is published.

use std::rc::Rc;

use crate::answer::problem::{Code, Problem};
use crate::engine::buffers::Holds;
use crate::http::api::publish::fields;
use crate::http::api::publish::publisher::{self, Publisher};
use crate::http::api::publish::room_rules::RoomRules;
use crate::http::conn::exchange::Exchange;
use crate::http::conn::held::Share;
use crate::http::conn::places::{Wait, Waiting};
use crate::http::context::Context;
use crate::hub::draft::{Draft, Target};
use crate::rights::identity::Identity;
use crate::types::name::EventName;
use crate::upstream::publishing::{Publishing, Question, Said, Turn, Unheard};

/// Events of one array that the application may be asked about. One after the other they wait for an answer each, and
/// the array for all of them.
pub const ASKED_EVENTS_MAX: usize = 64;

/// Bytes that one byte of text may take in JSON, as in `\\u0007`.
const ESCAPED_BYTES_MAX: usize = 6;

/// Bytes an answer may have beside the data: other members, and white space.
const ANSWER_EXTRA_BYTES: usize = 64 << 10;

/// How many of `drafts` the application has to be asked about.
pub(super) fn count<'d>(
    publisher: &Publisher<'_>,
    rules: &RoomRules,
    drafts: impl IntoIterator<Item = &'d Draft>,
) -> usize {
    if publisher.token().is_none() {
        return 0;
    }
    drafts.into_iter().filter(|draft| rules.asks(draft)).count()
}

/// The right to ask about the events of one request. Until it is dropped, other requests of the same user wait.
pub(super) struct Asking<'c> {
    context: &'c Context,
    publishing: &'c Publishing,
    user: Option<String>,
    /// What the data holds that the application has given, of all events together: each by itself may be small.
    given: Share,
    given_bytes: usize,
    _waiting: Option<Waiting>,
    /// `None` for a token without a user: it may be anybody's, and has no order to keep.
    _turn: Option<Turn>,
}

impl<'c> Asking<'c> {
    /// Waits until it is this request's turn to have the application asked about `asked` events. `waits`: the request has
    /// the right to wait long already.
    ///
    /// # Errors
    ///
    /// [`Code::BatchTooLarge`] for an array with more than [`ASKED_EVENTS_MAX`] such events; [`Code::WaitingFull`] if too many requests wait, of all or of this user; [`Code::CallbackUnavailable`] if the
    /// application cannot be asked.
    pub(super) async fn begin(
        context: &'c Context,
        exchange: &Rc<Exchange>,
        publisher: &Publisher<'_>,
        waits: bool,
        asked: usize,
    ) -> Result<Self, Problem> {
        if !waits && asked > ASKED_EVENTS_MAX {
            let detail = "the application is asked about at most 64 events of an array";
            return Err(Problem::new(Code::BatchTooLarge).with_detail(detail));
        }
        // A reload may have given a room this policy, while the client is made at the start only.
        let publishing = context.engine.upstream.publishing.as_ref().ok_or(Code::CallbackUnavailable)?;
        let waiting = (!waits).then(|| context.places.wait(exchange, Wait::Question)).transpose()?;
        let user = publisher.token().and_then(Identity::user).map(ToOwned::to_owned);
        let turn = match &user {
            Some(user) => Some(publishing.turn(user).await.map_err(|_| Code::WaitingFull)?),
            None => None,
        };
        let given = Share::new(&context.engine, Holds::Body);
        Ok(Self { context, publishing, user, given, given_bytes: 0, _waiting: waiting, _turn: turn })
    }

    /// Asks about `draft`, if its room says so and it was not published before: by now, another request may have done
    /// that. Puts in the data that the application gives.
    ///
    /// # Errors
    ///
    /// [`Code::PublishRefused`] with what the application says; [`Code::CallbackUnavailable`] without an answer that
    /// counts; [`Code::BuffersFull`] if there is no room for the question or the answer; [`Code::EventTooLarge`] if its
    /// data is too large for the room.
    pub(super) async fn ask(&mut self, rules: &RoomRules, draft: &mut Draft) -> Result<(), Problem> {
        publisher::note_known(&self.context.engine, draft);
        let (Target::Room(room), true) = (&draft.target, rules.asks(draft)) else {
            return Ok(());
        };
        let question = Question {
            user: self.user.as_deref(),
            room: room.as_str(),
            event: draft.name.as_ref().map(EventName::as_str),
            data: &draft.data,
        };
        let answer_bytes_max = rules.bytes_max(draft) * ESCAPED_BYTES_MAX + ANSWER_EXTRA_BYTES;
        let share = Box::new(Share::new(&self.context.engine, Holds::Body));
        match self.publishing.ask(&question, answer_bytes_max, share).await {
            Ok((Said::Yes, _)) => Ok(()),
            Ok((Said::With(data), held)) => {
                draft.data = fields::text_of(&data).ok_or(Code::CallbackUnavailable)?;
                rules.fits_room(draft)?;
                drop((data, held));
                self.given_bytes += draft.data.len();
                self.given.hold(self.given_bytes)
            }
            Ok((Said::No(told), _)) => {
                Err(Problem { told: Some(Box::new(told)), ..Code::PublishRefused.into() })
            }
            Err(Unheard::NoAnswer) => Err(Code::CallbackUnavailable.into()),
            Err(Unheard::NoRoom) => Err(Code::BuffersFull.into()),
        }
    }
}
