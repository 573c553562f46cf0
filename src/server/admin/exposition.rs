//! `/metrics`: the text formats of Prometheus and of OpenMetrics, both from the same values. This is the only file that
//! names prometheus-client, which encodes and does nothing else here: it changes its interface between minor versions.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::server::metrics::{Family, FamilyKind, Sample, SampleValue};

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Text,
    OpenMetrics,
}

impl Exposition {
    /// The format for a request with these values of `Accept`: OpenMetrics for who takes it at all, whatever else is in
    /// the list.
    pub fn accepted<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Exposition {
        let takes = |value: &[u8]| value.split(|byte| *byte == b',').any(takes_open_metrics);
        if values.into_iter().any(takes) { Exposition::OpenMetrics } else { Exposition::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Text => prometheus_text::CONTENT_TYPE,
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The metrics in this format.
    pub fn encode(self, families: Vec<Family>) -> String {
        let mut own = Registry::with_prefix(PREFIX);
        let mut others = Registry::default();
        let is_own = |family: &Family| own_name(family).is_some();
        let (herd, process): (Vec<_>, Vec<_>) = families.into_iter().partition(is_own);
        own.register_collector(Box::new(Families(herd)));
        others.register_collector(Box::new(Families(process)));
        let mut out = String::with_capacity(ENCODED_BYTES);
        let encoded = match self {
            Exposition::Text => [&own, &others]
                .into_iter()
                .try_for_each(|registry| prometheus_text::encode(&mut out, registry)),
            Exposition::OpenMetrics => [&own, &others]
                .into_iter()
                .try_for_each(|registry| text::encode_registry(&mut out, registry))
                .and_then(|()| text::encode_eof(&mut out)),
        };
        // Writing to a String never fails, and no value here refuses to be written.
        debug_assert!(encoded.is_ok());
        out
    }
}

/// Whether an element of `Accept` takes OpenMetrics, with any weight above 0.
fn takes_open_metrics(element: &[u8]) -> bool {
    let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_it = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(OPEN_METRICS));
    let is_zero = |weight: &[u8]| weight.iter().all(|byte| matches!(byte, b'0' | b'.'));
    let mut weights = parts.filter_map(|part| {
        let (name, value) = part.split_at_checked(2)?;
        name.eq_ignore_ascii_case(b"q=").then_some(value)
    });
    is_it && !weights.any(|weight| !weight.is_empty() && is_zero(weight))
}

/// Hands values to the encoder.
#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let name = own_name(family).unwrap_or(family.name);
            let (name, kind) = match family.kind {
                // The encoder adds the ending.
                FamilyKind::Counter => {
                    (name.strip_suffix("_total").unwrap_or(name), MetricType::Counter)
                }
                FamilyKind::Gauge => (name, MetricType::Gauge),
                FamilyKind::Histogram => (name, MetricType::Histogram),
            };
            let help = format!("{}.", family.help);
            let mut metric = encoder.encode_descriptor(name, &help, None, kind)?;
            for Sample { labels, value } in &family.samples {
                match labels.is_empty() {
                    true => encode_value(family.kind, value, &mut metric)?,
                    false => {
                        let labels: Vec<(&str, &str)> =
                            labels.iter().map(|(name, value)| (*name, &value[..])).collect();
                        encode_value(family.kind, value, &mut metric.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn encode_value(
    kind: FamilyKind,
    value: &SampleValue,
    metric: &mut MetricEncoder<'_>,
) -> Result<(), fmt::Error> {
    match (kind, value) {
        (_, SampleValue::Histogram { sum, count, buckets }) => {
            metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
        }
        (FamilyKind::Counter, SampleValue::Whole(value)) => {
            metric.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (FamilyKind::Counter, SampleValue::Real(value)) => {
            metric.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (_, SampleValue::Whole(value)) => metric.encode_gauge(value),
        (_, SampleValue::Real(value)) => metric.encode_gauge(value),
    }
}

/// The name of one of our metrics behind the prefix.
fn own_name(family: &Family) -> Option<&'static str> {
    family.name.strip_prefix(PREFIX)?.strip_prefix('_')
}

const PREFIX: &str = "herd";
const OPEN_METRICS: &[u8] = b"application/openmetrics-text";
/// What a server with a few neighbours needs.
const ENCODED_BYTES: usize = 64 * 1024;
