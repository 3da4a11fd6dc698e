//! Promise: Prometheus and Grafana show everything about Tidegate, alerts name the trouble and the remedy, and the
//! number of series does not depend on users.
//!
//! Debian's Prometheus loads the shipped files and scrapes the real server under a short load.

mod dashboard;
mod load;
mod monitor;
use crate::common::neighbours;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use self::dashboard::{Dashboard, Expression, text};
use self::load::{Load, get};
use self::monitor::{Prometheus, dashboards, shipped};
use self::neighbours::{Server, find, until};

/// Metrics of the process that no panel shows, because an operator cannot act on them.
const NOT_SHOWN: [&str; 3] =
    ["process_threads", "process_virtual_memory_bytes", "process_virtual_memory_max_bytes"];

/// The units of panels.
const UNITS: [&str; 11] = [
    "none",
    "short",
    "percentunit",
    "s",
    "bytes",
    "Bps",
    "cps",
    "eps",
    "reqps",
    "suffix: times",
    "dtdurations",
];

/// Returns the text of one scrape of `server`.
async fn scrape(server: &Server) -> String {
    get(server.admin.expect("an admin listener"), "/metrics").await
}

/// Returns the metrics in a scrape, with their types.
fn families(scrape: &str) -> BTreeMap<&str, &str> {
    scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

/// Returns the series in a scrape, without their values.
fn series(scrape: &str) -> BTreeSet<&str> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect()
}

/// Returns the values that `label` has in a scrape, at metrics that begin with `metric`.
fn values<'a>(scrape: &'a str, metric: &str, label: &str) -> BTreeSet<&'a str> {
    let of = scrape.lines().filter(|line| line.starts_with(metric));
    of.filter_map(|line| line.split(&format!("{label}=\"")).nth(1)?.split('"').next()).collect()
}

/// Returns the metric that `name` is, or is a part of: histograms have three.
fn family<'a>(name: &'a str, families: &BTreeMap<&str, &str>) -> &'a str {
    let mut bases = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
    bases.find(|base| families.get(base) == Some(&"histogram")).unwrap_or(name)
}

/// Runs promtool in the shipped folder. Lints count as errors.
async fn promtool(args: &[&str], input: &str) {
    let Some(program) = find("promtool") else { return };
    let mut child = Command::new(program)
        .current_dir(dashboards())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("promtool ends");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {args:?}: {}", String::from_utf8_lossy(&text));
}

#[tokio::test]
async fn promtool_accepts_every_shipped_file() {
    promtool(&["check", "config", "prometheus.yml"], "").await;
    promtool(&["check", "rules", "--lint-fatal", "rules.yml"], "").await;
    promtool(&["test", "rules", "rules_test.yml"], "").await;
}

#[tokio::test]
async fn promtool_accepts_every_metric() {
    let (_folder, server) = load::server().await;
    promtool(&["check", "metrics"], &scrape(&server).await).await;
    let Some(node) = load::node().await else { return };
    promtool(&["check", "metrics"], &scrape(&node.server).await).await;
}

#[tokio::test]
async fn every_metric_is_on_a_panel_and_every_panel_has_its_metrics() {
    let (_folder, server) = load::server().await;
    let Some(node) = load::node().await else { return };
    let scrape = scrape(&server).await + &scrape(&node.server).await;
    let families = families(&scrape);
    let dashboard = Dashboard::read();
    let mut shown = BTreeSet::new();
    for expression in [dashboard.of_panels(), dashboard.of_annotations(), dashboard.of_variables()].concat() {
        for name in expression.metrics() {
            let family = family(&name, &families);
            assert!(families.contains_key(family), "{}: there is no metric {name}", expression.of);
            shown.insert(family.to_owned());
        }
        for (label, metric) in [("reason", "tidegate_"), ("outcome", "tidegate_connections_total")] {
            let known = values(&scrape, metric, label);
            for value in expression.values_of(label) {
                assert!(known.contains(&*value), "{}: there is no {label} {value}", expression.of);
            }
        }
    }
    let not_shown: Vec<_> = families.keys().filter(|name| !shown.contains(**name)).copied().collect();
    assert_eq!(not_shown, NOT_SHOWN, "metrics that no panel shows");

    // Refusals are on two panels, by reason: no reason may be missing from both.
    let by_reason =
        dashboard.of_panels().into_iter().filter(|one| one.expr.contains("tidegate_refused_total{"));
    let reasons: BTreeSet<String> = by_reason.flat_map(|one| one.values_of("reason")).collect();
    assert!(values(&scrape, "tidegate_refused_total", "reason").iter().eq(reasons.iter()), "{reasons:?}");
}

