//! What others read of the metrics: Prometheus' own tool in the text format, and Python's parser in OpenMetrics.

use std::io::Write as _;
use std::process::{Command, Stdio};

use herd_mio::server::admin::exposition::Exposition;

use crate::common::needs::{Outcome, python_with, tool};
use crate::metrics_world::World;

/// What a server shows to which something has happened.
fn exposition(format: Exposition) -> String {
    let mut world = World::of(|config| config.loops = 2);
    let client = world.accept(herd_mio::server::CLIENTS);
    world.line(client, "IAMAT kiwi +1.0+2.0 1");
    world.line(client, "nonsense");
    world.turn(250);
    format.encode(world.families())
}

/// What a program says of a text on its standard input; it must be content.
fn reads(command: &mut Command, text: &str) -> String {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{text}");
    said
}

pub fn promtool_finds_nothing_to_improve() -> Outcome {
    let said = reads(tool("promtool")?.args(["check", "metrics"]), &exposition(Exposition::Text));
    assert_eq!(said, "", "promtool is content, and has a remark");
    Ok(())
}

pub fn pythons_parser_reads_every_sample_of_openmetrics() -> Outcome {
    let mut python = python_with("prometheus_client", "python3-prometheus-client")?;
    let text = exposition(Exposition::OpenMetrics);
    let said = reads(python.args(["-c", PARSER]), &text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(said.trim(), format!("{families} {lines} 1.0 0.00025"));
    Ok(())
}

/// Counts families and samples, and looks at two of them.
const PARSER: &str = r#"
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = list(parse(sys.stdin.read()))
samples = [sample for family in families for sample in family.samples]
def value(name, **labels):
    return next(it.value for it in samples if it.name == name and it.labels == labels)
told = value("herd_lines_total", command="iamat", result="ok")
took = value("herd_answer_duration_seconds_sum", command="iamat")
print(len(families), len(samples), float(told), took)
"#;
