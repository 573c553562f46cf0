//! Every block of the README is run, and its output compared: on ports of our own, which are put in place of the README's
//! and back again. Times, and ports that the kernel has chosen, differ from run to run and are left out; `…` stands for
//! any text, on a line of its own for any lines.
//!
//! | block | what is done with it |
//! |---|---|
//! | indented | the first two commands: the first one is run, the second one is this test |
//! | `console` | each `$ ` command is run, in one shell, and what it says compared |
//! | `toml` | becomes the file `herd.toml` of the commands behind it |
//! | `terminal` | each line must have been said by `--herd` in its terminal |
//! | `log` | each line must stand in one of the logs |
//! | `text` | the diagram of the herd: each server with its port |

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use regex::{Captures, Regex};
use rustix::process::Signal;

use crate::common::needs::{Outcome, netcat, tool};
use crate::common::process::{follow, send_signal};
use crate::common::{LIMIT, REPORT, Setup, wait_until};

/// Where the README's herd listens for clients, in the order of `REPORT`; for neighbours 10,000 higher.
const README_PORTS: u16 = 12_138;
const MARK: &str = "@@ the command is done @@";

struct Block {
    line: usize,
    /// The word behind the fence; none where it is indented.
    kind: Option<String>,
    lines: Vec<String>,
}

/// What runs a block.
#[derive(PartialEq, Eq)]
enum Part {
    /// `every_block_is_run_and_what_needs_no_herd_is_as_written`.
    Alone,
    /// `the_session_with_a_herd_is_as_written`.
    Session,
}

impl Block {
    /// None where nothing would run it.
    fn part(&self) -> Option<Part> {
        match self.kind.as_deref() {
            None | Some("toml" | "text") => Some(Part::Alone),
            Some("terminal" | "log") => Some(Part::Session),
            Some("console") if !self.lines.first()?.starts_with("$ ") => None,
            Some("console") => {
                let needs_herd = |line: &String| {
                    line.starts_with("$ ")
                        && ["| nc ", "pgrep", "_log.txt"].iter().any(|word| line.contains(word))
                };
                match self.lines.iter().any(needs_herd) {
                    true => Some(Part::Session),
                    false => Some(Part::Alone),
                }
            }
            Some(_) => None,
        }
    }

    /// The commands of a console, each with the lines that it says.
    fn commands(&self) -> Vec<(&str, Vec<String>)> {
        let mut commands: Vec<(&str, Vec<String>)> = Vec::new();
        for line in &self.lines {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, Vec::new())),
                (None, Some((_, says))) => says.push(line.clone()),
                (None, None) => panic!("a console begins with a command"),
            }
        }
        commands
    }
}

fn blocks() -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).expect("README.md");
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_fenced = false;
    let mut was_blank = true;
    for (at, line) in text.lines().enumerate() {
        let begin = |kind| Block { line: at + 1, kind, lines: Vec::new() };
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            is_fenced = !is_fenced;
            if is_fenced {
                blocks.push(begin(Some(kind.to_owned())));
            }
        } else if is_fenced {
            blocks.last_mut().expect("it has begun").lines.push(line.to_owned());
        } else if let Some(code) = line.strip_prefix("    ") {
            if was_blank {
                blocks.push(begin(None));
            }
            blocks.last_mut().expect("it has begun").lines.push(code.to_owned());
        }
        was_blank = line.is_empty();
    }
    assert!(!is_fenced, "a block has no end");
    blocks
}

pub fn every_block_is_run_and_what_needs_no_herd_is_as_written() -> Outcome {
    tool("bash")?;
    let blocks = blocks();
    for block in &blocks {
        let kind = block.kind.as_deref().unwrap_or("indented");
        assert!(block.part().is_some(), "README.md:{}: nothing runs a block of {kind}", block.line);
    }
    let indented: Vec<&Block> = of_kind(&blocks, None);
    assert_eq!(indented.len(), 1, "other commands stand in a console, with what they say");
    assert_eq!(blocks[0].line, indented[0].line, "the README begins with the two commands");
    let commands: Vec<&str> = indented[0]
        .lines
        .iter()
        .map(|line| line.split('#').next().unwrap_or_default().trim_end())
        .collect();
    assert_eq!(commands, ["cargo run --release -- --herd", "cargo test"]);

    let diagram = of_kind(&blocks, Some("text"));
    assert_eq!(diagram.len(), 1, "other text says what kind it is, and is compared");
    for ((name, _), port) in REPORT.iter().zip(README_PORTS..) {
        let server = format!("{name} {port}");
        assert!(diagram[0].lines.iter().any(|line| line.contains(&server)), "{server}");
    }

    let shell = Shell::start(Setup::report());
    for block in blocks.iter().filter(|block| block.part() == Some(Part::Alone)) {
        match block.kind.as_deref() {
            Some("toml") => {
                let text = block.lines.join("\n") + "\n";
                std::fs::write(shell.folder().join("herd.toml"), text).expect("a file");
            }
            Some("console") => shell.run(block),
            _ => {}
        }
    }
    Ok(())
}

