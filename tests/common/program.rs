//! The program on a command line or a configuration of a test's, run to its end.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the program with these words, and no key in its environment.
pub fn herd_mio(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(words).env_remove("HERD_PLACES_KEY").output().expect("the program runs")
}

/// What was printed, which is text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A configuration file in a folder of its own.
pub fn file(contents: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("herd.toml");
    std::fs::write(&path, contents).expect("a file");
    (folder, path)
}

/// What `--check` makes of a configuration.
pub fn check(contents: impl AsRef<[u8]>) -> Output {
    let (_folder, path) = file(contents);
    herd_mio(&["--check", "--config", path.to_str().expect("text")])
}

/// A server with a port for its clients, and more lines.
pub fn server(name: &str, port: u32, more: &str) -> String {
    format!("[[server]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n{more}\n")
}

/// Lets neighbours be on other hosts without TLS.
pub const PLAIN: &str = "security.allow_plaintext = [\"neighbours\"]\n";
/// A herd of one.
pub const A: &str = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:1200\"\n";
