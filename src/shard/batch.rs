//! What a flush writes: a source's new events, made contiguous once per encoding for all connections.

use std::sync::Arc;

use bytes::Bytes;

use crate::hub::log::entry::Entry;
use crate::hub::source::{Source, SourceKind};
use crate::rights::grant::PermissionName;
use crate::rights::identity::Identity;
use crate::shard::stats::Stats;
use crate::types::moment::Moment;
use crate::types::position::Offset;
use crate::wire::encoding::Encoding;
use crate::wire::frame::Frame;
use crate::wire::gzip::Deflater;

/// Bytes of events in one batch. A socket's buffer is smaller, so more would only wait.
pub const BATCH_BYTES_MAX: usize = 256 << 10;

/// An event as a batch needs it.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its position.
    pub offset: Offset,
    /// Its bytes.
    pub frame: Frame,
    /// When it was published.
    pub published: Moment,
}

impl From<&Entry> for Item {
    fn from(entry: &Entry) -> Self {
        Self { offset: entry.offset, frame: entry.frame.clone(), published: entry.published }
    }
}

/// Whether `identity` may have an event of `source` that requires `permission`.
#[must_use]
pub fn is_met(permission: &PermissionName, source: &Source, identity: Option<&Identity>) -> bool {
    let room = (source.kind() == SourceKind::Room).then(|| source.name());
    identity.is_some_and(|identity| identity.holds(permission.as_str(), room))
}

/// Bytes that are sent as a unit: one event, or a compressed segment of several. If a socket takes only a part, the
/// rest is kept.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// The cursor of a connection that has been sent this.
    pub upto: Offset,
    /// When its oldest event was published.
    pub published: Moment,
    /// Events in it.
    pub events: u32,
}

/// Events of one source between two flushes.
#[derive(Debug)]
pub struct Batch {
    /// A connection has everything of this source before the batch if its cursor is at or above this...
    pub after: Offset,
    /// ... and nothing of the batch itself if its cursor is below this.
    pub first: Offset,
    /// The cursor of a connection that has been sent the batch.
    pub upto: Offset,
    /// The events, oldest first. Empty if the batch fits no connection.
    pub items: Vec<Item>,
    /// Users whose connections must not get one of them.
    pub excluded: Vec<Arc<Source>>,
    /// Permissions that its events require, each once.
    pub required: Vec<PermissionName>,
    /// The batch in each encoding that was asked for.
    bytes: [Option<Bytes>; Encoding::COUNT],
}

impl Batch {
    /// A batch of `items`, which connections with a cursor from `after` on lack. It moves their cursors to `upto`.
    #[must_use]
    pub fn new(after: Offset, upto: Offset, items: Vec<Item>) -> Option<Self> {
        let first = items.first()?.offset;
        Some(Self { after, first, items, ..Self::lost(upto) })
    }

    /// In place of events that were all evicted before they could be flushed. It fits no connection, so that each is
    /// advanced by itself and gets its gap.
    #[must_use]
    pub fn lost(upto: Offset) -> Self {
        Self {
            after: 0,
            first: 0,
            upto,
            items: Vec::new(),
            excluded: Vec::new(),
            required: Vec::new(),
            bytes: [const { None }; Encoding::COUNT],
        }
    }

    /// The same batch, with the users it excludes and the permissions it requires.
    #[must_use]
    pub fn not_for(self, excluded: Vec<Arc<Source>>, required: Vec<PermissionName>) -> Self {
        Self { excluded, required, ..self }
    }

    /// Whether a connection at `cursor` lacks exactly this batch.
    #[must_use]
    pub fn fits(&self, cursor: Offset) -> bool {
        self.after <= cursor && cursor < self.first
    }

    /// The batch as connections of that encoding get it.
    pub fn bytes(&mut self, encoding: Encoding, deflater: &mut Deflater, stats: &Stats) -> &Bytes {
        self.bytes[encoding.index()].get_or_insert_with(|| contiguous(&self.items, encoding, deflater, stats))
    }

    /// The batch in pieces, for a socket that did not take all of it.
    pub fn pieces(&mut self, encoding: Encoding, deflater: &mut Deflater, stats: &Stats) -> Vec<Piece> {
        if encoding.gzip {
            let bytes = self.bytes(encoding, deflater, stats).clone();
            return vec![segment(&self.items, bytes, self.upto)];
        }
        pieces(&self.items, encoding, self.upto)
    }
}

/// Adds a gap, as part of the piece before it if there is one. Logs hold no gaps: if the socket took only the piece
/// before, a separate gap would be lost.
pub fn push_gap(pieces: &mut Vec<Piece>, gap: Piece) {
    let Some(before) = pieces.last_mut() else {
        return pieces.push(gap);
    };
    before.bytes = [&before.bytes[..], &gap.bytes[..]].concat().into();
    before.upto = gap.upto;
}