fn of_kind<'b>(blocks: &'b [Block], kind: Option<&str>) -> Vec<&'b Block> {
    blocks.iter().filter(|block| block.kind.as_deref() == kind).collect()
}

pub fn the_session_with_a_herd_is_as_written() -> Outcome {
    tool("bash")?;
    netcat()?;
    tool("pgrep")?;
    let herd = Herd::start();
    // Of the logs that the README shows, one is of a server whose neighbour is down.
    let lonely = Setup::star(&["Hands"]);
    let server = lonely.start("Goloman");
    server.client().ask("IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997");
    for block in blocks().iter().filter(|block| block.part() == Some(Part::Session)) {
        let said: Box<dyn Fn() -> String> = match block.kind.as_deref() {
            Some("terminal") => Box::new(|| herd.said.lock().expect("no panic").clone()),
            Some("log") => Box::new(|| logs(herd.shell.folder()) + &server.log()),
            _ => {
                herd.shell.run(block);
                continue;
            }
        };
        for line in &block.lines {
            let what = format!("README.md:{}: somewhere stands {line:?}", block.line);
            wait_until(LIMIT, &what, || {
                let said = herd.shell.as_in_readme(&said());
                said.lines().any(|it| is_line(&plain(line), &plain(it)))
            });
        }
    }
    Ok(())
}

fn logs(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("the folder").flatten();
    let logs = entries.map(|entry| entry.path());
    let logs = logs.filter(|path| path.to_string_lossy().ends_with("_log.txt"));
    logs.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned())
        .collect()
}

/// The README's herd as `cargo run --release -- --herd` starts it, on our ports.
struct Herd {
    shell: Shell,
    said: Arc<Mutex<String>>,
    child: Child,
}

impl Herd {
    fn start() -> Herd {
        let setup = Setup::report();
        let folder = setup.folder.path().to_owned();
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--herd", "--config"]).arg(setup.config_file("Goloman"));
        command.current_dir(&folder).env_remove("HERD_PLACES_KEY").stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program runs");
        let said = follow(child.stderr.take().expect("stderr is piped"));
        // Other tests run herds with servers of the same names: only ours are looked for.
        let pgrep = folder.join("bin/pgrep");
        let real = Command::new("sh").args(["-c", "command -v pgrep"]).output().expect("sh runs");
        let real = String::from_utf8_lossy(&real.stdout).trim_end().to_owned();
        std::fs::create_dir(folder.join("bin")).expect("a folder");
        std::fs::write(&pgrep, format!("#!/bin/sh\nexec {real} -P {} \"$@\"\n", child.id()))
            .expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&pgrep, mode).expect("its owner");
        let herd = Herd { shell: Shell::start(setup), said, child };
        wait_until(LIMIT, "all six listen", || {
            let said = herd.said.lock().expect("the reader does not panic");
            said.matches(" listens on ").count() == REPORT.len() + 1
        });
        herd
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        send_signal(self.child.id(), Signal::TERM);
        let begin = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && begin.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        _ = self.child.kill(); // its servers notice
        _ = self.child.wait();
    }
}

/// A shell in the setup's folder. Dropped, it ends.
struct Shell {
    setup: Setup,
    child: Child,
    input: Mutex<ChildStdin>,
    output: Mutex<Receiver<String>>,
}

