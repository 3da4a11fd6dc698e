//! The README's figures are those of the newest results, word for word, and the load test understands the commands of the
//! documents.

use std::fs;
use std::path::Path;

use clap::Parser as _;
use tidegate_loadtest::plan::args::Cli;
use tidegate_loadtest::report::results::{Results, newest};
use tidegate_loadtest::report::table::{section, split};

#[test]
fn the_readme_says_what_was_measured() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(here.join("../README.md")).expect("the README is there");
    let kept = newest(&here.join("results"), "suite").expect("the folder can be read");
    let Some((_, figures, _)) = split(&readme) else {
        assert!(kept.is_none(), "there are results, but the README has no place for them");
        return;
    };
    let kept = kept.expect("the README has figures, so the results are kept");
    let results = Results::load(&kept).expect("they can be read");
    assert!(
        figures == section(&results),
        "README.md is not what {} says; run: cargo run -p tidegate-loadtest -- table --readme README.md",
        kept.display()
    );
}

/// They take minutes, so they are only parsed here.
#[test]
fn commands_of_the_documents_are_understood() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for document in ["README.md", "../docs/operations.md"] {
        let text = fs::read_to_string(here.join(document)).expect("the document is there");
        let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
        for line in blocks.flat_map(str::lines) {
            let command = line.split('#').next().expect("a split has a first part");
            let (program, args) = command.split_at(command.find(' ').unwrap_or(command.len()));
            match program.rsplit('/').next() {
                Some("tidegate-loadtest") => {
                    let args = std::iter::once(program).chain(args.split_whitespace());
                    Cli::try_parse_from(args).unwrap_or_else(|err| panic!("{document}: {line}\n{err}"));
                    count += 1;
                }
                _ => assert!(["cargo", "cd", "tidegate"].contains(&program), "{document}: {line}"),
            }
        }
    }
    assert!(count >= 10, "{count} commands");
}
