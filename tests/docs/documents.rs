//! Promise: the documents keep their form, and what they show is run. Each page names its readers, the paragraphs of
//! the README and of ARCHITECTURE.md are short, and every block of commands, code or settings belongs to a test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

/// The test that runs each block: the document, the language, how the block begins (all blocks of that language, if
/// empty), and the test. The test reads the block from the document, so that a change of the block changes the test.
const CLAIMS: [(&str, &str, &str, &str); 59] = [
    ("README.md", "sh", "cargo run --release", "commands_in_the_tree_are_there"),
    ("README.md", "sh", "curl -N http://127.0.0.1:8080/", "the_first_commands_work"),
    ("README.md", "html", "<script>", "the_first_script_shows_what_comes"),
    ("README.md", "sh", "url=", "the_publish_commands_work_as_they_stand"),
    ("README.md", "sh", "curl -N \"http", "an_id_that_is_passed_by_hand_is_answered"),
    ("CONTRIBUTING.md", "sh", "", "commands_in_the_tree_are_there"),
    ("docs/api.md", "sh", "", "the_api_answers_as_shown"),
    ("docs/api.md", "json", "", "the_api_answers_as_shown"),
    ("docs/callbacks.md", "toml", "auth_callback", "the_application_is_asked_as_shown"),
    ("docs/callbacks.md", "http", "POST /sse/auth", "the_application_is_asked_as_shown"),
    ("docs/callbacks.md", "toml", "disconnect_callback", "the_application_is_asked_as_shown"),
    ("docs/callbacks.md", "json", r#"{"epoch":"k3v9q2","events":[{"u"#, "the_application_is_asked_as_shown"),
    ("docs/callbacks.md", "toml", "presence_callback", "the_application_hears_of_members_as_shown"),
    ("docs/callbacks.md", "toml", "publish_callback", "the_application_decides_about_events_as_shown"),
    ("docs/callbacks.md", "json", r#"{"user":"me","room""#, "the_application_decides_about_events_as_shown"),
    (
        "docs/callbacks.md",
        "json",
        r#"{"epoch":"k3v9q2","events":[{"type""#,
        "the_application_hears_of_members_as_shown",
    ),
    ("docs/client.md", "html", "", "the_client_works_as_shown"),
    ("docs/deploying.md", "toml", "listen = [\"unix:", "settings_of_the_guides_are_right"),
    ("docs/deploying.md", "sh", "podman build", "the_container_is_started_as_its_file_says"),
    ("docs/operations.md", "sh", "tidegate --config", "a_token_is_looked_into_as_shown"),
    ("docs/operations.md", "sh", "cargo build", "commands_of_the_documents_are_understood"),
    ("docs/persistence.md", "toml", "order = ", "settings_of_the_guides_are_right"),
    ("docs/polling.md", "sh", "url=", "the_poll_commands_work_as_they_stand"),
    ("docs/presence.md", "toml", "[[room]]", "presence_works_as_shown"),
    ("docs/presence.md", "sh", "curl -N", "presence_works_as_shown"),
    ("docs/presence.md", "sh", "url=", "presence_works_as_shown"),
    ("docs/presence.md", "text", "", "presence_works_as_shown"),
    ("docs/presence.md", "js", "const members", "a_page_shows_who_is_there"),
    ("docs/proxies.md", "nginx", "location", "nginx_accepts_the_location_block"),
    ("docs/proxies.md", "haproxy", "defaults", "haproxy_passes_events_on_and_compresses_none"),
    ("docs/proxies.md", "toml", "listen = [\"proxy:", "settings_of_the_guides_are_right"),
    ("docs/proxies.md", "apache", "<Location", "apache_passes_events_on_and_compresses_none"),
    ("docs/proxies.md", "vcl", "vcl 4.1;", "varnish_passes_events_on_without_gzip"),
    ("docs/proxies.md", "vcl", "sub vcl_backend_fetch", "varnish_that_hides_itself_passes_gzip_on"),
    ("docs/proxies.md", "js", "import compression", "express_with_compression_leaves_streams_alone"),
    ("docs/proxies.md", "js", "export default", "the_development_server_of_webpack_leaves_streams_alone"),
    ("docs/publishing.md", "sh", "export TIDEGATE_URL", "each_language_publishes_once"),
    ("docs/publishing.md", "sh", "curl", "each_language_publishes_once"),
    ("docs/publishing.md", "python", "", "each_language_publishes_once"),
    ("docs/publishing.md", "js", "", "each_language_publishes_once"),
    ("docs/publishing.md", "go", "", "each_language_publishes_once"),
    ("docs/publishing.md", "php", "", "each_language_publishes_once"),
    ("docs/resume.md", "text", "event: gap", "a_gap_looks_as_shown"),
    ("docs/resume.md", "js", "// The names", "the_page_has_every_event_once_in_firefox"),
    ("docs/nodes.md", "sh", "tidegate --order", "the_documented_command_makes_one_order"),
    ("docs/rooms.md", "toml", "publish_callback", "tables_of_rooms_are_right_as_shown"),
    ("docs/rooms.md", "toml", "[[room]]", "tables_of_rooms_are_right_as_shown"),
    ("docs/settings.md", "sh", "tidegate --config", "settings_of_the_guides_are_right"),
    ("docs/tokens.md", "sh", "openssl", "the_token_commands_work_as_they_stand"),
    ("docs/tokens.md", "js", "await fetch", "tokens_are_refreshed_and_revoked_as_shown"),
    ("docs/tokens.md", "sh", "curl http", "tokens_are_refreshed_and_revoked_as_shown"),
    ("docs/tokens.md", "sh", "tidegate key", "a_key_is_replaced_as_told"),
    ("docs/tutorial/first-page.md", "sh", "tidegate --cors-origins", "the_tutorial_works_as_it_stands"),
    ("docs/tutorial/first-page.md", "sh", "curl http", "the_tutorial_works_as_it_stands"),
    ("docs/tutorial/first-page.md", "sh", "url=", "the_tutorial_works_as_it_stands"),
    ("docs/tutorial/first-page.md", "sh", "model() {", "the_tutorial_works_as_it_stands"),
    ("docs/tutorial/first-page.md", "html", "", "the_tutorial_works_as_it_stands"),
    ("loadtest/README.md", "sh", "", "commands_of_the_documents_are_understood"),
    ("ARCHITECTURE.md", "text", "publish", "no_paragraph_of_the_architecture_is_long"),
];

/// The language of blocks that cannot be run: a drawing, or an answer.
const SHOWN: &str = "text";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the names of files in `folder` that end with `end`.
fn names(folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder of this tree");
    let names = entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8"));
    let name = |name| if folder == "." { name } else { format!("{folder}/{name}") };
    names.filter(|name| name.ends_with(end)).map(name).collect()
}

fn text_of(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|err| panic!("{document}: {err}"))
}

/// Returns the fenced blocks in a document: language and text.
fn blocks(document: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut is_open = false;
    for line in text_of(document).lines() {
        match (line.trim_start().strip_prefix("```"), is_open) {
            (Some(language), false) => blocks.push((language.to_owned(), String::new())),
            (Some(_), true) => {}
            (None, true) => {
                let (_, text) = blocks.last_mut().expect("one is open");
                text.push_str(line);
                text.push('\n');
                continue;
            }
            (None, false) => continue,
        }
        is_open = !is_open;
    }
    assert!(!is_open, "{document}: every block ends");
    blocks
}

/// Returns all Rust code of the tests, in one string.
fn tests() -> String {
    let mut text = String::new();
    let mut folders = vec![root().join("tests"), root().join("loadtest/tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of tests") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).expect("a file"));
            }
        }
    }
    text
}

