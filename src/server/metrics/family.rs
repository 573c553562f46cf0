//! Metrics as they are shown: each with a name, a kind and its samples. `/metrics` and `/varz` are written from the same
//! values.

use crate::application::{Counter, Gauge, Histogram};

/// All samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// As Prometheus knows it, `_total` included.
    pub name: &'static str,
    pub kind: FamilyKind,
    /// A sentence without its full stop.
    pub help: &'static str,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: SampleValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    Whole(u64),
    Real(f64),
    Histogram {
        /// Seconds.
        sum: f64,
        count: u64,
        /// Upper bounds in seconds, each with the number of observations in its bucket alone. The last bound is
        /// infinite.
        buckets: Vec<(f64, u64)>,
    },
}

impl From<u64> for SampleValue {
    fn from(value: u64) -> SampleValue {
        SampleValue::Whole(value)
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> SampleValue {
        SampleValue::Real(value)
    }
}

impl From<bool> for SampleValue {
    fn from(value: bool) -> SampleValue {
        SampleValue::Whole(u64::from(value))
    }
}

impl From<&Counter> for SampleValue {
    fn from(counter: &Counter) -> SampleValue {
        SampleValue::Whole(counter.get())
    }
}

impl From<&Gauge> for SampleValue {
    fn from(gauge: &Gauge) -> SampleValue {
        SampleValue::Whole(gauge.get())
    }
}

impl<const N: usize> From<&Histogram<N>> for SampleValue {
    fn from(histogram: &Histogram<N>) -> SampleValue {
        SampleValue::of_histograms([histogram].into_iter())
    }
}

impl SampleValue {
    /// The sum of histograms with the same bounds.
    pub(super) fn of_histograms<'a, const N: usize>(
        histograms: impl Iterator<Item = &'a Histogram<N>>,
    ) -> SampleValue {
        let (mut sum, mut buckets, mut above) = (0.0, Vec::with_capacity(N + 1), 0);
        for histogram in histograms {
            let bounds = histogram.buckets().map(|(bound, _)| (seconds(bound), 0));
            if buckets.is_empty() {
                buckets.extend(bounds);
            }
            for (bucket, (_, count)) in buckets.iter_mut().zip(histogram.buckets()) {
                bucket.1 += count;
            }
            above += histogram.above();
            sum += histogram.sum().as_secs_f64();
        }
        buckets.push((f64::INFINITY, above));
        let count = buckets.iter().map(|(_, count)| count).sum();
        SampleValue::Histogram { sum, count, buckets }
    }
}

impl Family {
    pub(super) fn counter(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: FamilyKind::Counter, help, samples: Vec::new() }
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: FamilyKind::Gauge, help, samples: Vec::new() }
    }

    pub(super) fn histogram(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: FamilyKind::Histogram, help, samples: Vec::new() }
    }

    /// With this one sample, without labels.
    pub(super) fn of(mut self, value: impl Into<SampleValue>) -> Family {
        self.add([], value);
        self
    }

    /// Adds a sample.
    pub(super) fn add<const N: usize>(
        &mut self,
        labels: [(&'static str, &str); N],
        value: impl Into<SampleValue>,
    ) {
        let labels = labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        self.samples.push(Sample { labels, value: value.into() });
    }
}

/// Nanoseconds as seconds. The division keeps the decimal digits of the bounds, where a multiplication would not.
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
