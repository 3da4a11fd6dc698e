//! One sentence at the end: what was shown, or what was wrong.

use super::found::Found;
use super::measured::Traffic;
use super::run_report::Report;
use crate::number::{grouped, number};

/// What to know before you trust the verdict: a line for each run in which the machine was the limit.
#[must_use]
pub fn warnings(runs: &[&Report]) -> Vec<String> {
    let starved =
        runs.iter().filter_map(|run| Some((run, run.traffic.as_ref().filter(|one| one.is_starved())?)));
    let line = |(run, traffic): (&&Report, &Traffic)| {
        let (name, target, round) = (run.scenario.name(), &run.target, run.round);
        let (wait, cpu) = (traffic.wait_percent, traffic.cpu_percent);
        format!(
            "WARNING: {name} against {target}, round {round}: the server waited for a core for {wait:.0} % of the time and \
             had one for {cpu:.0} %. Its figures are those of this machine. Take fewer --connections or a lower --rate, or \
             a server on another machine (--url)."
        )
    };
    starved.map(line).collect()
}

/// `PASSED: …` or `FAILED: …` for all runs together, and whether it was the machine that was measured.
#[must_use]
pub fn verdict(runs: &[&Report]) -> String {
    let faulty: Vec<&&Report> = runs.iter().filter(|run| !run.faults.is_empty()).collect();
    if let Some(first) = faulty.first() {
        return failed(first, faulty.len(), runs.len());
    }
    let passed = if warnings(runs).is_empty() { "PASSED" } else { STARVED };
    match runs {
        [] => "FAILED: nothing was run".to_owned(),
        [only] => format!("{passed}: {}", shown(only)),
        [first, ..] => {
            let deliveries =
                runs.iter().filter_map(|run| run.traffic.as_ref()).map(|one| one.deliveries).sum();
            let (count, name) = (runs.len(), first.scenario.name());
            let deliveries = grouped(deliveries);
            format!(
                "{passed}: {count} runs of {name}, {deliveries} deliveries: none lost, repeated or out of order"
            )
        }
    }
}

/// Every event was right, but the figures are not comparable.
const STARVED: &str = "PASSED, but the machine was the limit";

fn failed(first: &Report, faulty: usize, runs: usize) -> String {
    let fault = first.faults.first().map_or("", String::as_str);
    let (name, target) = (first.scenario.name(), &first.target);
    let others = match first.faults.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more faults"),
    };
    let of = if runs > 1 { format!(" ({faulty} of {runs} runs)") } else { String::new() };
    format!("FAILED: {name} against {target}{of}: {fault}{others}")
}

/// What one run without a fault has shown.
fn shown(run: &Report) -> String {
    let connections = grouped(run.opening.connected as u64);
    let Some(traffic) = &run.traffic else {
        return match &run.found {
            Some(found) => special(found),
            None => format!("{connections} connections opened and held, none refused or ended"),
        };
    };
    let (deliveries, events) = (grouped(traffic.deliveries), grouped(traffic.events_sent));
    let what = match (&run.found, &run.drain) {
        (Some(found), _) => format!("{}; ", special(found)),
        (None, Some(drain)) => {
            let seconds = number(drain.last_close_seconds);
            format!("every stream was closed within {seconds} s of the signal and none torn; ")
        }
        (None, None) => String::new(),
    };
    let gaps = match traffic.gaps {
        0 => String::new(),
        gaps => format!(", {} gaps told", grouped(gaps)),
    };
    let connections = match &run.found {
        Some(Found::Scale(_)) => format!("up to {}", grouped(run.settings.connections as u64)),
        _ => connections,
    };
    let ordered = "none lost, repeated or out of order";
    format!("{what}{deliveries} deliveries of {events} events to {connections} connections: {ordered}{gaps}")
}

