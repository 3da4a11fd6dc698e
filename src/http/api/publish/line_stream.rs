//! A stream of lines (NDJSON): each line is published as it arrives, and the answer says how far that went.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::buffers::Holds;
use crate::engine::lifecycle::Stage;
use crate::http::api::publish::answer::{PublishAnswer, Tally};
use crate::http::api::publish::asking::{self, Asking};
use crate::http::api::publish::event_body;
use crate::http::api::publish::lines::Lines;
use crate::http::api::publish::publisher::{Publisher, Uses};
use crate::http::api::publish::room_rules::RoomRules;
use crate::http::call::Call;
use crate::http::conn::exchange::{Awaits, Exchange};
use crate::http::conn::held::Held;
use crate::http::conn::places::{Wait, Waiting, at_once};
use crate::http::context::Context;
use crate::http::request_body::next_data;
use crate::hub::draft::Draft;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::own_ids::Repeats;
use crate::order::refused::Refused;

/// Bytes an NDJSON line may have beyond its event's data: names, keys and escapes. Data that is mostly control
/// characters may need six times its size in JSON and does not fit; it fits in an ordinary body.
const LINE_EXTRA_BYTES: usize = 64 << 10;

/// Lines published under one hold of the order's lock.
const LINES_PER_PUBLISH: usize = 256;

/// Publishes the next lines, up to one that is refused, and adds up in `progress` what became of them.
///
/// # Errors
///
/// The problem with that line. The lines before it are published.
async fn publish_lines(engine: &Engine, progress: &mut Tally, lines: Vec<Numbered>) -> Result<(), Problem> {
    let (numbers, drafts): (Vec<u64>, Vec<Draft>) = lines.into_iter().unzip();
    match engine.publish(drafts, Repeats::EndThere).await {
        Ok(published) => {
            progress.add(&published);
            Ok(())
        }
        Err(Refused { index, why, before }) => {
            if let Some(before) = &before {
                progress.add(before);
            }
            let problem = Problem::new(why.into());
            let line = index.and_then(|index| numbers.get(index));
            Err(Problem { line: line.copied(), ..problem })
        }
    }
}

/// Publishes the lines of a body as they arrive.
pub(super) async fn publish(call: Call<'_>, publisher: &Publisher<'_>) -> Result<PublishAnswer, Problem> {
    let Call { context, exchange, request, .. } = call;
    let engine = &context.engine;
    let mut stream = LineStream {
        context,
        exchange,
        body: request.into_body(),
        lines: Lines::new(RoomRules::now(engine).event_bytes_max() + LINE_EXTRA_BYTES),
        held: Held::new(engine, exchange, Holds::Body),
        waiting: None,
    };
    let mut progress = Tally::default();
    let result = read_lines(&mut stream, publisher, &mut progress).await;
    result.map_err(|problem| problem.after_publishing(progress.published))?;
    if progress.is_empty() {
        return Err(Code::BatchEmpty.into());
    }
    Ok(PublishAnswer::of_many(engine, &progress))
}

/// A body in lines that is being read.
struct LineStream<'c> {
    context: &'c Context,
    exchange: &'c Rc<Exchange>,
    body: Incoming,
    lines: Lines,
    held: Held,
    /// The right to wait for the peer, from the first wait on.
    waiting: Option<Waiting>,
}

impl LineStream<'_> {
    /// Reads more of the body. Returns false at its end.
    async fn read_more(&mut self) -> Result<bool, Problem> {
        let Some(data) = self.next_data().await? else {
            self.exchange.has_read();
            return Ok(false);
        };
        // A line that continues in `data` is copied behind the part of it that has arrived.
        self.held.hold(self.lines.buffered() + 2 * data.len())?;
        self.lines.push(data);
        Ok(true)
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>, Problem> {
        let mut coming = pin!(next_data(&mut self.body));
        if let Some(data) = at_once(coming.as_mut()).await {
            return data;
        }
        if self.waiting.is_none() {
            self.waiting = Some(self.context.places.wait(self.exchange, Wait::Lines)?);
        }
        let engine = &self.context.engine;
        let mut stage = engine.lifecycle.stage.subscribe();
        tokio::select! {
            // Dropping `coming` loses nothing: what was read is in `lines`.
            data = timeout(engine.config.publish_idle, coming) => data.map_err(|_| Code::RequestTimeout)?,
            // A publisher that may continue for hours is told how far it got.
            _ = stage.wait_for(|stage| *stage >= Stage::Ending) => Err(Code::Draining.into()),
            () = self.exchange.asked_to_end() => Err(Code::RequestTimeout.into()),
        }
    }
}

