//! Tickers: 200 prices that change all the time, in a room that conflates and in one that does not.
//!
//! There is nothing to ask the application for. Who joins a room begins with the newest event of each key
//! (`replay = "latest"` in `tidegate.toml`), and then has what changes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::App;
use crate::names::now_ms;

/// Both get every change. What is different is in `tidegate.toml`.
const ROOMS: [&str; 2] = ["ticker-conflated", "ticker-every"];
const PRICES: usize = 200;
/// How often the market moves.
const TICK: Duration = Duration::from_millis(50);
/// The same while nobody looks.
const TICK_UNSEEN: Duration = Duration::from_secs(1);

/// Starts the market. It ends with the process.
pub(crate) fn begin(app: &App) {
    let push = app.push.clone();
    tokio::spawn(async move {
        let mut market = Market::new();
        loop {
            let pause = match push.tell(&market.changes(now_ms())).await {
                Ok(listeners) if listeners > 0 => TICK,
                // A change that got lost is nothing to make up for: the next one replaces it.
                _ => TICK_UNSEEN,
            };
            tokio::time::sleep(pause).await;
        }
    });
}

struct Market {
    prices: Vec<Price>,
    ticks: usize,
}

struct Price {
    symbol: String,
    cents: i32,
    /// What it was at the beginning.
    opened: i32,
}

impl Market {
    fn new() -> Self {
        let price = |index| {
            let cents = fastrand::i32(1_000..50_000);
            Price { symbol: symbol(index), cents, opened: cents }
        };
        Self { prices: (0..PRICES).map(price).collect(), ticks: 0 }
    }

    /// The events of one tick: some prices change often and most seldom, as on a real market.
    fn changes(&mut self, now: i64) -> Value {
        self.ticks += 1;
        let turn = self.ticks % PRICES;
        let mut events = Vec::new();
        for (index, price) in self.prices.iter_mut().enumerate() {
            // All at first, then each in about one of 1 + index/10 ticks. And each in its turn, so that none leaves the history of
            // its room.
            if self.ticks > 1 && index != turn && fastrand::usize(0..10 + index) >= 10 {
                continue;
            }
            let step = (price.cents / 400).max(2);
            price.cents = (price.cents + fastrand::i32(-step..=step)).max(100);
            let data = json!({ "symbol": price.symbol, "cents": price.cents, "opened": price.opened });
            for room in ROOMS {
                // The key says what the event is the newest of. The version matters as soon as two publish, or one tries again:
                // an event that is late is left out. Time rises over restarts, too, and a counter would begin anew.
                events.push(json!({
                    "room": room, "event": "price", "key": price.symbol, "version": now, "data": data,
                }));
            }
        }
        json!(events)
    }
}

/// Four letters that can be pronounced, and different for each index below 250.
fn symbol(index: usize) -> String {
    let letter = |letters: &str, at: usize| char::from(letters.as_bytes()[at % letters.len()]);
    let (first, second) = (index % 10, index / 10);
    [
        letter("TLMRSBKNPD", first),
        letter("IOAEU", second),
        letter("DVRNL", second / 5),
        letter("EAOIU", first),
    ]
    .iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_price_changes_again_before_the_history_forgets_it() {
        assert_eq!((0..PRICES).map(symbol).collect::<HashSet<_>>().len(), PRICES);
        let mut market = Market::new();
        assert_eq!(market.changes(0).as_array().expect("a batch").len(), PRICES * ROOMS.len());
        let mut events = 0;
        let mut seen = HashSet::new();
        for tick in 0..PRICES {
            let changes = market.changes(i64::try_from(tick).expect("small"));
            let changes = changes.as_array().expect("a batch");
            // `history_events` counts those of one room.
            events += changes.len() / ROOMS.len();
            seen.extend(changes.iter().map(|event| event["key"].as_str().expect("a key").to_owned()));
        }
        assert_eq!(seen.len(), PRICES);
        assert!(events < 8_000, "{events} are too many for the `history_events` of tidegate.toml");
    }
}