#[test]
fn the_dashboard_is_consistent() {
    let dashboard = Dashboard::read();
    assert!(dashboard.0["schemaVersion"].as_u64().is_some_and(|version| version >= 39));
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let mut bottom = 0;
    for panel in dashboard.panels() {
        let what = format!("panel {} {}", panel["id"], panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{what}: its id is not its own");
        assert!(!text(&panel["title"]).is_empty(), "{what}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{what}: no {key}"));
        let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
        assert!(x + w <= 24, "{what}: reaches over the edge");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{what}: covers another");
        }
        if panel["type"] == "row" {
            assert!(y >= bottom && w == 24, "{what}: rows stand between panels");
            continue;
        }
        bottom = bottom.max(y + h);
        assert!(text(&panel["description"]).ends_with('.'), "{what}: says what it shows");
        assert!(UNITS.contains(&&*text(&panel["fieldConfig"]["defaults"]["unit"])), "{what}: has a unit");
        let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().expect("thresholds");
        assert_eq!(steps.first().map(|step| &step["value"]), Some(&Value::Null), "{what}: the lowest step");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{what}");
        let mut refs = BTreeSet::new();
        for target in panel["targets"].as_array().expect("targets") {
            assert_eq!(target["datasource"], panel["datasource"], "{what}");
            assert!(refs.insert(text(&target["refId"])), "{what}: two targets with one name");
            assert!(!text(&target["legendFormat"]).is_empty(), "{what}");
            let expr = text(&target["expr"]);
            let selectors = expr.matches('{').count();
            let alerts = expr.matches("ALERTS{").count();
            let chosen = expr.matches(r#"{job=~"$job", instance=~"$instance""#).count();
            assert!(chosen + alerts == selectors && selectors > 0, "{what}: not for what is chosen: {expr}");
            // Each metric has a selector; without one it would cover all instances.
            let bare = expr.split("tidegate_").skip(1).filter(|rest| !rest.contains('{')).count();
            assert_eq!(bare, 0, "{what}: {expr}");
        }
    }
    let questions =
        ["Is it healthy?", "Who is connected?", "How fast do events arrive?", "What does it cost?"];
    let losses = ["Who is behind?", "What was refused, dropped or lost?"];
    let rooms = ["Who is there?", "What was left out on purpose?"];
    let bounds = [
        "How full is history?",
        "How full is HTTP?",
        "Is the order written to disk?",
        "Is the order in Redis followed?",
    ];
    let rows: Vec<_> = dashboard.panels().iter().filter(|panel| panel["type"] == "row").collect();
    let titles: Vec<_> = rows.iter().map(|row| text(&row["title"])).collect();
    assert_eq!(titles, [&questions[..], &losses, &rooms, &bounds].concat());
    let variables = dashboard.0["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().map(|variable| text(&variable["name"])).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
}

#[tokio::test]
async fn every_alert_says_what_to_do_where_to_look_and_is_tested() {
    let (_folder, server) = load::server().await;
    let Some(prometheus) = Prometheus::start(&[server.admin.expect("an admin listener")]).await else {
        return;
    };
    let rules = prometheus.rules().await;
    let (alerts, records): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule["type"] == "alerting");
    let dashboard = Dashboard::read();
    let tests = shipped("rules_test.yml");
    let operations = shipped("../docs/operations.md");
    for alert in &alerts {
        let name = text(&alert["name"]);
        assert!(["warning", "critical"].contains(&&*text(&alert["labels"]["severity"])), "{name}");
        let annotation = |key: &str| text(&alert["annotations"][key]);
        assert!(!annotation("summary").is_empty() && annotation("description").ends_with('.'), "{name}");

        let anchor = name.to_lowercase();
        assert_eq!(annotation("runbook_url"), format!("docs/operations.md#{anchor}"));
        let headings = operations.lines().filter_map(|line| line.strip_prefix('#'));
        let mut anchors = headings.map(|line| line.trim_matches(['#', ' ', '`']).to_lowercase());
        assert!(anchors.any(|known| known == anchor), "{name} has no section in docs/operations.md");

        let id = annotation("__panelId__");
        let panel = dashboard.panel(&id).unwrap_or_else(|| panic!("{name}: there is no panel {id}"));
        assert!(text(&panel["description"]).contains(&name), "{name}: its panel {id} does not speak of it");
        assert_eq!(annotation("__dashboardUid__"), dashboard.0["uid"], "{name}");
        let link = format!("/d/tidegate?viewPanel={id}");
        assert!(annotation("dashboard_url").starts_with(&link), "{name}");

        let case =
            tests.split(&format!("  - name: {name}\n")).nth(1).unwrap_or_else(|| panic!("{name}: no test"));
        let case = case.split("  - name: ").next().expect("a first part");
        let fires = format!("- labels: ALERTS{{alertname=\"{name}\", alertstate=\"firing\"");
        assert!(case.contains("exp_samples: []\n") && case.contains(&fires), "{name}: fires, and does not");
    }
    let used: BTreeSet<String> = expressions(&alerts).iter().flat_map(Expression::metrics).collect();
    for record in &records {
        assert!(used.contains(&text(&record["name"])), "{} is for no alert", record["name"]);
    }
}

