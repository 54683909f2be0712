//! The outcome as a picture: a panel of bars for each figure, the 95 % interval drawn on each bar.
//!
//! SVG by hand: a few rectangles and words are less than what a plotting library wants to be told.

use std::fmt::{self, Write as _};

use super::{
    super::stats::{Median, median},
    contender::{Contender, Seen},
    probe::{FIGURES, Figure},
    report::{label, number, title},
    results::Results,
};

const COLUMNS: usize = 3;
const WIDTH: f64 = 440.0;
const ROW: f64 = 18.0;
const HEAD: f64 = 44.0;
/// Where bars begin and how long they get; the rest is for names and numbers.
const LEFT: f64 = 150.0;
const LONGEST: f64 = 210.0;

/// The whole picture.
pub(super) fn svg(seen: &[(&'static Contender, Seen)], results: &Results) -> Result<String, fmt::Error> {
    let mut panels = Vec::new();
    for figure in FIGURES {
        let panel = panel(figure, seen, results)?;
        panels.extend(panel);
    }
    let tallest = panels.iter().map(|panel| panel.1).max().unwrap_or(0);
    let height = HEAD + tallest as f64 * ROW;
    let rows = panels.len().div_ceil(COLUMNS);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>text {{ fill: #222 }} .t {{ font-weight: bold }} .n {{ text-anchor: end }} .o {{ fill: #9aa5b1 }} \
         .h {{ text-anchor: end; font-size: 10px; fill: #777 }} .s {{ fill: #0b7285 }} .w {{ stroke: #222; fill: none }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        WIDTH * COLUMNS as f64,
        height * rows as f64 + 12.0,
    );
    for (i, (panel, _)) in panels.iter().enumerate() {
        let (x, y) = ((i % COLUMNS) as f64 * WIDTH, (i / COLUMNS) as f64 * height);
        writeln!(out, "<g transform=\"translate({x} {y})\">\n{panel}</g>")?;
    }
    out.push_str("</svg>\n");
    Ok(out)
}

/// A figure's bars, and how many there are; `None` without any.
fn panel(
    figure: &Figure,
    seen: &[(&'static Contender, Seen)],
    results: &Results,
) -> Result<Option<(String, usize)>, fmt::Error> {
    let bars: Vec<(String, Median)> = seen
        .iter()
        .map(|(contender, seen)| (label(contender, seen), results.values(figure.key, contender.key)))
        .filter(|(_, values)| !values.is_empty())
        .map(|(label, values)| (label, median(&values)))
        .collect();
    let most = bars.iter().fold(0.0, |most: f64, (_, m)| most.max(m.high));
    // Nothing was measured, or nothing but zeros: the tables tell that as well.
    if most <= 0.0 {
        return Ok(None);
    }
    let better = if figure.less { "less is better" } else { "more is better" };
    let mut out = String::new();
    writeln!(
        out,
        "<text class=\"t\" x=\"10\" y=\"24\">{}</text><text class=\"h\" x=\"{}\" y=\"24\">{better}</text>",
        title(figure),
        WIDTH - 10.0
    )?;
    let length = |value: f64| (value / most).max(0.0) * LONGEST;
    for (i, (label, m)) in bars.iter().enumerate() {
        let y = HEAD - 8.0 + i as f64 * ROW;
        let (low, high, middle) = (LEFT + length(m.low), LEFT + length(m.high), y + ROW / 2.0 - 2.0);
        let class = if label.starts_with("Sluice") { "s" } else { "o" };
        writeln!(
            out,
            "<text class=\"n\" x=\"{}\" y=\"{}\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\"/>\
             <path class=\"w\" d=\"M{low:.1} {middle}H{high:.1}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 6.0,
            y + 11.0,
            label,
            length(m.value),
            ROW - 4.0,
            high + 6.0,
            y + 11.0,
            number(m.value, figure.places),
        )?;
    }
    Ok(Some((out, bars.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::l4::contender::{CONTENDERS, Path};

    #[test]
    fn the_longest_bar_is_the_greatest_value_and_nothing_lies_outside() {
        let mut results = Results::default();
        for (contender, values) in [("routed", [100.0, 120.0]), ("forward", [50.0, 70.0])] {
            for (round, value) in values.into_iter().enumerate() {
                results.add(round, "requests-32", contender, value);
            }
        }
        let seen = |c| (c, Seen { tcp: Path::Kept, udp: None, holds: true, relayed: None });
        let seen: Vec<_> = CONTENDERS.iter().map(seen).collect();
        let svg = svg(&seen, &results).expect("a string takes all");
        let lengths: Vec<f64> = svg
            .split("<rect class")
            .skip(1)
            .filter_map(|rest| rest.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(lengths, [192.5, 105.0], "110 and 60 of at most 120 that are {LONGEST} long:\n{svg}");
        assert_eq!(svg.matches("<g ").count(), 1, "a figure without values has no panel");
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    }
}
