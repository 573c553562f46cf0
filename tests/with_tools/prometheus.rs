//! A real Prometheus scrapes a server, over its admin listener, and knows what the server counted. It runs in the
//! foreground, with its data in a folder of the test.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::needs::{Outcome, tool};
use crate::common::ports::{Port, reserve};
use crate::common::process::Running;
use crate::common::setup::Setup;
use crate::common::{LIMIT, wait_until};

/// For how long it scrapes, if this is set: a number of seconds. `cargo test` looks at the first scrapes only.
const SECONDS: &str = "HERD_MIO_SCRAPE_SECONDS";

struct Prometheus {
    port: Port,
    _process: Running,
}

impl Prometheus {
    /// Scrapes the target once a second, with the rules of `contrib/`.
    fn start(folder: &Path, target: &Port) -> Result<Prometheus, crate::common::needs::Missing> {
        let mut command = tool("prometheus")?;
        let port = reserve();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: herd-mio, static_configs: [{{targets: ['{}']}}]}}]\n",
            rules.display(),
            target.address(),
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).expect("the temporary folder can be written");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={}", port.address()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running(command.spawn().expect("Prometheus starts"));
        Ok(Prometheus { port, _process: process })
    }

    /// The values of a query's answer.
    fn query(&self, query: &str) -> Vec<f64> {
        let url = format!("http://{}/api/v1/query", self.port.address());
        let mut curl = Command::new("curl");
        curl.args(["-s", "-G", &url, "--data-urlencode", &format!("query={query}")]);
        let output = curl.output().expect("curl runs");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |sample: &Value| sample["value"][1].as_str()?.parse().ok();
        result.iter().filter_map(value).collect()
    }
}

pub fn it_scrapes_a_server_and_knows_what_that_has_counted() -> Outcome {
    tool("curl")?;
    let setup = Setup::alone();
    let admin = reserve();
    let server = setup.start_with("Goloman", &["--admin", &admin.number.to_string()]);
    let prometheus = Prometheus::start(setup.folder.path(), &admin)?;
    let mut client = server.client();
    for _ in 0..3 {
        client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.5");
    }
    let told = r#"herd_lines_total{command="iamat",result="ok"}"#;
    wait_until(LIMIT, "Prometheus knows of three lines", || prometheus.query(told) == [3.0]);
    assert_eq!(prometheus.query(r#"up{job="herd-mio"}"#), [1.0]);
    assert_eq!(prometheus.query(r#"herd_connections{kind="client",transport="plain"}"#), [1.0]);
    // Each scrape is a request, and counted after it was answered.
    wait_until(LIMIT, "Prometheus has scraped a second time", || {
        let scrapes = prometheus.query(r#"herd_admin_requests_total{path="/metrics",code="200"}"#);
        scrapes.first().is_some_and(|scrapes| *scrapes >= 1.0)
    });
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(prometheus.query(r#"up{job="herd-mio"}"#), [1.0], "a scrape has failed");
    }
    // The server is well, so no alert fires.
    assert!(prometheus.query("ALERTS").is_empty());
    Ok(())
}
