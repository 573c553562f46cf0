//! The manual pages are valid, so that every reader of them shows them.

use std::fs;
use std::path::Path;

use crate::common::needs::{Outcome, tool};
use crate::common::program::text;

pub fn mandoc_finds_nothing_to_warn_of() -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/man");
    let pages = fs::read_dir(folder).expect("the folder").flatten().map(|page| page.path());
    let output = tool("mandoc")?.args(["-T", "lint", "-W", "warning"]).args(pages).output();
    let output = output.expect("it runs");
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
    Ok(())
}
