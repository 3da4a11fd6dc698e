//! The README's figures are those of the newest results, word for word.

use std::fs;
use std::path::Path;

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
