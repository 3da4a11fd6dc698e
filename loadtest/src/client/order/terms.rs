//! The terms of an order as Redis names them: `<epoch>:<first>:<last>,…,<epoch>:<first>`. Those that it has forgotten meanwhile are
//! kept here, and what may have been lost at the end of each.

/// What the faults since the last look may lose, as the documentation says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Excuse {
    /// The newest events.
    pub tail: bool,
    /// Everything.
    pub all: bool,
}

/// One life of the order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Term {
    /// Its name.
    pub epoch: String,
    /// Its events are above this offset.
    pub first: u64,
    /// Its last event, if it has ended.
    pub last: Option<u64>,
    /// A fault may have lost what came behind the last.
    pub may_lose: bool,
}

/// Terms that follow each other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Order {
    /// Oldest first.
    pub terms: Vec<Term>,
    /// Another order took its place, and whether a fault explains it.
    pub gone: Option<bool>,
}

/// All orders that there were.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Oldest first.
    orders: Vec<Order>,
    /// Orders as servers had them that went.
    lost: Vec<Order>,
}

impl Terms {
    /// Takes what Redis says now. Returns whether there is a new term, or `None` if it cannot be read.
    pub fn read(&mut self, text: &str, excuse: Excuse) -> Option<bool> {
        let terms: Option<Vec<Term>> = text.split(',').map(term).collect();
        let terms = terms?;
        let goes_on = |order: &Order| terms.iter().any(|term| order.find(&term.epoch).is_some());
        let is_other = !self.orders.last().is_some_and(goes_on);
        if is_other {
            if let Some(before) = self.orders.last_mut() {
                before.gone = Some(excuse.all);
            }
            self.orders.push(Order::default());
        }
        let order = self.orders.last_mut().expect("one was pushed");
        let before = order.terms.len();
        for term in terms {
            order.take(term, excuse);
        }
        Some(order.terms.len() > before)
    }

    /// Takes what a Redis says whose newest terms are about to be lost. Unless there is time to look, only it knows them.
    pub fn lose(&mut self, text: &str) -> Option<()> {
        let terms: Option<Vec<Term>> = text.split(',').map(term).collect();
        self.lost.push(Order { terms: terms?, gone: None });
        Some(())
    }

    /// Whether a term went as a whole, with the server that had it.
    #[must_use]
    pub fn is_lost(&self, epoch: &str) -> bool {
        self.find(epoch).is_none() && self.lost.iter().any(|order| order.find(epoch).is_some())
    }

    /// What is between two places, each a term and an offset in it: terms, and offsets above the first and up to the second. `None`
    /// if the one does not lead to the other, in an order as it is or as it was on a server that went.
    #[must_use]
    pub fn between<'a>(&'a self, from: (&str, u64), to: (&str, u64)) -> Option<Vec<(&'a str, u64, u64)>> {
        self.orders.iter().chain(&self.lost).find_map(|order| {
            let (before, after) = order.find(from.0).zip(order.find(to.0))?;
            order.between((before, from.1), (after, to.1))
        })
    }

    /// The order and the term in it that has this name.
    #[must_use]
    pub fn find(&self, epoch: &str) -> Option<(&Order, usize)> {
        self.orders.iter().rev().find_map(|order| Some((order, order.find(epoch)?)))
    }

    /// Orders that went without a fault that explains it.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.orders.iter().filter(|order| order.gone == Some(false)).count() as u64
    }

    /// How many orders and terms there were.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.orders.len() as u64, self.orders.iter().map(|order| order.terms.len() as u64).sum())
    }

    /// The name of the newest term.
    #[must_use]
    pub fn newest(&self) -> Option<&str> {
        Some(&self.orders.last()?.terms.last()?.epoch)
    }
}

impl Order {
    fn find(&self, epoch: &str) -> Option<usize> {
        self.terms.iter().position(|term| term.epoch == epoch)
    }

    fn take(&mut self, term: Term, excuse: Excuse) {
        let last = term.last;
        let at = self.find(&term.epoch).unwrap_or_else(|| {
            self.terms.push(Term { last: None, ..term });
            self.terms.len() - 1
        });
        let known = &mut self.terms[at];
        if known.last.is_none() && last.is_some() {
            (known.last, known.may_lose) = (last, excuse.tail);
        }
    }

