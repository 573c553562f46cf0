//! curl and jq, as an operator uses them, understand the admin listener.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::common::needs::{Missing, Outcome, tool};
use crate::common::process::Running;
use crate::common::{LIMIT, Setup};

/// What curl prints, and its exit status.
fn curl(words: &[&str]) -> Result<(String, Option<i32>), Missing> {
    let mut curl = tool("curl")?;
    let output = curl.args(["-sS", "--max-time", "20"]).args(words).output().expect("curl runs");
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()))
}

/// The status alone.
fn status(address: SocketAddr, path: &str, words: &[&str]) -> Result<String, Missing> {
    let url = format!("http://localhost:{}{path}", address.port());
    let all = [&["-o", "/dev/null", "-w", "%{http_code}"], words, &[&url[..]]].concat();
    Ok(curl(&all)?.0)
}

pub fn curl_gets_each_status_as_documented() -> Outcome {
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let address = server.admin();
    for path in ["/livez", "/readyz", "/healthz", "/healthz?strict=1", "/metrics", "/varz"] {
        assert_eq!(status(address, path, &[])?, "200", "{path}");
        assert_eq!(status(address, path, &["--head"])?, "200", "{path}");
    }
    assert_eq!(status(address, "/livez", &["-H", "Host: evil.example"])?, "421");
    assert_eq!(status(address, "/livez", &["-X", "POST"])?, "405");
    assert_eq!(status(address, "/livez", &["-H", "Sec-Fetch-Site: cross-site"])?, "403");
    assert_eq!(status(address, "/nothing", &[])?, "404");
    assert_eq!(status(address, "/connz?limit=1e9", &[])?, "400");
    let body = setup.folder.path().join("body");
    std::fs::write(&body, vec![b'x'; 8 << 20]).expect("the folder can be written");
    let data = format!("@{}", body.display());
    assert_eq!(status(address, "/livez", &["--data-binary", &data])?, "413");
    // Without waiting for the response before the body.
    let words = ["-H", "Expect:", "--data-binary", &data];
    assert_eq!(status(address, "/livez", &words)?, "413");
    let (metrics, _) = curl(&[
        "-H",
        "Accept: text/html, application/openmetrics-text; version=1.0.0; q=0.5",
        &format!("http://localhost:{}/metrics", address.port()),
    ])?;
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics, where it is accepted at all");
    // One connection for several requests.
    let url = |path: &str| format!("http://localhost:{}{path}", address.port());
    let (said, code) = curl(&["-v", "--stderr", "-", &url("/livez"), &url("/readyz")])?;
    assert_eq!(code, Some(0));
    assert!(said.contains("Re-using existing connection"), "{said}");
    server.assert_serves();
    Ok(())
}

pub fn jq_reads_all_that_is_json() -> Outcome {
    let setup = Setup::star(&["Hands"]);
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let _hands = setup.start("Hands");
    let mut client = server.client();
    client.ask("IAMAT kiwi +1.0+2.0 10");
    for (path, filter, said) in [
        ("/livez", ".status", "\"ok\""),
        ("/readyz", ".checks.draining", "false"),
        ("/healthz", ".status | type", "\"string\""),
        ("/varz", "[.name, .metrics.lines_total.iamat.ok]", "[\"Goloman\",1]"),
        ("/varz", ".limits.line_timeout", "60"),
        ("/varz", ".limits | [.new_ids_per_second, .exempt[0]]", "[1000,\"127.0.0.0/8\"]"),
        ("/connz?kind=client", "[.total, .connections[0].lines]", "[1,1]"),
        ("/linksz", "[.links[].neighbour]", "[\"Hands\"]"),
        ("/debug/turns?last=1", ".turns | length", "1"),
    ] {
        let url = format!("http://localhost:{}{path}", server.admin().port());
        let mut curl = Running(
            tool("curl")?
                .args(["-sS", "--max-time", &LIMIT.as_secs().to_string(), &url])
                .stdout(Stdio::piped())
                .spawn()
                .expect("curl starts"),
        );
        let mut jq: Command = tool("jq")?;
        jq.args(["-c", filter]).stdin(curl.0.stdout.take().expect("a pipe"));
        let output = jq.output().expect("jq runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(text.trim(), said, "{path} | {filter}");
    }
    Ok(())
}
