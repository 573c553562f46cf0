//! Pictures as SVG, written by hand: bars and lines need no library.

use std::fmt::Write;

use crate::figures::Spread;

/// Horizontal bars, in groups of one label with a bar for each series; a line across each bar's end shows the spread.
pub fn bars(title: &str, series: &[&str], rows: &[(String, Vec<Option<Spread>>)]) -> String {
    let values = || rows.iter().flat_map(|(_, values)| values.iter().flatten());
    let greatest = values().map(|it| it.high).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let group = series.len() as f64 * BAR + GAP;
    let height = TOP + rows.len() as f64 * group + GAP;
    let mut svg = begin(title, height);
    for (index, name) in series.iter().enumerate().filter(|_| series.len() > 1) {
        let x = LEFT + index as f64 * 160.0;
        _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{}\"/>",
            colour(index)
        );
        text(&mut svg, x + 18.0, 46.0, "start", name);
    }
    for (row, (label, values)) in rows.iter().enumerate() {
        let top = TOP + row as f64 * group;
        text(&mut svg, LEFT - 8.0, top + (group - GAP) / 2.0 + 4.0, "end", label);
        for (index, value) in values.iter().enumerate() {
            let y = top + index as f64 * BAR;
            let Some(value) = value else { continue };
            let wide = |value: f64| (value / greatest * (WIDTH - LEFT - 100.0)).max(1.0);
            let (width, low, high) = (wide(value.median), wide(value.low), wide(value.high));
            _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"/>",
                BAR - 2.0,
                colour(index)
            );
            let (begin, end, middle) = (LEFT + low, LEFT + high, y + BAR / 2.0 - 1.0);
            _ = writeln!(
                svg,
                "<line x1=\"{begin:.1}\" x2=\"{end:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"black\"/>"
            );
            text(&mut svg, end + 6.0, y + BAR - 5.0, "start", &thousands(value.median));
        }
    }
    svg + "</svg>\n"
}

/// Lines over the same steps, upwards by powers of ten.
pub fn lines(title: &str, steps: &[&str], all: &[(String, Vec<f64>)]) -> String {
    let height = 420.0;
    let (bottom, right) = (height - 40.0, WIDTH - 220.0);
    let values = || all.iter().flat_map(|(_, values)| values.iter().copied());
    let low = values().fold(f64::MAX, f64::min).max(1.0).log10().floor();
    let high = values().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let y = |value: f64| bottom - (value.max(1.0).log10() - low) / (high - low) * (bottom - TOP);
    let x = |step: usize| 80.0 + step as f64 / (steps.len() - 1) as f64 * (right - 80.0);
    let mut svg = begin(title, height);
    for power in low as i32..=high as i32 {
        let at = y(10f64.powi(power));
        _ = writeln!(
            svg,
            "<line x1=\"80\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"
        );
        text(&mut svg, 74.0, at + 4.0, "end", &thousands(10f64.powi(power)));
    }
    for (step, name) in steps.iter().enumerate() {
        text(&mut svg, x(step), bottom + 20.0, "middle", name);
    }
    for (index, (name, values)) in all.iter().enumerate() {
        let mut points = String::new();
        for (step, value) in values.iter().enumerate() {
            _ = write!(points, "{:.1},{:.1} ", x(step), y(*value));
        }
        _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>",
            colour(index),
            points.trim_end()
        );
        let at = TOP + 20.0 * index as f64;
        _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{at}\" width=\"12\" height=\"12\" fill=\"{}\"/>",
            right + 16.0,
            colour(index)
        );
        text(&mut svg, right + 34.0, at + 11.0, "start", name);
    }
    svg + "</svg>\n"
}

fn begin(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    _ = writeln!(svg, "<text x=\"12\" y=\"22\" font-size=\"16\">{title}</text>");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// Colours that most eyes can distinguish (Okabe and Ito).
fn colour(index: usize) -> &'static str {
    const COLOURS: [&str; 9] = [
        "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999", "#000000",
        "#b8a800",
    ];
    COLOURS[index % COLOURS.len()]
}

/// A number as people read it.
pub fn thousands(value: f64) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    if value < 10.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const WIDTH: f64 = 820.0;
const LEFT: f64 = 190.0;
const TOP: f64 = 60.0;
const BAR: f64 = 18.0;
const GAP: f64 = 10.0;
