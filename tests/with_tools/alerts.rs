//! Prometheus' own tool reads the rules and the example of a configuration, and plays the rules' tests.

use std::path::Path;

use crate::common::needs::{Outcome, tool};

/// Runs promtool in the folder of the rules.
fn promtool(words: &[&str]) -> Outcome {
    let mut promtool = tool("promtool")?;
    promtool.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/prometheus"));
    let output = promtool.args(words).output().expect("promtool runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

pub fn each_alert_fires_for_its_reason_and_after_its_time() -> Outcome {
    promtool(&["test", "rules", "alerts.test.yml"])
}

pub fn the_example_of_a_configuration_is_valid() -> Outcome {
    promtool(&["check", "config", "prometheus.yml"])
}