/// `items` one by one, uncompressed. After the last, the cursor is `upto`.
pub fn pieces(items: &[Item], encoding: Encoding, upto: Offset) -> Vec<Piece> {
    let last = items.len() - 1;
    let piece = |(at, item): (usize, &Item)| Piece {
        bytes: frame_bytes(&item.frame, encoding),
        upto: if at == last { upto } else { item.offset },
        published: item.published,
        events: 1,
    };
    items.iter().enumerate().map(piece).collect()
}

/// `items` as the compressed `bytes`: cannot be divided, and moves the cursor to `upto`.
pub fn segment(items: &[Item], bytes: Bytes, upto: Offset) -> Piece {
    let events = u32::try_from(items.len()).expect("a batch is bounded");
    Piece { bytes, upto, published: items[0].published, events }
}

/// `items` as one slice. A single plain event is not copied.
pub fn contiguous(items: &[Item], encoding: Encoding, deflater: &mut Deflater, stats: &Stats) -> Bytes {
    if let ([item], false) = (items, encoding.gzip) {
        return frame_bytes(&item.frame, encoding);
    }
    let size = items.iter().map(|item| item.frame.len()).sum();
    let mut plain = Vec::with_capacity(size);
    let inner = Encoding { chunked: encoding.chunked && !encoding.gzip, gzip: false };
    for item in items {
        plain.extend_from_slice(&frame_bytes(&item.frame, inner));
    }
    if !encoding.gzip {
        return plain.into();
    }
    let mut segment = Vec::new();
    deflater.segment(&plain, &mut segment);
    stats.gzip[0].add(plain.len() as u64);
    stats.gzip[1].add(segment.len() as u64);
    let mut framed = Vec::with_capacity(segment.len() + 16);
    encoding.put_framed(&segment, &mut framed);
    framed.into()
}

fn frame_bytes(frame: &Frame, encoding: Encoding) -> Bytes {
    if encoding.chunked { frame.chunk().clone() } else { frame.plain() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::room_policy::RoomPolicy;
    use crate::rights::grant::Grant;
    use crate::rights::identity::KeyId;
    use crate::wire::frame::Unsealed;

    fn item(offset: Offset) -> Item {
        let frame = Unsealed::new(None, "x", 20).seal(offset.to_string().as_bytes());
        Item { offset, frame, published: Moment(offset) }
    }

    #[test]
    fn a_batch_fits_those_who_lack_exactly_it() {
        let batch = Batch::new(5, 20, vec![item(10), item(20)]).expect("it has events");
        assert_eq!([4, 5, 9, 10, 20].map(|cursor| batch.fits(cursor)), [false, true, true, false, false]);
        assert_eq!([0, 20].map(|cursor| Batch::lost(20).fits(cursor)), [false, false]);
        assert!(Batch::new(5, 20, Vec::new()).is_none());
    }

    #[test]
    fn pieces_take_the_cursor_as_far_as_they_go() {
        let mut batch = Batch::new(5, 25, vec![item(10), item(20)]).expect("it has events");
        for gzip in [false, true] {
            let encoding = Encoding { chunked: true, gzip };
            let pieces = batch.pieces(encoding, &mut Deflater::default(), &Stats::default());
            let upto: Vec<_> =
                pieces.iter().map(|piece| (piece.upto, piece.events, piece.published)).collect();
            let divided = vec![(10, 1, Moment(10)), (25, 1, Moment(20))];
            assert_eq!(upto, if gzip { vec![(25, 2, Moment(10))] } else { divided });
        }
    }

    #[test]
    fn what_an_event_requires_is_asked_for_where_it_was_published() {
        let identity = |permission: &str| Identity {
            user: None,
            token: None,
            issued: None,
            expires: None,
            grant: Arc::new(Grant::parse([permission]).0),
            key: KeyId(0),
            api_key: None,
        };
        let is_met = |kind, permission: Option<&str>| {
            let source = Arc::new(Source::new(kind, "a", 1, 0, RoomPolicy::example()));
            let vip = PermissionName::new("vip").expect("a name");
            is_met(&vip, &source, permission.map(identity).as_ref())
        };
        let holders = [None, Some("vip"), Some("vip:a"), Some("vip:b"), Some("vip:*"), Some("other")];
        assert_eq!(holders.map(|of| is_met(SourceKind::Room, of)), [false, true, true, false, true, false]);
        assert_eq!(holders.map(|of| is_met(SourceKind::All, of)), [false, true, false, false, false, false]);
        assert_eq!(
            holders.map(|of| is_met(SourceKind::Inbox, of)),
            [false, true, false, false, false, false]
        );
    }
}