#[test]
fn every_block_belongs_to_a_test() {
    // The other pages of the tutorial show what the showcase has: see `tutorial.rs`.
    let tutorial = vec!["docs/tutorial/first-page.md".to_owned()];
    let documents = [names(".", ".md"), names("docs", ".md"), tutorial, names("loadtest", ".md")].concat();
    let mut found = [0; CLAIMS.len()];
    for document in &documents {
        for (language, text) in blocks(document) {
            assert!(!language.is_empty(), "{document}: what language is this?\n{text}");
            let claims = CLAIMS.iter().zip(&mut found).filter(|((page, speech, start, _), _)| {
                page == document && *speech == language && text.starts_with(start)
            });
            let claims = claims.map(|(_, count)| *count += 1).count();
            assert!(
                claims == 1 || (claims == 0 && language == SHOWN),
                "{document}, {claims} claims:\n{text}"
            );
        }
    }
    let tests = tests();
    for ((document, language, start, test), count) in CLAIMS.iter().zip(found) {
        let is_right = if start.is_empty() { count > 0 } else { count == 1 };
        assert!(is_right, "{document} has {count} blocks of {language} that begin with {start:?}");
        assert!(tests.contains(&format!("fn {test}(")), "there is no test {test}");
    }
}

/// In a fixed form, so that no page is forgotten.
#[test]
fn every_page_begins_with_whom_it_is_for() {
    let pages = [names("docs", ".md"), names("docs/tutorial", ".md")].concat();
    assert!(pages.len() > 12, "{pages:?}");
    for page in pages {
        let text = text_of(&page);
        let mut parts = text.split("\n\n");
        assert!(parts.next().is_some_and(|title| title.starts_with("# ")), "{page}: the title");
        let mut parts = parts.skip_while(|part| part.starts_with("[中文]"));
        assert!(parts.next().is_some_and(|first| first.starts_with("For ")), "{page}: the first paragraph");
    }
}

