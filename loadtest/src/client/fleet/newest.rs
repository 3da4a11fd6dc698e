//! The newest version of every key, as one subscriber saw it.

use crate::client::track::Order;
use crate::plan::special::key_of;

/// Versions by key, which are numbers of events; 0 for none yet. Empty where events have no keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Newest(Vec<u64>);

impl Newest {
    /// Nothing of `keys` keys.
    pub(super) fn new(keys: u32) -> Self {
        Self(vec![0; keys as usize])
    }

    /// What is newest when `published` events were published.
    pub(super) fn of(published: u64, keys: u32) -> Self {
        let mut newest = Self::new(keys);
        for seq in 0..published {
            newest.see(seq);
        }
        newest
    }

    /// Takes note of event number `seq`, whose key and version follow from that. Events may be left out, and none may come
    /// after a newer one of its key.
    pub(super) fn see(&mut self, seq: u64) -> Order {
        let key = key_of(seq, u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        let version = version_of(seq);
        match self.0.get_mut(key as usize) {
            Some(newest) if version > *newest => {
                *newest = version;
                Order::InOrder
            }
            Some(newest) if version < *newest => Order::Reordered,
            _ => Order::Duplicate,
        }
    }

    /// Keys whose version is another one than in `wanted`.
    pub(super) fn differences(&self, wanted: &Self) -> u64 {
        self.0.iter().zip(&wanted.0).filter(|(own, wanted)| own != wanted).count() as u64
    }
}

/// The version of event number `seq`.
pub(crate) fn version_of(seq: u64) -> u64 {
    seq + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_may_be_left_out_and_not_go_back() {
        let same: Vec<u64> = (0..1_000).filter(|seq| key_of(*seq, 7) == 3).take(3).collect();
        let [first, second, third] = same[..] else { panic!("seven keys in a thousand events") };
        let mut newest = Newest::new(7);
        assert_eq!((newest.see(first), newest.see(third)), (Order::InOrder, Order::InOrder));
        assert_eq!((newest.see(second), newest.see(third)), (Order::Reordered, Order::Duplicate));
    }

    #[test]
    fn a_key_that_is_behind_is_a_difference() {
        let wanted = Newest::of(100, 7);
        let mut newest = Newest::of(99, 7);
        assert_eq!(newest.differences(&wanted), 1);
        newest.see(99);
        assert_eq!(newest.differences(&wanted), 0);
        assert_eq!(Newest::new(7).differences(&wanted), 7);
        assert_eq!(Newest::default().differences(&Newest::default()), 0);
    }
}
