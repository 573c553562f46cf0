//! The counts in the repository: read, compared, written.

use std::collections::BTreeMap;
use std::process::Command;

/// What a count depends on besides the code: the compiler, valgrind, the C library, and the instructions that its
/// functions may use. None where there is no valgrind.
pub fn tools() -> Option<String> {
    let valgrind = said("valgrind", "--version")?;
    let compiler = option_env!("HERD_MIO_RUST").unwrap_or("unknown");
    let library = said("getconf", "GNU_LIBC_VERSION").unwrap_or_else(|| "another libc".to_owned());
    let processor =
        format!("{}{}", std::env::consts::ARCH, if has_avx2() { " with AVX2" } else { "" });
    Some(format!("rustc {compiler}, {valgrind}, {library}, {processor}"))
}

/// The counts of a build.
pub struct Recorded {
    counts: BTreeMap<String, u64>,
    /// Why they can't be compared: the tools that they were counted with, and those of now.
    other_tools: Option<(String, String)>,
}

/// How far a count is from the one in the file.
pub struct Change {
    text: String,
    is_beyond_tolerance: bool,
}

impl Change {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_beyond_tolerance(&self) -> bool {
        self.is_beyond_tolerance
    }
}

/// Reads the section of a build.
pub fn read(build: &str, tools: &str) -> Result<Recorded, String> {
    let section = table()?.remove(build).and_then(|section| section.try_into().ok());
    let mut section: toml::Table =
        section.ok_or_else(|| format!("{FILE} has no section [{build}]"))?;
    let theirs =
        section.remove(TOOLS).and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default();
    let counts = section.into_iter().filter_map(|(name, count)| {
        count.as_integer().and_then(|count| u64::try_from(count).ok()).map(|count| (name, count))
    });
    let other_tools = (theirs != tools).then(|| (theirs, tools.to_owned()));
    Ok(Recorded { counts: counts.collect(), other_tools })
}

impl Recorded {
    pub fn change(&self, name: &str, count: u64) -> Change {
        let Some(&known) = self.counts.get(name).filter(|known| **known > 0) else {
            return Change { text: "new".to_owned(), is_beyond_tolerance: true };
        };
        let difference = count as f64 / known as f64 - 1.0;
        let is_beyond_tolerance = difference.abs() > TOLERANCE;
        let mark = if is_beyond_tolerance { "!" } else { "" };
        Change { text: format!("{mark}{:+.1} %", 100.0 * difference), is_beyond_tolerance }
    }

    /// Fails if some have changed and the tools are the same.
    pub fn verdict(&self, changed: usize) -> Result<(), String> {
        if let Some((theirs, ours)) = &self.other_tools {
            println!(
                "{FILE} was written with {theirs}; this is {ours}: differences are no failure."
            );
            return Ok(());
        }
        match changed {
            0 => Ok(()),
            1.. => Err(format!(
                "{changed} counts differ by more than {} % from {FILE}. If that is meant, write them down: \
                 `just instructions-write`, and say in the commit why they changed.",
                100.0 * TOLERANCE
            )),
        }
    }
}

/// Writes the section of a build. If not all functions were counted, the others stay.
pub fn write(
    build: &str,
    tools: &str,
    counts: &[(&str, u64)],
    are_all: bool,
) -> Result<(), String> {
    let mut table = table().unwrap_or_default();
    let section = table.entry(build).or_insert_with(|| toml::Table::new().into());
    let Some(section) = section.as_table_mut() else {
        return Err(format!("[{build}] in {FILE} is no section"));
    };
    if are_all {
        section.clear();
    }
    section.insert(TOOLS.to_owned(), tools.into());
    for (name, count) in counts {
        section.insert((*name).to_owned(), i64::try_from(*count).unwrap_or(i64::MAX).into());
    }
    std::fs::write(FILE, format!("{HEAD}{table}")).map_err(|error| format!("{FILE}: {error}"))
}

fn table() -> Result<toml::Table, String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    text.parse().map_err(|error| format!("{FILE}: {error}"))
}

/// The first line that a program prints.
fn said(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
const HEAD: &str = "\
# Instructions of the hot functions (benches/instructions). `just instructions-write` writes this file: [release] is what
# is shipped; [quick] is the build that `.ci/run` can afford, without optimisation across crates, and compares.

";
const TOOLS: &str = "counted with";
/// Above it, a count has changed. Most are the same to the instruction in each run; the log's depends on its thread.
const TOLERANCE: f64 = 0.02;
