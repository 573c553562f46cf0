//! Command line in, exit status out.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the modes, and the messages at their end |
//! | `options.rs` | the table of options |
//! | `args.rs`, `args_error.rs` | their values on the command line |
//! | `help.rs`, `completion/` | what is made of the table: `--help`, and completion in shells |
//! | `make_certificates.rs` | `--make-certificates`: certificates for a herd without a PKI |
//! | `dump.rs` | `--dump-state` and `--load-state`: a server's database as lines |
//! | `probe.rs` | `--probe`: asks a server how it is |
//! | `supervisor/` | `--herd`: every server a process of its own |
//! | `demo.rs` | the Places server that `--herd` runs beside a herd that names no other service |

pub mod args;
pub mod args_error;
pub mod completion;
mod demo;
mod dump;
mod help;
mod make_certificates;
pub mod options;
mod probe;
mod supervisor;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{AdminAddresses, Config, ConfigError, PLACES_SERVICE, View, diff};
use crate::errors::{did_you_mean, listed, plain, without_keys};
use crate::files::Stamps;
use crate::limits::LOG_FLUSH_WAIT_HURRIED;
use crate::logging::{self, Log, stderr, target};
use crate::node::{self, RunError, Sockets, Source, process};
use crate::protocol::is_server_name;
use crate::tls::{ServerTls, certificates};
use args::{Args, Mode};
use demo::{LOG_SETTINGS, PLACES_CERTIFICATE, TEMPORARY, with_remedy};
use supervisor::{ADMIN_OF_HERD, CONFIG_TEXT, HERD_WIDE, HerdError, ReadOnce, Start};

/// The program: from the process's arguments to its exit status.
pub fn main() -> ExitCode {
    let sockets = Sockets::take();
    process::begin();
    stderr::catch_panics();
    let status = run(sockets);
    stderr::finish();
    status
}

/// `sockets` were passed on by a service manager, or are unusable.
fn run(sockets: Result<Sockets, String>) -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut args = match Args::parse(words.clone()) {
        Ok(args) => args,
        Err(error) => return usage_error(&error.to_string()),
    };
    match &args.mode {
        Mode::Help => return print(&help::help()),
        Mode::Version => return print(&version()),
        Mode::Completion(shell) => return print(&completion::script(*shell)),
        Mode::MakeCertificates(folder) => return make_certificates::run(&args, folder),
        Mode::Probe(url) => return probe::run(url, args.probe_ca.as_deref()),
        _ => {}
    }
    // In every mode, even if it writes no log: a command line that `--check` accepts must run.
    if let Err(error) = check_log_dir(&args.log_dir) {
        let (folder, reason) = (args.log_dir.display(), plain(&error));
        return usage_error(&format!(
            "cannot write logs to the folder {folder}: {reason}; create it, or choose another one \
             with --log-dir"
        ));
    }
    let sockets = match sockets_for(&args.mode, sockets) {
        Ok(sockets) => sockets,
        Err(error) => return usage_error(&error),
    };
    if let Mode::Server(name) = &args.mode {
        args.overrides.passed = sockets.addresses(name);
    }
    let mut read_once = ReadOnce::default();
    if args.mode == Mode::Herd {
        read_once = ReadOnce::replace(&mut words);
        if let Ok(replaced) = Args::parse(words.clone()) {
            args = replaced;
        }
    }
    know_admin_of_herd(&mut args);
    let files = files_of(&args);
    let stamps = Stamps::of(&files);
    let Loaded { text, mut config, waits } = match load(&args) {
        Ok(loaded) => loaded,
        Err(error) => {
            record(&args, &error);
            return usage_error(&read_once.as_typed(error.to_string()));
        }
    };
    if let Mode::Check(old) = &args.mode {
        return print_checked(&args, old.as_deref(), &config);
    }
    match &args.mode {
        Mode::DumpState(name) | Mode::LoadState(name) => dump::run(&args, &config, name),
        Mode::Server(name) => serve(&args, &config, name, sockets, waits),
        Mode::PlacesServer(address) => {
            if let Ok(log) = std::env::var(LOG_SETTINGS) {
                config.take_log(&log);
            }
            serve_places(&args, &config, *address)
        }
        _ => {
            // The servers read them from now on.
            let certificates = config.all_tls_files();
            let stamps = stamps.and(Stamps::of(&certificates));
            let text = text.as_deref();
            let (config, read_once) = (&config, &read_once);
            run_herd(&args, Start { config, text, read_once, files, stamps }, words)
        }
    }
}

/// The sockets that are for a mode: only a server takes some.
fn sockets_for(mode: &Mode, passed: Result<Sockets, String>) -> Result<Sockets, String> {
    match (mode, passed) {
        (Mode::Server(_), passed) => passed,
        (Mode::Herd, Ok(passed)) if passed.is_empty() => Ok(passed),
        (Mode::Herd, _) => Err(SOCKETS_FOR_HERD.to_owned()),
        _ => Ok(Sockets::default()),
    }
}