fn special(found: &Found) -> String {
    match found {
        Found::Churn(churn) => {
            let (returned, p99) = (grouped(churn.returned), number(churn.reconnect_p99_ms));
            format!("{returned} reconnects, connected again within {p99} ms (p99)")
        }
        Found::Storm(storm) => format!(
            "after a cut all {} were back in {} s at once and in {} s with jitter",
            grouped(storm.at_once.returned),
            number(storm.at_once.back_seconds),
            number(storm.with_jitter.back_seconds),
        ),
        Found::Resume(resume) => format!(
            "{} events replayed exactly, {}/s; all {} that missed too much were told",
            grouped(resume.replayed),
            number(resume.replayed_per_s.round()),
            grouped(resume.told_gap),
        ),
        Found::Soak(soak) => {
            let growth = soak.growth_kib.map_or("unknown".to_owned(), |kib| format!("{kib} KiB"));
            format!("{} reconnects, memory growth after warm-up {growth}", grouped(soak.returned))
        }
        Found::Saturate(saturate) => format!(
            "{} events/s and {} deliveries/s sustained",
            grouped(saturate.events_per_s.unwrap_or(0).into()),
            number(saturate.deliveries_per_s.round()),
        ),
        Found::Scale(scale) => format!("{} points measured", scale.points.len()),
        Found::Presence(presence) => format!(
            "every stream knew of {} members, told in {} of at most {} messages; {} reloads caused {}",
            grouped(presence.members),
            grouped(presence.join_messages),
            grouped(presence.join_messages_max),
            grouped(presence.reloads),
            grouped(presence.reload_messages),
        ),
        Found::Conflate(conflate) => format!(
            "{} updates, {} % conflated, and every subscriber has the newest of all {} keys",
            grouped(conflate.updates),
            number(conflate.conflated_percent),
            grouped(conflate.keys),
        ),
        Found::Poll(poll) => format!("{} polls, {}/s", grouped(poll.polls), number(poll.polls_per_s.round())),
        Found::Retry(retry) => format!(
            "{} requests published {} events, and {} keys took {} KiB of at most {}",
            grouped(retry.requests + retry.equal),
            grouped(retry.events + 1),
            grouped(retry.keys),
            retry.growth_kib.map_or("unknown".to_owned(), |kib| kib.to_string()),
            grouped(retry.growth_kib_max),
        ),
        Found::Kill(kill) => format!(
            "{} kills, {} events answered and {} delivered over {} reconnects: none lost, repeated or out of order, no gap",
            grouped(kill.kills),
            grouped(kill.events),
            grouped(kill.deliveries),
            grouped(kill.returned),
        ),
        Found::Nodes(nodes) => format!(
            "{} faults, {} events answered and {} deliveries checked over {} reconnects: none lost, repeated or out of order, no gap untold",
            grouped(nodes.faults),
            grouped(nodes.events),
            grouped(nodes.deliveries),
            grouped(nodes.returned),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::scenario::Scenario;

    fn report() -> Report {
        let scenario = Scenario::Fanout;
        let mut report = Report::new(scenario, "server".to_owned(), 1, scenario.defaults());
        report.opening.connected = 10_000;
        report.traffic = Some(Traffic { deliveries: 1_100_000, events_sent: 110, ..Traffic::default() });
        report
    }

    #[test]
    fn a_clean_run_says_what_it_has_shown() {
        let text = verdict(&[&report()]);
        let wanted = "PASSED: 1,100,000 deliveries of 110 events to 10,000 connections: none lost, repeated or out of order";
        assert_eq!(text, wanted);
        assert!(
            verdict(&[&report(), &report()]).starts_with("PASSED: 2 runs of fanout, 2,200,000 deliveries")
        );
    }

    /// A server that waited for a core for longer than the whole run ended in a plain PASSED.
    #[test]
    fn a_machine_that_is_the_limit_is_told() {
        let busy = |wait_percent, cpu_percent| {
            let mut report = report();
            let traffic = Traffic { cpu_percent, wait_percent, ..report.traffic.take().expect("set above") };
            report.traffic = Some(traffic);
            report
        };
        let starved = busy(112.0, 80.0);
        let warnings = warnings(&[&report(), &starved]);
        assert_eq!(warnings.len(), 1);
        let told = "WARNING: fanout against server, round 1: the server waited for a core for 112 % of the time and had one \
                    for 80 %. ";
        assert!(warnings[0].starts_with(told), "{warnings:?}");
        let text = verdict(&[&starved]);
        assert!(text.starts_with("PASSED, but the machine was the limit: 1,100,000 deliveries"), "{text}");
        assert!(verdict(&[&report(), &starved]).starts_with("PASSED, but the machine was the limit: 2 runs"));
        // A wait that is short, or short beside the work, says little; one that is not known says nothing.
        for (wait, cpu) in [(20.0, 41.0), (24.0, 10.0), (60.0, 130.0), (f64::NAN, f64::NAN)] {
            assert!(verdict(&[&busy(wait, cpu)]).starts_with("PASSED: "), "{wait} {cpu}");
        }
    }

    #[test]
    fn one_fault_among_many_runs_fails_all() {
        let mut bad = report();
        bad.faults = vec!["3 events lost".to_owned(), "1 streams ended unasked".to_owned()];
        let text = verdict(&[&report(), &bad]);
        assert_eq!(text, "FAILED: fanout against server (1 of 2 runs): 3 events lost, and 1 more faults");
        bad.faults.pop();
        assert_eq!(verdict(&[&bad]), "FAILED: fanout against server: 3 events lost");
        assert!(verdict(&[]).starts_with("FAILED"));
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