#[test]
fn the_readme_is_short() {
    let words = text_of("README.md").split_whitespace().count();
    assert!(words <= 1500, "{words} words");
}

/// Returns paragraphs and list items, without tables and blocks.
fn paragraphs(document: &str) -> Vec<String> {
    let text = text_of(document);
    let mut paragraphs = vec![String::new()];
    let mut is_open = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        is_open ^= trimmed.starts_with("```");
        let number = trimmed.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_item = trimmed.starts_with("- ") || (number != trimmed && number.starts_with(". "));
        if is_open || trimmed.is_empty() || is_item || trimmed.starts_with(['|', '#']) {
            paragraphs.push(String::new());
        }
        if !(is_open || trimmed.starts_with(['|', '#'])) {
            let paragraph = paragraphs.last_mut().expect("there is one");
            paragraph.push_str(trimmed);
            paragraph.push('\n');
        }
    }
    paragraphs
}

#[test]
fn no_paragraph_of_the_architecture_is_long() {
    let paragraphs = paragraphs("ARCHITECTURE.md");
    assert!(paragraphs.len() > 50, "{}", paragraphs.len());
    for paragraph in paragraphs {
        let words = paragraph.split_whitespace().count();
        assert!(words <= 100, "{words} words:\n{paragraph}");
    }
}

/// Commands that take minutes or a network: their scripts and crates exist and are well-formed.
#[test]
fn commands_in_the_tree_are_there() {
    let manifest: toml::Table = text_of("Cargo.toml").parse().expect("TOML");
    // With one binary, `cargo run` needs no name.
    assert_eq!(manifest["bin"].as_array().map(Vec::len), Some(1));
    let all = ["README.md", "CONTRIBUTING.md"].map(blocks).concat();
    let lines = all.iter().filter(|(language, _)| language == "sh").flat_map(|(_, text)| text.lines());
    let words: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let mut count = 0;
    for words in words {
        let Some(script) = words.first().filter(|word| word.starts_with("scripts/")) else { continue };
        let file = root().join(script);
        let mode = fs::metadata(&file).unwrap_or_else(|err| panic!("{script}: {err}")).permissions().mode();
        assert!(mode & 0o111 != 0, "{script} is a program");
        let is_well_formed = Command::new("bash").arg("-n").arg(&file).status().expect("bash").success();
        assert!(is_well_formed, "{script}");
        if let ["scripts/fuzz", target, ..] = words[..] {
            let file = format!("fuzz/fuzz_targets/{target}.rs");
            assert!(target == "all" || root().join(&file).exists(), "{file}");
        }
        count += 1;
    }
    assert!(count >= 5, "{count} scripts are named");
}

/// The commands in the comments of `deploy/Containerfile`, which `tests/operate/container.rs` compares with the
/// program.
#[test]
fn the_container_is_started_as_its_file_says() {
    let (_, commands) =
        blocks("docs/deploying.md").into_iter().find(|(language, _)| language == "sh").expect("it");
    let file = text_of("deploy/Containerfile");
    assert_eq!(commands.lines().count(), 2);
    for command in commands.lines() {
        assert!(file.lines().any(|line| line.trim_start_matches(['#', ' ']) == command), "{command}");
    }
}
