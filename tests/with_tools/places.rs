//! The Places service is reached by the address that answers, whatever the others do.

use crate::common::Setup;
use crate::common::names::{LocalNames, Mute, own_loopback};
use crate::common::needs::Outcome;
use crate::common::service::{Act, Identity, Service, with_head};

const BODY: &str = "{\"results\" : [ 1, 2 ], \"status\" : \"OK\"}";

pub fn an_address_that_never_finishes_tls_is_asked_first_once_and_not_for_each_query() -> Outcome {
    let setup = Setup::alone().any_port().section("[places]\ntimeout = \"10s\"");
    let lines = [200, 201].map(|last| format!("{} localhost\n", own_loopback(last)));
    let names = LocalNames::new(&setup, &lines.concat())?;
    let order = names.order("localhost");
    assert_eq!(order.len(), 2, "{order:?}");
    // Each query needs a connection of its own.
    let head = format!("200 OK\r\nConnection: close\r\nContent-Length: {}", BODY.len());
    let script = move |_: &_| vec![Act::Send(with_head(&head, BODY))];
    let service = Service::start_at(&order[1].to_string(), Identity::Good, script);
    let mute = Mute::listen((order[0], service.port).into());
    let server = names.start_with(&setup, "Goloman", &service.arguments());
    let mut client = server.client();
    client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.5");
    for (radius, connections) in [("1", 1), ("2", 0), ("3", 0), ("4", 0)] {
        let answer = client.whatsat("kiwi", radius, "5");
        assert_eq!(answer.status(), "OK", "{}", answer.body);
        assert_eq!(mute.connections(), connections, "connections with the silent address");
    }
    assert_eq!(service.requests().len(), 4);
    Ok(())
}
