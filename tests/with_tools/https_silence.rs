//! An address of a Places service that falls silent costs no query that another address could answer.

use std::os::unix::fs::PermissionsExt;

use crate::common::Setup;
use crate::common::names::{Mute, Names};
use crate::common::needs::Outcome;
use crate::common::service::{Act, Identity, Seen, Service, with_head};

const BODY: &str = "{\"results\" : [ 1, 2 ], \"status\" : \"OK\"}";
const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.5";

pub fn an_address_that_never_finishes_tls_is_asked_first_once_and_not_for_each_query() -> Outcome {
    let setup = Setup::alone().any_port().section("[places]\ntimeout = \"10s\"");
    // The resolver sorts the first address before the other.
    let names = Names::new(&setup, "127.0.0.1 localhost\n127.0.0.2 localhost\n")?;
    // Each query needs a connection of its own.
    let head = format!("200 OK\r\nConnection: close\r\nContent-Length: {}", BODY.len());
    let script = move |_: &Seen| vec![Act::Send(with_head(&head, BODY))];
    let service = Service::start_at("127.0.0.2", Identity::Good, script);
    let silent = Mute::listen(([127, 0, 0, 1], service.port).into());
    let key = setup.folder.path().join("key");
    std::fs::write(&key, "sesame\n").expect("the temporary folder can be written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&key, mode).expect("its owner");
    let more = [service.arguments(), vec![format!("--places-key-file={}", key.display())]].concat();
    let server = names.start_with(&setup, "Goloman", &more);
    let mut client = server.client();
    client.ask(IAMAT);
    for radius in ["1", "2", "3", "4"] {
        let answer = client.whatsat("kiwi", radius, "5");
        assert_eq!(answer.status(), "OK", "{}", answer.body);
    }
    assert_eq!(service.requests().len(), 4);
    assert_eq!(silent.callers(), 1, "connections with the silent address");
    Ok(())
}
