//! A new configuration is put in force: as a whole, or not at all.

use super::child::Process;
use super::error::HerdError;
use super::lifeline::{frame_of, frame_of_refusal};
use super::reload::Fresh;
use super::{OWN_DESCRIPTORS, Supervisor, ports};
use crate::config::{AdminAddresses, Change, Config, Effect, View, diff};
use crate::errors::{plain, without_keys};
use crate::limits::CHANGES_PRINTED;
use crate::logging::stderr::print_line;
use crate::node::process;

impl Supervisor {
    /// Reopens the logs, and reads the configuration again.
    pub(super) fn reload(&mut self) {
        // Also if the file is broken: a log that was rotated must be reopened all the same.
        self.reopen_logs();
        if let Err(reason) = self.reader.request() {
            self.refuse(&reason);
        }
    }

    /// The file was read: puts it in force, or says why not.
    pub(super) fn reloaded(&mut self, read: Result<Box<Fresh>, String>) {
        let Fresh { text, config: mut new } = match read {
            Ok(fresh) => *fresh,
            Err(reason) => return self.refuse(&reason),
        };
        if let Some(AdminAddresses::From(first)) = &self.args.overrides.admin
            && let Err(error) = new.keep_admin(*first, &self.config)
        {
            return self.refuse(&error.to_string());
        }
        if let Err(error) = ports::try_new(&self.config, &new, &self.servers) {
            return self.refuse(&self.with_holder(error));
        }
        // The last step that can fail.
        if let Err(error) = self.program.keep_config(&text) {
            return self.refuse(&format!("cannot keep its text: {}", plain(&error)));
        }
        let changes = diff(&self.config, &new, View::Herd);
        let is_demo = |config: &Config| config.needs_places_service(&self.args.overrides);
        let moves_places = is_demo(&self.config) != is_demo(&new);
        let in_force = self.config.reloaded(&new, View::Herd);
        self.replace_servers(&in_force);
        self.config = in_force;
        self.newest = new;
        self.use_settings();
        let frame = frame_of(&text, &self.program.admin);
        self.servers.iter_mut().for_each(|server| server.reload(&frame));
        self.text = text;
        report(&changes, &self.config);
        if moves_places {
            print_line(
                "only after a restart of the whole herd: its own Places server is started or stopped",
            );
        }
    }

    /// Nothing changes. Each server records why, and shows it in its metrics.
    fn refuse(&mut self, reason: &str) {
        let reason = without_keys(reason);
        print_line(&format!("configuration not reloaded: {reason}"));
        let frame = frame_of_refusal(&reason, &self.text, &self.program.admin);
        self.servers.iter_mut().for_each(|server| server.reload(&frame));
    }

    /// Settings of the configuration in force that are the supervisor's own.
    pub(super) fn use_settings(&mut self) {
        if let Some(places) = &mut self.places {
            places.use_log_of(&self.config);
            self.program.variables = places.variables();
        }
        if self.args.overrides.admin.is_some() {
            self.program.admin = self.config.admin_text().unwrap_or_default();
        }
        self.reader.look_every(self.config.reload.watch);
        // Each server's lifeline takes one descriptor.
        process::raise_descriptors(self.servers.len() as u64 + OWN_DESCRIPTORS);
    }

    /// Stops servers that are gone, and prepares the start of new ones.
    fn replace_servers(&mut self, new: &Config) {
        for server in self.servers.iter_mut().filter(|server| server.is_named()) {
            match new.server(&server.name) {
                Some(place) => server.ports = ports::of(&new.servers[place]),
                None => server.remove(),
            }
        }
        self.servers.retain(|server| !server.is_gone());
        let is_new = |name: &str| self.config.server(name).is_none();
        let added = new.servers.iter().filter(|server| is_new(&server.name));
        let added: Vec<Process> = added.map(|server| self.server(server).added()).collect();
        self.servers.extend(added);
    }

    /// The message, and which server of the herd has the port, if one has.
    fn with_holder(&self, error: HerdError) -> String {
        let text = error.to_string();
        let HerdError::Port { server, address, .. } = error else {
            return text;
        };
        let has_port = |process: &&Process| {
            process.name != server && process.ports.iter().any(|own| own.port() == address.port())
        };
        match self.servers.iter().find(has_port) {
            Some(holder) => {
                let name = &holder.name;
                format!("{text} ({name} has it: move {name} first, with a reload of its own)")
            }
            None => text,
        }
    }
}

/// Prints what a reload has changed, and what a restart would change.
fn report(changes: &[Change], in_force: &Config) {
    let of = |effect: Effect| changes.iter().filter(move |change| change.effect == effect);
    let now: Vec<&str> = of(Effect::Reload).map(|change| change.text.as_str()).collect();
    print_line(&format!("configuration reloaded: {}", some_of(&now)));
    if !in_force.all_tls_files().is_empty() {
        // Which of them have changed is known only where they are used.
        print_line(
            "certificates were read again; the log of each server names those that have changed",
        );
    }
    for (effect, after) in [
        (Effect::Restart, "a restart of the server"),
        (Effect::WholeHerd, "a restart of the whole herd"),
    ] {
        let later: Vec<&str> = of(effect).map(|change| change.text.as_str()).collect();
        if !later.is_empty() {
            print_line(&format!("only after {after}: {}", some_of(&later)));
        }
    }
}

/// As many changes as a line can have.
fn some_of(changes: &[&str]) -> String {
    let shown = changes[..changes.len().min(CHANGES_PRINTED)].join(", ");
    match changes.len() - changes.len().min(CHANGES_PRINTED) {
        0 if changes.is_empty() => "no changes".to_owned(),
        0 => shown,
        more => format!("{shown}, and {more} more (--check --diff shows them)"),
    }
}
