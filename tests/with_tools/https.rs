//! curl, Python and OpenSSL understand the HTTPS of this program's own Places service, and it understands OpenSSL's.

use std::process::Stdio;

use crate::common::needs::{Outcome, tool};
use crate::common::places_server::{KEY, PlacesServer, text};
use crate::common::process::Running;
use crate::common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const AROUND: &str = "location=34.068930,-118.445127&radius=16093";

pub fn curl_is_answered_in_both_apis() -> Outcome {
    let service = PlacesServer::start();
    let mut curl = tool("curl")?;
    let ca = service.folder.path().join("ca.pem");
    let search = service.url(&format!("/maps/api/place/nearbysearch/json?{AROUND}&key={KEY}"));
    curl.args(["-sS", "--max-time", "20", "--cacert"]).arg(&ca);
    // Twice on one connection, and once without the key.
    curl.args([&search, &search, &search.replace(KEY, "open")]);
    let output = curl.output().expect("curl runs");
    assert_eq!(text(&output.stderr), "");
    let said = text(&output.stdout);
    assert_eq!(said.matches("\"status\" : \"OK\"").count(), 2, "{said}");
    assert_eq!(said.matches("\"status\" : \"REQUEST_DENIED\"").count(), 1, "{said}");
    assert!(said.contains("Bel Air"), "{said}");
    // The log's thread may write after curl has ended; each request is recorded behind its connection.
    let recorded = |what: &str| service.log().matches(what).count();
    wait_until(LIMIT, "all three are in the log", || recorded("Sent to ") == 3);
    assert_eq!(recorded("is connected"), 1, "curl keeps its connection");

    let mut curl = tool("curl")?;
    curl.args(["-sS", "--max-time", "20", "--cacert"]).arg(&ca);
    curl.arg(service.url("/v1/places:searchNearby"));
    curl.args(["-H", "X-Goog-Api-Key: sesame", "-H", "Content-Type: application/json", "-d"]);
    curl.arg(
        "{\"maxResultCount\":2,\"locationRestriction\":{\"circle\":{\"center\":\
         {\"latitude\":34.06893,\"longitude\":-118.445127},\"radius\":16093.0}}}",
    );
    let said = text(&curl.output().expect("curl runs").stdout);
    let body: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let places = body["places"].as_array().expect("places");
    assert_eq!(places.len(), 2);
    assert_eq!(places[0]["displayName"]["text"], "Bel Air");
    wait_until(LIMIT, "the fourth is in the log", || recorded("Sent to ") == 4);
    assert!(!service.log().contains(KEY), "the key is in the log");
    Ok(())
}

pub fn python_is_answered() -> Outcome {
    let service = PlacesServer::start();
    let mut python = tool("python3")?;
    let script = "import ssl, sys, http.client\n\
        context = ssl.create_default_context(cafile=sys.argv[2])\n\
        service = http.client.HTTPSConnection('localhost', int(sys.argv[1]), timeout=20, context=context)\n\
        for _ in range(2):\n\
        \x20   service.request('GET', sys.argv[3])\n\
        \x20   answer = service.getresponse()\n\
        \x20   print(answer.status, len(answer.read()) > 500)\n";
    python.args(["-c", script, &service.port.to_string()]);
    python.arg(service.folder.path().join("ca.pem"));
    python.arg(format!("/maps/api/place/nearbysearch/json?{AROUND}&key={KEY}"));
    let output = python.output().expect("python3 runs");
    assert_eq!(text(&output.stdout), "200 True\n200 True\n", "{}", text(&output.stderr));
    Ok(())
}

pub fn requests_in_one_segment_are_answered_in_order_and_nonsense_is_refused() -> Outcome {
    let service = PlacesServer::start();
    let request =
        |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let search = format!("/maps/api/place/nearbysearch/json?{AROUND}&key={KEY}");
    let mut all = request(&search, "").repeat(40);
    all += &request("/elsewhere", "Connection: close\r\n");
    let said = service.openssl(&all)?;
    let statuses: Vec<&str> = said.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    assert_eq!(statuses.len(), 41, "{said}");
    assert!(statuses[..40].iter().all(|status| status.contains(" 200 ")), "{statuses:?}");
    assert!(statuses[40].contains(" 404 "), "{}", statuses[40]);

    let nonsense = service.openssl("this is no HTTP\r\n\r\n")?;
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    let smuggled = "POST /v1/places:searchNearby HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET";
    let smuggled = service.openssl(smuggled)?;
    assert!(smuggled.starts_with("HTTP/1.1 400 "), "{smuggled}");
    Ok(())
}

pub fn a_connection_without_tls_is_closed_and_costs_nobody_anything() -> Outcome {
    let service = PlacesServer::start();
    let address = ([127, 0, 0, 1], service.port).into();
    let mut plain = Client::connect(address);
    plain.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    plain.rest(); // An alert, and the end.
    let words = "what came is no TLS; does the other side use another protocol";
    wait_until(LIMIT, words, || service.log().contains(words));
    let mut silent = Client::connect(address);
    silent.half_close();
    silent.rest();
    let request = "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let said = service.openssl(request)?;
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    Ok(())
}

pub fn openssls_server_is_understood() -> Outcome {
    let service = PlacesServer::start(); // For its certificate.
    let folder = service.folder.path();
    let mut openssl = tool("openssl")?;
    let body = "{\n\n\"results\" : [ 1.50, 2 ], \"status\" : \"OK\" }\n";
    let name = "places?location=34.068930,-118.445127&radius=1609&key=sesame";
    std::fs::write(folder.join(name), body).expect("a file");
    let port = crate::common::ports::reserve();
    openssl.current_dir(folder).args(["s_server", "-WWW", "-accept", &port.number.to_string()]);
    openssl.args(["-cert", "places.pem", "-key", "places-key.pem"]);
    let openssl = openssl.stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(openssl.spawn().expect("it runs"));
    wait_until(LIMIT, "OpenSSL listens", || Client::try_connect(port.address()).is_ok());

    let setup = Setup::alone().any_port();
    let mut command = setup.command("Goloman");
    command.arg("--places=google").env("HERD_PLACES_KEY", KEY);
    command.arg(format!("--places-url=https://localhost:{}/places", port.number));
    command.arg("--places-ca").arg(folder.join("ca.pem"));
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut client = server.client();
    client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.5");
    for _ in 0..2 {
        let answer = client.whatsat("kiwi", "1", "1");
        assert_eq!(answer.body, "{\n\"results\" : [ 1.50 ], \"status\" : \"OK\" }\n");
    }
    Ok(())
}