    /// Whether the event at `offset` of term `at` is still in the order, or was when it went.
    #[must_use]
    pub fn has(&self, at: usize, offset: u64) -> bool {
        let term = &self.terms[at];
        offset > term.first && term.last.is_none_or(|last| offset <= last)
    }

    fn between(&self, from: (usize, u64), to: (usize, u64)) -> Option<Vec<(&str, u64, u64)>> {
        let terms = self.terms.get(from.0..=to.0)?;
        let range = |(at, term): (usize, &'_ Term)| {
            let first = if at == 0 { from.1 } else { term.first };
            let last = if at + 1 == terms.len() { to.1 } else { term.last? };
            (first <= last).then_some((first, last))
        };
        let ranges: Option<Vec<_>> = terms.iter().enumerate().map(range).collect();
        let named = terms.iter().zip(ranges?);
        Some(named.map(|(term, (first, last))| (term.epoch.as_str(), first, last)).collect())
    }
}

fn term(text: &str) -> Option<Term> {
    let mut pieces = text.split(':');
    let (epoch, first) = (pieces.next()?.to_owned(), pieces.next()?.parse().ok()?);
    let last = pieces.next().map(str::parse).transpose().ok()?;
    Some(Term { epoch, first, last, may_lose: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: Excuse = Excuse { tail: true, all: false };

    #[test]
    fn terms_are_kept_after_redis_forgot_them() {
        let mut terms = Terms::default();
        assert_eq!(terms.read("a:0", Excuse::default()), Some(true));
        assert_eq!(terms.read("a:0:7,b:100", TAIL), Some(true));
        assert_eq!(terms.read("a:0:7,b:100", TAIL), Some(false));
        assert_eq!(terms.read("b:100:100,c:200", Excuse::default()), Some(true));
        let (order, at) = terms.find("a").expect("it was read");
        assert!(order.terms[at].may_lose && !order.terms[1].may_lose);
        assert!(order.has(at, 7) && !order.has(at, 8) && !order.has(at, 0));
        assert_eq!((terms.counts(), terms.newest()), ((1, 3), Some("c")));
        assert_eq!(terms.read("nonsense", Excuse::default()), None);
    }

    #[test]
    fn terms_that_went_with_their_server_are_known() {
        let mut terms = Terms::default();
        terms.read("a:0", TAIL).expect("terms");
        terms.lose("a:0:7,b:100").expect("terms");
        terms.lose("x:0").expect("terms");
        assert_eq!(terms.read("a:0:5,c:200", TAIL), Some(true));
        assert!(terms.is_lost("b") && !terms.is_lost("a") && !terms.is_lost("c"));
        assert_eq!((terms.find("b"), terms.newest()), (None, Some("c")));
        assert_eq!(terms.between(("a", 6), ("b", 101)), Some(vec![("a", 6, 7), ("b", 100, 101)]));
        assert_eq!(terms.between(("a", 5), ("c", 200)), Some(vec![("a", 5, 5), ("c", 200, 200)]));
        assert_eq!(terms.between(("b", 100), ("c", 200)), None);
    }

    #[test]
    fn another_order_needs_a_reason() {
        let mut terms = Terms::default();
        for (text, all) in [("a:0", false), ("b:0", true), ("c:0", false)] {
            terms.read(text, Excuse { tail: false, all }).expect("terms");
        }
        assert_eq!((terms.given_up(), terms.counts().0), (1, 3));
    }

    #[test]
    fn what_is_between_two_places_is_known() {
        let mut terms = Terms::default();
        terms.read("a:0:7,b:100:100,c:200", TAIL).expect("terms");
        let all = vec![("a", 5, 7), ("b", 100, 100), ("c", 200, 202)];
        assert_eq!(terms.between(("a", 5), ("c", 202)), Some(all));
        assert_eq!(terms.between(("a", 5), ("a", 6)), Some(vec![("a", 5, 6)]));
        assert_eq!(terms.between(("a", 8), ("b", 100)), None, "it saw what was lost");
        assert_eq!(terms.between(("c", 200), ("a", 7)), None);
    }
}