/// Returns the expressions of `rules`.
fn expressions(rules: &[&Value]) -> Vec<Expression> {
    rules.iter().map(|rule| Expression { of: text(&rule["name"]), expr: text(&rule["query"]) }).collect()
}

#[tokio::test]
async fn every_expression_has_data() {
    let (_folder, server) = load::server().await;
    let Some(node) = load::node().await else { return };
    let admins = [&server, &node.server].map(|server| server.admin.expect("an admin listener"));
    let Some(prometheus) = Prometheus::start(&admins).await else { return };
    let _load = Load::start(&server, &node.server).await;

    let dashboard = Dashboard::read();
    let rules = prometheus.rules().await;
    let rules: Vec<&Value> = rules.iter().collect();
    let dashboards = [dashboard.of_panels(), dashboard.of_annotations()].concat();
    let concrete = dashboards.iter().map(|one| (&one.of, one.concrete()));
    let rules = expressions(&rules);
    let all: Vec<_> = concrete.chain(rules.iter().map(|one| (&one.of, one.unfiltered()))).collect();
    assert!(all.len() > 80, "{} expressions", all.len());
    for (of, expr) in &all {
        until(&format!("data for {of}: {expr}"), async || match prometheus.query(expr).await {
            Ok(values) if values.iter().any(|value| !value.is_nan()) => Ok(()),
            other => Err(other),
        })
        .await;
    }

    // The effects of the load show that it was one, and one of the alerts is on.
    for moved in [
        r#"tidegate_refused_total{reason="user_connections"}"#,
        r#"tidegate_refused_total{reason="bad_request"}"#,
        r#"tidegate_refused_total{reason="origin"}"#,
        r#"tidegate_refused_total{reason="rate_limited"}"#,
        r#"tidegate_gaps_total{reason="unknown"}"#,
        r#"tidegate_events_dropped_total{reason="rate"}"#,
        // A client that leaves with unread bytes resets its connection.
        r#"tidegate_connections_closed_total{reason=~"client|error"}"#,
        r#"tidegate_bytes_sent_total{encoding="gzip"}"#,
        "tidegate_gzip_ratio",
        "tidegate_heartbeats_total",
        "tidegate_lagging_connections",
        "tidegate_oldest_unsent_seconds",
        "tidegate_shard_busy_seconds_total",
        r#"ALERTS{alertname="TidegateEventsDropped", alertstate="firing", reason="rate", severity="warning"}"#,
    ] {
        let expr = format!("{moved} > 0");
        until(moved, async || match prometheus.query(&expr).await {
            Ok(values) if !values.is_empty() => Ok(()),
            other => Err(other),
        })
        .await;
    }

    let rules = prometheus.rules().await;
    for rule in &rules {
        assert_eq!((&rule["health"], rule["lastError"].as_str().unwrap_or("")), (&json!("ok"), ""), "{rule}");
        for alert in rule["alerts"].as_array().into_iter().flatten() {
            let annotations = alert["annotations"].to_string();
            assert!(!annotations.contains("error") && !annotations.contains("{{"), "{annotations}");
        }
    }
}

/// Rooms in one stream, at most.
const ROOMS_A_STREAM: usize = 64;

/// Rooms with subscribers, and users with published events.
const CROWD: usize = 100_000;

#[tokio::test]
async fn a_hundred_thousand_rooms_and_users_make_no_series() {
    let limit = rlimit::increase_nofile_limit(8192).expect("a limit");
    assert!(limit >= 4096, "this test needs 4,096 descriptors, ulimit -Hn is {limit}");
    let server = Server::start(&[("ADMIN_LISTEN", "127.0.0.1:0")]).await;
    let address = server.address;
    let before = scrape(&server).await;

    let mut streams = Vec::new();
    for n in 0..CROWD.div_ceil(ROOMS_A_STREAM) {
        let rooms: Vec<String> = (0..ROOMS_A_STREAM).map(|room| format!("room=r{n}-{room}")).collect();
        let path = format!("/stream?{}&user=u{n}", rooms.join("&"));
        streams.push(load::stream(address, &path, "").await);
    }
    for n in 0..CROWD / 1000 {
        let names = (0..1000).map(|user| format!("p{n}-{user}"));
        let events = names.map(|name| json!({"user": &name, "event": &name, "id": &name, "data": &name}));
        load::publish(address, &events.collect()).await;
        get(address, &format!("/elsewhere/{n}")).await;
    }
    let after = scrape(&server).await;
    for (metric, least) in [("rooms", CROWD), ("users", streams.len()), ("history_events", CROWD)] {
        let sample = after.lines().find_map(|line| line.strip_prefix(&format!("tidegate_{metric} ")));
        assert!(
            sample.is_some_and(|value| value.parse().is_ok_and(|count: usize| count >= least)),
            "{sample:?}"
        );
    }
    assert_eq!(series(&before), series(&after));
    assert!(series(&after).len() < 250, "{}", series(&after).len());
}