/// The version, the commit if it is known, and the protocol between servers.
fn version() -> String {
    let commit = option_env!("HERD_MIO_COMMIT").map_or_else(String::new, |it| format!(" ({it})"));
    format!("herd-mio {}{commit}, protocol herd/1 between servers\n", env!("CARGO_PKG_VERSION"))
}

/// The files that the configuration of a herd is in.
fn files_of(args: &Args) -> Vec<PathBuf> {
    let places = [&args.overrides.places_ca, &args.overrides.places_key_file];
    args.config.iter().chain(places.into_iter().flatten()).cloned().collect()
}

/// A configuration that was read.
struct Loaded {
    /// Of its file, if there is one.
    text: Option<String>,
    config: Config,
    /// The file has other settings of the whole herd, which wait for a restart of it.
    waits: bool,
}

/// Reads the configuration. A process that a supervisor has started gets the text from there: it may be restarted while
/// the file is being edited.
fn load(args: &Args) -> Result<Loaded, ConfigError> {
    let runs_all = matches!(args.mode, Mode::Herd | Mode::Check(_));
    let Some(path) = &args.config else {
        let config = Config::load(None, &args.overrides, runs_all)?;
        return Ok(Loaded { text: None, config, waits: false });
    };
    let text = match of_supervisor(CONFIG_TEXT) {
        Some(in_force) => Config::read(Path::new(&in_force))?,
        None => Config::read(path)?,
    };
    let mut config = Config::from_text(&text, path, &args.overrides, runs_all)?;
    let mut waits = false;
    if let Some(herd_wide) = of_supervisor(HERD_WIDE) {
        let read = config.herd_wide_text();
        config.take_herd_wide(&herd_wide.to_string_lossy());
        waits = config.herd_wide_text() != read;
    }
    Ok(Loaded { text: Some(text), config, waits })
}

/// A variable of the environment that a supervisor has set for this process.
fn of_supervisor(name: &str) -> Option<OsString> {
    std::env::var_os(node::LIFELINE).and_then(|_| std::env::var_os(name))
}

/// Adds the admin addresses of the other servers to that of a server that a supervisor has started.
fn know_admin_of_herd(args: &mut Args) {
    let of_herd = of_supervisor(ADMIN_OF_HERD);
    let of_herd = of_herd.and_then(|text| AdminAddresses::handed_on(text.to_str()?));
    if let Some(AdminAddresses::Of(own)) = &mut args.overrides.admin
        && let Some(AdminAddresses::Of(mut all)) = of_herd
    {
        all.append(own);
        *own = all;
    }
}

/// Checks the certificates, too, and prints the configuration, or what changes from the one in the file `old`.
fn print_checked(args: &Args, old: Option<&Path>, config: &Config) -> ExitCode {
    let notes = match node::check_certificates(config) {
        Ok(notes) => notes,
        Err(error) => return usage_error(&error.to_string()),
    };
    match old {
        Some(old) => print_changes(args, old, config),
        None => {
            let notes = notes.iter().map(|note| format!("# note: {note}\n"));
            let of_engine = config.engine_notes();
            let of_engine = of_engine.iter().map(|note| format!("# {note}\n"));
            print(&(config.summary() + &notes.chain(of_engine).collect::<String>()))
        }
    }
}

/// Prints what changes from the configuration in the file `old`. The command line overrides both.
fn print_changes(args: &Args, old: &Path, new: &Config) -> ExitCode {
    let old = match Config::load(Some(old), &args.overrides, false) {
        Ok(old) => old,
        Err(error) => return usage_error(&error.to_string().replace("(--config)", "(--diff)")),
    };
    let changes = diff(&old, new, View::Herd);
    match changes.is_empty() {
        true => print("no changes\n"),
        false => print(&changes.iter().map(|change| format!("{change}\n")).collect::<String>()),
    }
}

/// Records in a server's log why it does not start.
fn record(args: &Args, error: &ConfigError) {
    let name = match (&args.mode, error) {
        (Mode::Server(name), _) if may_have_log(name) => name,
        // Both would write to this log.
        (Mode::Herd, ConfigError::NameTaken { .. }) => PLACES_SERVICE,
        _ => return,
    };
    // If there is no log, standard error is enough.
    let mut settings = logging::LogSettings::default();
    args.overrides.log_level.apply(&mut settings.levels);
    if let Ok(log) = logging::start(&args.log_dir, name, &settings) {
        for line in without_keys(&error.to_string()).lines() {
            // Not limited: the number of mistakes in one message is bounded.
            log::error!(target: target::CONFIG, event = "config_error"; "{line}.");
        }
        log.finish();
    }
}