async fn read_lines(
    stream: &mut LineStream<'_>,
    publisher: &Publisher<'_>,
    progress: &mut Tally,
) -> Result<(), Problem> {
    let (engine, exchange) = (&stream.context.engine, stream.exchange);
    loop {
        exchange.awaits(if progress.is_empty() { Awaits::Body } else { Awaits::Lines });
        let ended = !stream.read_more().await?;
        exchange.awaits(Awaits::Nothing);
        loop {
            engine.spare_memory(MemoryLevel::NoPublishes)?;
            // A request may last longer than its token.
            publisher.caller.is_still_known(&engine.access)?;
            let (mut drafts, mut problem) = next_drafts(engine, publisher, &mut stream.lines, ended);
            if let Err(refused) = ask(stream, publisher, &mut drafts).await {
                problem = Some(Err(refused));
            }
            if !drafts.is_empty() {
                publish_lines(engine, progress, drafts).await?;
                exchange.took_lines();
            }
            match problem {
                Some(Ok(())) => {}
                Some(Err(problem)) => return Err(problem),
                None => break,
            }
            // Thousands of lines may have arrived at once: let the flushes they cause begin.
            tokio::task::yield_now().await;
        }
        if ended {
            return Ok(());
        }
        stream.held.hold(stream.lines.buffered())?;
    }
}

/// Asks the application about `drafts`, where the rooms say so. Leaves in `drafts` those before the first that it
/// refuses.
///
/// # Errors
///
/// The problem with that one.
async fn ask(
    stream: &LineStream<'_>,
    publisher: &Publisher<'_>,
    drafts: &mut Vec<Numbered>,
) -> Result<(), Problem> {
    let (context, exchange, waits) = (stream.context, stream.exchange, stream.waiting.is_some());
    let rules = RoomRules::now(&context.engine);
    let asked = asking::count(publisher, &rules, drafts.iter().map(|(_, draft)| draft));
    if asked == 0 {
        return Ok(());
    }
    let mut asking = match Asking::begin(context, exchange, publisher, waits, asked).await {
        Ok(asking) => asking,
        Err(problem) => {
            drafts.clear();
            return Err(problem);
        }
    };
    for at in 0..drafts.len() {
        let (line, draft) = &mut drafts[at];
        let line = *line;
        if let Err(problem) = asking.ask(&rules, draft).await {
            drafts.truncate(at);
            return Err(problem.at_line(line));
        }
    }
    for at in 0..drafts.len() {
        let (line, draft) = &drafts[at];
        if let Err(problem) = publisher.may_still(&context.engine, draft) {
            let problem = problem.at_line(*line);
            drafts.truncate(at);
            return Err(problem);
        }
    }
    Ok(())
}

/// A line's number, and its event.
type Numbered = (u64, Draft);

/// The next few lines as drafts, each with its number; then whether more may follow, or the problem that ends the
/// stream.
fn next_drafts(
    engine: &Engine,
    publisher: &Publisher<'_>,
    lines: &mut Lines,
    ended: bool,
) -> (Vec<Numbered>, Option<Result<(), Problem>>) {
    let (mut drafts, rules) = (Vec::new(), RoomRules::now(engine));
    while drafts.len() < LINES_PER_PUBLISH {
        let line = if ended { lines.finish() } else { lines.next_line() };
        let draft = match line {
            None => return (drafts, None),
            Some(Err(problem)) => return (drafts, Some(Err(problem))),
            Some(Ok(line)) => read_line(engine, publisher, &rules, &line.bytes)
                .map(|draft| (line.number, draft))
                .map_err(|problem| problem.at_line(line.number)),
        };
        match draft {
            Ok(draft) => drafts.push(draft),
            Err(problem) => return (drafts, Some(Err(problem))),
        }
    }
    (drafts, Some(Ok(())))
}

/// The event of one line, if it may be published now.
fn read_line(
    engine: &Engine,
    publisher: &Publisher<'_>,
    rules: &RoomRules,
    line: &[u8],
) -> Result<Draft, Problem> {
    let event = event_body::parse_event(line, rules.event_bytes_max())?;
    let (mut draft, mut uses) = (publisher.draft(engine, event)?, Uses::default());
    publisher.check(engine, rules, &mut draft, &mut uses)?;
    publisher.take(engine, &uses)?;
    Ok(draft)
}
