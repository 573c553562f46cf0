//! What clients say.

use herd_mio::protocol::{ClientRequest, Dialect, RequestError};

use crate::oracle::Fact;
use crate::world::{World, Wrong, name};

impl World<'_> {
    /// One more update, once all is well.
    pub fn tell_at_last(&mut self) -> Result<(), Wrong> {
        let server = self.random.below(self.servers.len());
        let wall = self.moment(server).wall.0;
        let text = format!("fresh +1-2 {}", wall / 1_000_000_000);
        self.tell(server, &text)?;
        // (A full table may have no place even for this one.)
        let known = self.servers[server].shadow.table.get(&b"fresh"[..]);
        self.fresh = known.map(|(fact, _)| (b"fresh".to_vec(), fact.clone()));
        self.settle(server)
    }

    /// A client says where it is.
    pub fn tell(&mut self, number: usize, text: &str) -> Result<(), Wrong> {
        let moment = self.moment(number);
        let server = &mut self.servers[number];
        if server.is_down {
            return Ok(());
        }
        let line = format!("IAMAT {text}");
        let Ok(ClientRequest::Iamat(iamat)) =
            ClientRequest::parse(line.as_bytes(), Dialect::Report)
        else {
            return Err(format!("{line} is no IAMAT"));
        };
        let fact = Fact::by_client(text, &name(number), moment.wall.0);
        let is_refused = fact.is_ahead_by_more_than(self.schedule.ahead);
        server.shadow.source = None;
        let mut answer = Vec::new();
        let result = server.herd.handle_iamat(&iamat, moment, &mut answer, &mut server.shadow);
        let is_right = match result {
            Ok(()) => !is_refused && answer == format!("AT AT {text}\n").as_bytes(),
            Err(refused) => is_refused && refused == RequestError::Future && answer.is_empty(),
        };
        if !is_right {
            return Err(format!("{line} is answered {result:?} {}", answer.escape_ascii()));
        }
        let (id, shadow) = (iamat.id, &server.shadow);
        if !is_refused && !shadow.knows(id, &fact) && !shadow.has_no_place_for(id, &fact) {
            return Err(format!("{line} is answered and not stored"));
        }
        if !is_refused {
            self.facts.entry(iamat.id.to_vec()).or_default().push(fact.clone());
            self.answer(number, iamat.id, fact, &answer)?;
        }
        Ok(())
    }
}