impl Shell {
    fn start(setup: Setup) -> Shell {
        let folder = setup.folder.path();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_herd-mio"));
        let mut path = format!("{}/bin:", folder.display());
        path += &program.parent().expect("a folder").display().to_string();
        path += &format!(":{}", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command.args(["-c", "exec bash --norc --noprofile 2>&1"]).current_dir(folder);
        command.env("PATH", path).env_remove("HERD_PLACES_KEY").env("LC_ALL", "C.UTF-8");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash runs");
        let input = child.stdin.take().expect("stdin is piped");
        let said = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (lines, output) = channel();
        std::thread::spawn(move || {
            said.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Shell { setup, child, input: Mutex::new(input), output: Mutex::new(output) }
    }

    fn folder(&self) -> &Path {
        self.setup.folder.path()
    }

    /// Runs a console's commands and compares what they say. What asks only is asked until its answer comes.
    fn run(&self, block: &Block) {
        for (command, says) in block.commands() {
            let asks_only = command.contains("WHATSAT") || command.starts_with("grep ");
            let begin = Instant::now();
            loop {
                let said = self.as_in_readme(&self.command(&self.as_here(command)));
                let (expected, got) = (plain(&says.join("\n")), plain(&said));
                if are_lines(&lines(&expected), &lines(&got)) {
                    break;
                }
                assert!(
                    asks_only && begin.elapsed() < LIMIT,
                    "README.md:{}: $ {command}\n--- as written:\n{expected}\n--- as it is:\n{got}",
                    block.line
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// What a command says, on both outputs.
    fn command(&self, command: &str) -> String {
        let mut input = self.input.lock().expect("no test panics with it");
        writeln!(input, "{command}\necho; echo '{MARK}'").expect("bash reads");
        let output = self.output.lock().expect("no test panics with it");
        let mut said = String::new();
        loop {
            let line = output.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|error| panic!("$ {command}: {error} after {said:?}"));
            if line == MARK {
                return said;
            }
            said += &format!("{line}\n");
        }
    }

    /// With our ports in place of the README's.
    fn as_here(&self, text: &str) -> String {
        self.with_ports(text, |readme, _| readme.to_string(), |_, here| here.to_string())
    }

    /// With the README's ports in place of the test's.
    fn as_in_readme(&self, text: &str) -> String {
        self.with_ports(text, |_, here| here.to_string(), |readme, _| readme.to_string())
    }

    fn with_ports(
        &self,
        text: &str,
        from: impl Fn(u16, u16) -> String,
        to: impl Fn(u16, u16) -> String,
    ) -> String {
        let ports = REPORT.iter().zip(README_PORTS..).flat_map(|((name, _), port)| {
            let clients = self.setup.clients_address(name).port();
            let peers = self.setup.peers_address(name).port();
            [(port, clients), (port + 10_000, peers)]
        });
        let pairs: Vec<(String, String)> =
            ports.map(|(readme, here)| (from(readme, here), to(readme, here))).collect();
        let number = Regex::new(r"\b\d{5}\b").expect("a pattern");
        let replaced = number.replace_all(text, |found: &Captures| {
            let pair = pairs.iter().find(|(from, _)| from == &found[0]);
            pair.map_or_else(|| found[0].to_owned(), |(_, to)| to.clone())
        });
        replaced.into_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Without what differs from run to run: times, and ports that the kernel has chosen (the README's own are below 23,000).
fn plain(text: &str) -> String {
    let time = Regex::new(r"\b\d\d-[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d\b").expect("a pattern");
    let port = Regex::new(r"\b127\.0\.0\.1:(2[3-9]|[3-6]\d)\d{3}\b").expect("a pattern");
    let text = time.replace_all(text, "TIME").into_owned();
    port.replace_all(&text, "127.0.0.1:PORT").into_owned()
}

/// Without blank lines at the end.
fn lines(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

/// Whether the lines are as written. `…` alone on a line stands for any lines.
fn are_lines(written: &[&str], said: &[&str]) -> bool {
    match written {
        [] => said.is_empty(),
        [first, rest @ ..] if first.trim() == "…" => {
            (0..=said.len()).any(|left_out| are_lines(rest, &said[left_out..]))
        }
        [first, rest @ ..] => said
            .split_first()
            .is_some_and(|(line, said)| is_line(first, line) && are_lines(rest, said)),
    }
}

fn is_line(written: &str, said: &str) -> bool {
    let pattern: Vec<String> = written.split('…').map(regex::escape).collect();
    let pattern = format!("^{}$", pattern.join(".*"));
    Regex::new(&pattern).expect("a pattern").is_match(said)
}
