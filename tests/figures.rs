//! Claim: the benchmark's words rest on its figures: a difference is called one only where the rounds' spreads do not
//! overlap, ratios are taken within a round, and a run's file keeps what was measured.

#[path = "../benches/versus/figures.rs"]
#[allow(dead_code, reason = "the bench uses all of it")]
mod figures;
#[path = "../benches/versus/runs.rs"]
#[allow(dead_code, reason = "the bench uses all of it")]
mod runs;

use figures::{Figures, Spread};
use runs::Run;

type Failure = Box<dyn std::error::Error>;

fn figures(of: &[(&str, &[f64])]) -> Figures {
    let mut figures = Figures::default();
    for (name, values) in of {
        values.iter().for_each(|value| figures.add(*name, *value));
    }
    figures
}

#[test]
fn a_spread_is_the_median_and_the_middle_half_of_the_rounds() {
    let spread = Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]).expect("there are values");
    assert_eq!(spread, Spread { low: 2.0, median: 3.0, high: 4.0 });
    let between = Spread::of(vec![1.0, 2.0]).expect("there are values");
    assert_eq!(between, Spread { low: 1.25, median: 1.5, high: 1.75 });
    assert_eq!(Spread::of(Vec::new()), None);
}

/// Medians of 10 and 12 are far apart in numbers, and no difference as long as the rounds vary as much.
#[test]
fn spreads_that_overlap_are_no_difference() {
    let figures = figures(&[
        ("a", &[8.0, 9.0, 10.0, 11.5, 12.0]),
        ("b", &[10.0, 11.0, 12.0, 13.0, 14.0]),
        ("c", &[12.5, 12.6, 12.7, 12.8, 12.9]),
        ("two rounds", &[100.0, 101.0]),
    ]);
    assert!(!figures.differ("a", "b"));
    assert!(figures.differ("a", "c"));
    assert!(figures.differ("c", "a"));
    assert!(!figures.differ("a", "two rounds"));
    assert!(!figures.differ("a", "what was not measured"));
}

/// The second round was slow for both: each is still twice the other.
#[test]
fn a_ratio_is_taken_within_each_round() {
    let figures = figures(&[("a", &[20.0, 2.0, 22.0]), ("b", &[10.0, 1.0, 11.0]), ("c", &[1.0])]);
    let twice = Spread { low: 2.0, median: 2.0, high: 2.0 };
    assert_eq!(figures.ratio("a", "b"), Some(twice));
    assert_eq!(figures.ratio("a", "c"), None, "they were not measured in the same rounds");
}

#[test]
fn a_part_that_is_measured_later_takes_its_place_in_the_runs_file() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let run = |part: &str, of: &[(&str, &[f64])]| {
        let words = |word: &str| [(part.to_owned(), word.to_owned())].into();
        Run {
            name: "1".into(),
            facts: words("a \"fact\""),
            parts: words("now"),
            figures: figures(of),
        }
    };
    run("load", &[("64x1/off/ours/rate", &[171_966.4, 0.012_345_67]), ("x", &[1.0])])
        .write(folder.path())?;
    run("flood", &[("x", &[2.0, 3.5])]).write(folder.path())?;
    let [kept] = runs::all(folder.path())?.try_into().expect("one file");
    assert_eq!(kept.figures.values("64x1/off/ours/rate"), [171_970.0, 0.012_346], "five digits");
    assert_eq!(kept.figures.values("x"), [2.0, 3.5]);
    assert_eq!(kept.parts.len(), 2);
    assert_eq!(kept.fact("load"), "a \"fact\"");
    assert_eq!(runs::free_name(folder.path(), "2026-11-26"), "2026-11-26-1");
    Ok(())
}
