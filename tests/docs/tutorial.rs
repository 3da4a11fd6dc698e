//! Promise: what the tutorial shows is the showcase's own code, and both languages show the same.

use std::fs;
use std::path::{Path, PathBuf};

const PAGES: [&str; 5] = ["first-page", "chat", "notifications", "progress", "ai"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial")
}

/// A fenced block, and the paragraph before it.
struct Block {
    before: String,
    language: String,
    lines: Vec<String>,
}

fn blocks(path: &Path) -> Vec<Block> {
    let text = fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let parts: Vec<&str> = text.split("```").collect();
    assert!(parts.len() % 2 == 1, "{}: every block ends", path.display());
    let block = |pair: &[&str]| {
        let before = pair[0].trim_end().rsplit("\n\n").next().unwrap_or_default().trim().to_owned();
        let mut lines = pair[1].lines().map(str::to_owned);
        let language = lines.next().expect("a language");
        Block { before, language, lines: lines.collect() }
    };
    parts.chunks_exact(2).map(block).collect()
}

/// Removes the indentation that all lines have.
fn flush_left(lines: &[String]) -> Vec<&str> {
    let indentation = |line: &String| line.len() - line.trim_start().len();
    let common =
        lines.iter().filter(|line| !line.trim().is_empty()).map(indentation).min().unwrap_or_default();
    lines.iter().map(|line| line.get(common..).unwrap_or_default()).collect()
}

#[test]
fn what_the_tutorial_shows_is_in_the_showcase() {
    let mut count = 0;
    for page in PAGES.iter().filter(|page| **page != "first-page") {
        for path in [folder().join(format!("{page}.md")), folder().join(format!("zh/{page}.md"))] {
            for Block { before, language, lines } in blocks(&path) {
                if language == "sh" {
                    assert_eq!(lines, ["cargo run --release -p showcase"], "{}", path.display());
                    continue;
                }
                let place = || format!("{}, the block below {before:?}", path.display());
                let link = before.strip_prefix("[`").and_then(|rest| rest.strip_suffix(')'));
                let (name, target) = link
                    .and_then(|link| link.split_once("`]("))
                    .unwrap_or_else(|| panic!("{}: wanted a link to the file that it is cut from", place()));
                assert!(name.starts_with("examples/showcase/"), "{}", place());
                let file = path.parent().expect("a folder").join(target).canonicalize();
                let file = file.unwrap_or_else(|err| panic!("{}: {err}", place()));
                assert!(file.ends_with(name), "{}: the link leads to {}", place(), file.display());
                let source = fs::read_to_string(&file).expect("a file");
                let source: Vec<String> = source.lines().map(str::to_owned).collect();
                let wanted = flush_left(&lines);
                let is_there = source.windows(lines.len()).any(|part| flush_left(part) == wanted);
                assert!(is_there, "{}: {name} does not have\n{}", place(), wanted.join("\n"));
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count} blocks");
}

/// The text is for readers, and nobody can test it. What it is about is the same: the code, the sections and the links.
#[test]
fn the_tutorial_is_the_same_in_both_languages() {
    for page in PAGES {
        let paths = [folder().join(format!("{page}.md")), folder().join(format!("zh/{page}.md"))];
        let [english, chinese] = paths.map(|path| {
            let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            let code: Vec<_> = blocks(&path).into_iter().map(|block| (block.language, block.lines)).collect();
            let prose: Vec<&str> = text.split("```").step_by(2).collect();
            let sections =
                prose.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with('#')).count();
            let prose = prose.concat();
            let links = prose.split("](").skip(1).map(|rest| {
                let target = rest.split(')').next().unwrap_or_default();
                let target = target.split('#').next().unwrap_or_default();
                target.rsplit('/').next().unwrap_or_default().to_owned()
            });
            let mut links: Vec<String> = links.collect();
            links.sort();
            (code, sections, links)
        });
        assert_eq!(english, chinese, "{page}");
    }
}
