//! Tells the program which commit it is built from, for `--version`, and by which compiler. In a source archive, or where
//! there is no git, the program does not say.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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