fn serve(args: &Args, config: &Config, name: &str, sockets: Sockets, waits: bool) -> ExitCode {
    let Some(server) = config.server(name) else {
        // Not recorded: a mistyped name must not create a log.
        return usage_error(&unknown(name, config));
    };
    let engine = config.engine_of(&config.servers[server]).map(|engine| engine.check_files());
    let of_engine = match engine.transpose() {
        Ok(warnings) => warnings.unwrap_or_default(),
        Err(error) => {
            record(args, &error);
            return usage_error(&error.to_string());
        }
    };
    let log = match logging::start(&args.log_dir, name, &config.log) {
        Ok(log) => log,
        Err(error) => return runtime_error(&error.to_string()),
    };
    warn(config, &of_engine);
    let source = Source { path: args.config.clone(), overrides: args.overrides.clone(), waits };
    end(name, node::run(config, server, source, sockets, log.clone()), &log)
}

/// Whether a log may have this name: a valid name of a server, and not a key that was typed in its
/// place.
fn may_have_log(name: &str) -> bool {
    is_server_name(name.as_bytes()) && !name.starts_with('-') && without_keys(name) == name
}

/// It does not list the folder, because a folder that can be written to may be unreadable.
fn check_log_dir(folder: &Path) -> io::Result<()> {
    match std::fs::metadata(folder)?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// Runs a Places server until a signal stops it.
fn serve_places(args: &Args, config: &Config, address: SocketAddr) -> ExitCode {
    let folder = args.tls_dir.as_deref().unwrap_or(Path::new("."));
    let tls = match certificates::keep(folder, PLACES_CERTIFICATE) {
        Ok(identity) => ServerTls::new(&identity.certificate, &identity.key, None, &["http/1.1"]),
        Err(error) => return runtime_error(&with_remedy(&error)),
    };
    let tls = match tls {
        Ok(tls) => tls,
        Err(error) => {
            let folder = folder.display();
            return runtime_error(&format!("the certificate in {folder} is unusable: {error}"));
        }
    };
    let log = match logging::start(&args.log_dir, PLACES_SERVICE, &config.log) {
        Ok(log) => log,
        Err(error) => return runtime_error(&error.to_string()),
    };
    warn(config, &[]);
    let result = node::run_places(config, address, tls, log.clone());
    let is_temporary = std::env::var_os(TEMPORARY).is_some_and(|temporary| temporary == *folder);
    if is_temporary && result.is_ok() && node::lifeline_has_ended() {
        // The supervisor also removes it, unless the supervisor was killed.
        let _ = std::fs::remove_dir_all(folder);
    }
    end(PLACES_SERVICE, result, &log)
}

/// Reports how the server ended, in the log and by the exit status.
fn end(name: &str, result: Result<(), RunError>, log: &Log) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not limited: a server ends only once.
            log::error!(target: target::LOOP, event = "failed", reason:% = error; "{name} {error}.");
            match error {
                RunError::Hurried => log.finish_within(LOG_FLUSH_WAIT_HURRIED),
                _ => log.finish(),
            }
            let text = format!("{name} {error}");
            if error.is_of_configuration() { usage_error(&text) } else { runtime_error(&text) }
        }
    }
}

fn run_herd(args: &Args, start: Start<'_>, mut words: Vec<OsString>) -> ExitCode {
    for warning in &start.config.places.warnings {
        print_error(&format!("warning: {warning}"));
    }
    words.retain(|word| word != "--herd");
    match supervisor::run(args, start, words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ HerdError::StartFailed { status, .. }) => {
            print_error(&error.to_string());
            ExitCode::from(status)
        }
        Err(error) => runtime_error(&error.to_string()),
    }
}

/// Writes the warnings to the log, too.
fn warn(config: &Config, of_engine: &[String]) {
    for warning in config.places.warnings.iter().chain(of_engine) {
        // Not limited: once, at the start.
        log::warn!(target: target::CONFIG, event = "config_warning"; "{warning}");
    }
    for warning in &config.passed_warnings {
        // Not limited: once, at the start.
        log::warn!(target: target::CONFIG, event = "socket_differs"; "{warning}");
    }
}

fn unknown(name: &str, config: &Config) -> String {
    let meant = did_you_mean(name, config.names());
    format!("no server named {name:?}{meant} (servers: {})", listed(&config.names()))
}

/// Reports an invalid command line or configuration.
fn usage_error(text: &str) -> ExitCode {
    print_error(text);
    ExitCode::from(2)
}

/// Reports a failure at run time.
fn runtime_error(text: &str) -> ExitCode {
    print_error(text);
    ExitCode::from(1)
}

fn print_error(text: &str) {
    stderr::print_line(&format!("herd-mio: {}", without_keys(text)));
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as `head` does.
        Err(_) => ExitCode::from(1),
    }
}

const SOCKETS_FOR_HERD: &str = "--herd takes no sockets of a service manager (LISTEN_FDS): run each server as a service of \
                                its own, with --server";
