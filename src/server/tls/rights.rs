//! For which ids a client may speak: those that its certificate names, where the configuration wants that (`ids` and
//! `queries` of `[tls.clients]`). Other lines are refused, and the connection stays.

use super::{Shown, TlsRules};
use crate::application::{Io, Next, Opened};
use crate::config::Who;
use crate::logging::Escaped;
use crate::logging::rate_limit::Kind;
use crate::protocol::write_refusal;
use crate::server::client::Client;
use crate::server::metrics::{LineCommand, LineResult};
use crate::server::{Server, records};
use crate::tls::ClientNames;

/// A client's certificate, and what it may do with it.
#[derive(Debug)]
pub(in crate::server) struct Rights {
    pub(in crate::server) shown: Shown,
    names: ClientNames,
}

impl Rights {
    /// None if a connection has shown no certificate.
    pub(in crate::server) fn of(opened: &Opened<'_>) -> Option<Rights> {
        let shown = Shown::of(opened)?;
        let names = ClientNames::of(shown.names());
        Some(Rights { shown, names })
    }

    /// Bytes of memory that it takes.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        let ids = self.names.ids.iter().map(|id| id.capacity() + size_of::<Vec<u8>>());
        ids.sum::<usize>() + self.shown.held_bytes()
    }
}

impl TlsRules {
    fn of_command(&self, command: LineCommand) -> Who {
        match command {
            LineCommand::Iamat => self.ids,
            LineCommand::Whatsat => self.queries,
            LineCommand::Other => Who::Any,
        }
    }

    /// Whether lines with this command are judged by the ids that certificates name.
    pub(in crate::server) fn judges_lines(&self, command: LineCommand) -> bool {
        self.of_command(command) == Who::Certificate
    }
}

impl Server {
    /// Whether a client may say this command for this id. It is asked only where lines are looked at
    /// ([`Server::looks_at_lines`]), so that all others pay nothing for it.
    pub(in crate::server) fn permits_id(
        &self,
        client: &mut Client,
        command: LineCommand,
        id: &[u8],
    ) -> bool {
        let is_permitted = match self.tls.rules.of_command(command) {
            Who::Any => true,
            Who::Certificate => {
                client.rights().is_some_and(|rights| rights.names.may_speak_for(id))
            }
        };
        if is_permitted && self.shows_ids {
            client.keep_id(id);
        }
        is_permitted
    }

    /// Answers a line for an id that the client's certificate does not name.
    #[cold]
    pub(in crate::server) fn refuse_id(
        &self,
        client: &Client,
        command: LineCommand,
        id: &[u8],
        line: &[u8],
        io: &mut Io<'_>,
    ) -> Next {
        let id = Escaped(id);
        match client.rights() {
            Some(Rights { names, .. }) => {
                let reason = format_args!("the certificate names {}, not {id}", Ids(names));
                records::refused(Kind::ClientLineRefused, io.peer, reason);
            }
            None => {
                let reason = format_args!("there is no certificate that names {id}");
                records::refused(Kind::ClientLineRefused, io.peer, reason);
            }
        }
        write_refusal(line, io.out);
        self.metrics.count_line(command, LineResult::NotPermitted);
        Next::Read
    }
}

/// The ids of a certificate, for the log.
struct Ids<'a>(&'a ClientNames);

impl std::fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids = &self.0.ids;
        for (place, id) in ids.iter().take(IDS_SHOWN).enumerate() {
            write!(f, "{}{}", if place > 0 { ", " } else { "" }, Escaped(id))?;
        }
        match ids.len() {
            0 => f.write_str("no client"),
            count if count > IDS_SHOWN => write!(f, " and {} more", count - IDS_SHOWN),
            _ => Ok(()),
        }
    }
}

/// Ids in a record. A certificate may have thousands; each has at most 256 bytes.
const IDS_SHOWN: usize = 4;
