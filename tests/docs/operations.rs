//! Promise: the operations guide is complete and names nothing that does not exist: every alert has its section, every
//! reason its row, and every setting and metric in it exists.

use std::collections::BTreeSet;
use std::process::Command;

use tidegate::answer::problem::Code;
use tidegate::auth::token_error::TokenError;
use tidegate::engine::stats::Refused;
use tidegate::shard::reason::{CloseReason, DropReason, GapReason, SkipReason};

const GUIDE: &str = include_str!("../../docs/operations.md");
const SETTINGS: &str = include_str!("../../docs/settings.md");
const DEPLOYING: &str = include_str!("../../docs/deploying.md");
const RULES: &str = include_str!("../../dashboards/rules.yml");
const DASHBOARD: &str = include_str!("../../dashboards/tidegate.json");

/// Returns the text below the heading `title`, up to the next heading of its level or above.
fn section(title: &str) -> &'static str {
    let heading = format!("\n## {title}\n");
    let at = GUIDE.find(&heading).unwrap_or_else(|| panic!("no section {title}"));
    let rest = &GUIDE[at + heading.len()..];
    rest.split("\n## ").next().expect("a split has a first part")
}

/// Returns the first cells of a section's table rows.
fn rows(title: &str) -> BTreeSet<&'static str> {
    let cells = section(title).lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.collect()
}

/// Returns everything between single backquotes, in the guide and in the page on deploying, which was part of it.
fn quoted() -> BTreeSet<&'static str> {
    let quoted = |page: &'static str| page.split('`').skip(1).step_by(2);
    quoted(GUIDE).chain(quoted(DEPLOYING)).filter(|text| !text.contains('\n')).collect()
}

#[test]
fn every_reason_has_its_row() {
    let closes: BTreeSet<&str> = CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
    let gaps: BTreeSet<&str> = GapReason::ALL.iter().map(|reason| reason.as_str()).collect();
    let drops: BTreeSet<&str> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(rows("Why streams end"), closes);
    assert_eq!(rows("Why subscribers get gaps"), gaps);
    let skips: BTreeSet<&str> = SkipReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(rows("Why events are dropped"), drops);
    assert_eq!(rows("Why events are skipped"), skips);
    assert_eq!(rows("Why requests are refused"), Refused::ALL.iter().map(|reason| reason.as_str()).collect());
    let tokens: BTreeSet<&str> = TokenError::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(rows("Why tokens are refused"), tokens);
}

#[test]
fn the_program_exits_as_told() {
    let cells =
        section("Exit statuses").lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let told: BTreeSet<i32> = cells.filter_map(|cell| cell.parse().ok()).collect();
    assert_eq!(told, BTreeSet::from([0, 1, 64, 78, 130]));
    for (args, status) in [
        (&["--version"][..], 0),
        (&["--check-health", "--admin-listen", "off"], 1),
        (&["--no-such-flag"], 64),
        (&["--flush-interval", "soon"], 78),
        (&["--flush-interval", "soon", "--check-config"], 78),
        (&["--api-keys-file", "/no/such/file", "check", "tgk_x"], 78),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_tidegate")).env_clear().args(args).output();
        assert_eq!(ended.expect("it runs").status.code(), Some(status), "{args:?}");
    }
}

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let alerts: Vec<&str> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let sections: Vec<&str> =
        section("Alerts").lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(alerts, sections);
    for alert in alerts {
        let link = format!("runbook_url: docs/operations.md#{}\n", alert.to_lowercase());
        assert!(RULES.contains(&link), "{alert}");
    }
}

#[test]
fn links_lead_somewhere() {
    let headings: BTreeSet<String> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")))
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let links: Vec<&str> = GUIDE.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(!links.is_empty());
    for link in links {
        assert!(headings.contains(link), "{link}");
    }
}

#[test]
fn settings_and_metrics_in_it_exist() {
    let is_of_rooms = |name: &str| tidegate::config::room_reference().any(|setting| setting.key == name);
    let is_setting = |name: &str| SETTINGS.contains(&format!("| `{name}` |")) || is_of_rooms(name);
    let reasons: BTreeSet<&str> = CloseReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .chain(GapReason::ALL.iter().map(|reason| reason.as_str()))
        .chain(TokenError::ALL.iter().map(|reason| reason.as_str()))
        .chain(Refused::ALL.iter().map(|reason| reason.as_str()))
        .chain(Code::ALL.iter().map(|code| code.as_str()))
        .collect();
    // Words with underscores are settings, metrics, reasons or codes, whatever follows them.
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    // Names from the kernel and systemd, not ours.
    let foreign = ["sock_inode_cache", "eventpoll_epi"];
    for text in quoted() {
        let name = text.split([' ', '{', '=']).next().unwrap_or_default();
        if !is_name(name) || !name.contains('_') || foreign.contains(&name) {
            continue;
        }
        let metric = format!("tidegate_{}", name.trim_start_matches("tidegate_"));
        let known = is_setting(name) || reasons.contains(name) || DASHBOARD.contains(&metric);
        assert!(known, "{text}");
    }
}
