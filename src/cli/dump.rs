//! `--dump-state` and `--load-state`: what a server's database holds as lines, for backups and for moving.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use super::args::{Args, Mode};
use super::{print_error, runtime_error, unknown, usage_error};
use crate::config::Config;
use crate::errors::plain;
use crate::node::{self, RunError};

/// Prints the database of a server, or adds to it.
pub(super) fn run(args: &Args, config: &Config, name: &str) -> ExitCode {
    let Some(server) = config.server(name) else {
        return usage_error(&unknown(name, config));
    };
    let result = match args.mode {
        Mode::LoadState(_) => load(config, server, name),
        _ => dump(config, server, name),
    };
    result.unwrap_or_else(|error| {
        let text = format!("{name} {error}");
        if error.is_of_configuration() { usage_error(&text) } else { runtime_error(&text) }
    })
}

/// Prints to standard output, and to standard error what was left out.
fn dump(config: &Config, server: usize, name: &str) -> Result<ExitCode, RunError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = node::dump_state(config, server, &mut out)?;
    match written.and_then(|restored| out.flush().map(|()| restored)) {
        Ok(restored) if restored.unreadable > 0 => {
            let unreadable = restored.unreadable;
            print_error(&format!("{name}: left out {unreadable} entries that are no updates"));
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Ok(ExitCode::SUCCESS),
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::from(1)),
        Err(error) => {
            Ok(runtime_error(&format!("{name}: the dump can't be written: {}", plain(&error))))
        }
    }
}

/// Reads standard input.
fn load(config: &Config, server: usize, name: &str) -> Result<ExitCode, RunError> {
    let loaded = node::load_state(config, server, &mut io::stdin().lock())?;
    let text = format!(
        "{name}: loaded {} updates; {} were not newer than those that were there, {} at or below the floor\n",
        loaded.updates, loaded.not_newer, loaded.below_floor
    );
    Ok(super::print(&text))
}
