//! Batches as they go to the script `append`: in parts, of which each is appended as a whole or not at all.
//!
//! A batch that claims keys is a part of its own, because it may be a repeat. All between two such are one: Redis is given
//! their bodies as one argument, and looks at none of them. So a thousand small publishes cost it little more than one.

use bytes::{Bytes, BytesMut};

use crate::order::redis::call::{Batch, Became, OnceKey};
use crate::order::redis::entry::piece;

/// What is appended as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part<'a> {
    /// Number of its events.
    pub count: u32,
    /// It is appended only if none of these is known.
    pub once: &'a [OnceKey],
    /// Its batches, as the entry counts them.
    pub counts: String,
    /// Their bodies, one after the other.
    pub body: Bytes,
}

/// The parts of `batches`. Those that have their [answer](Batch::answered) are in none.
#[must_use]
pub fn of(batches: &[Batch]) -> Vec<Part<'_>> {
    let numbered: Vec<(usize, &Batch)> =
        batches.iter().enumerate().filter(|(_, batch)| batch.count > 0).collect();
    let is_one =
        |one: &(usize, &Batch), next: &(usize, &Batch)| one.1.once.is_empty() && next.1.once.is_empty();
    numbered.chunk_by(is_one).map(part).collect()
}

fn part<'a>(batches: &[(usize, &'a Batch)]) -> Part<'a> {
    let pieces = batches.iter().map(|(index, batch)| piece(*index, batch.count, batch.body.len()));
    let counts = pieces.collect::<Vec<_>>().join(",");
    let count = batches.iter().map(|(_, batch)| batch.count).sum();
    match batches {
        [(_, one)] => Part { count, once: &one.once, counts, body: one.body.clone() },
        several => {
            let bytes = several.iter().map(|(_, batch)| batch.body.len()).sum();
            let mut body = BytesMut::with_capacity(bytes);
            for (_, batch) in several {
                body.extend_from_slice(&batch.body);
            }
            Part { count, once: &[], counts, body: body.freeze() }
        }
    }
}

/// What became of `batches`, of which those that claim keys became `claimed`. `None` if that is not one for each.
#[must_use]
pub fn became(batches: &[Batch], claimed: Vec<Became>) -> Option<Vec<Became>> {
    let mut claimed = claimed.into_iter();
    let became = |batch: &Batch| match batch {
        Batch { count: 0, .. } => Some(Became::Nothing),
        Batch { once, .. } if once.is_empty() => Some(Became::Appended),
        _ => claimed.next(),
    };
    let became: Option<Vec<Became>> = batches.iter().map(became).collect();
    became.filter(|_| claimed.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn batch(body: &str, claims: bool) -> Batch {
        let once = OnceKey { key: 1, content: 2, time: Duration::from_secs(1), first: 0, count: 1 };
        Batch { body: body.to_owned().into(), count: 2, once: if claims { vec![once] } else { Vec::new() } }
    }

    #[test]
    fn batches_without_claims_are_one_part_between_those_with() {
        let batches = [
            batch("a", false),
            batch("bb", false),
            Batch::answered(),
            batch("c", false),
            batch("d", true),
            batch("e", true),
            batch("f", false),
        ];
        let parts = of(&batches);
        let parts: Vec<_> = parts.iter().map(|p| (p.count, p.once.len(), &*p.counts, &p.body[..])).collect();
        assert_eq!(
            parts,
            [
                (6, 0, "0:2:1,1:2:2,3:2:1", &b"abbc"[..]),
                (2, 1, "4:2:1", b"d"),
                (2, 1, "5:2:1", b"e"),
                (2, 0, "6:2:1", b"f"),
            ]
        );
        assert!(of(&[]).is_empty() && of(&[Batch::answered()]).is_empty());
    }

    #[test]
    fn each_batch_gets_its_own_answer() {
        let batches = [batch("a", false), batch("b", true), Batch::answered()];
        let answers = vec![Became::Appended, Became::Other(0), Became::Nothing];
        assert_eq!(became(&batches, vec![Became::Other(0)]), Some(answers));
        assert_eq!(became(&batches, Vec::new()), None);
        assert_eq!(became(&batches, vec![Became::Appended; 2]), None);
    }
}
