//! Makes the table of the gazetteer, which the program then has as it reads it. And tells the program which commit it is
//! built from, for `--version`, and by which compiler. In a source archive, or where there is no git, the program does not
//! say.

use std::error::Error;
use std::fs::File;
use std::io::read_to_string;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;

#[allow(dead_code, reason = "the program uses the rest")]
#[path = "src/places/degrees.rs"]
mod degrees;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "src/places/table.rs"]
mod table;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "src/places/tree.rs"]
mod tree;

/// That of the program: the tree names it.
struct Area {
    latitude: f64,
    longitude: f64,
    radius: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    for file in ["gazetteer.tsv.gz", "degrees.rs", "table.rs", "tree.rs"] {
        println!("cargo::rerun-if-changed=src/places/{file}");
    }
    let list = read_to_string(GzDecoder::new(File::open("src/places/gazetteer.tsv.gz")?))?;
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo says no OUT_DIR")?;
    std::fs::write(Path::new(&folder).join("gazetteer"), table::make(&list))?;
    tell_versions();
    Ok(())
}

fn tell_versions() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if let Some(version) = output_of(Command::new(compiler).arg("--version"))
        && let Some(version) = version.split(' ').nth(1)
    {
        println!("cargo::rustc-env=HERD_MIO_RUST={version}");
    }
    // An archive may be unpacked within another repository: only a `.git` beside this file is ours.
    if !Path::new(".git").exists() {
        return;
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    println!("cargo::rustc-env=HERD_MIO_COMMIT={commit}");
    // The second one grows with each commit and each switch of branches.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) =
            git(&["rev-parse", "--git-path", name]).filter(|it| Path::new(it).exists())
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn git(words: &[&str]) -> Option<String> {
    output_of(Command::new("git").args(words))
}

/// What a program prints; None where it fails or is not there.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
