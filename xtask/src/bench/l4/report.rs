//! The outcome as Markdown and as JSON.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use super::{
    super::stats::median,
    bars::{BARS, Bar},
    contender::{CONTENDERS, Contender, Seen},
    probe::{FIGURES, Figure},
    results::Results,
};

/// All that a report tells.
pub(super) struct Report<'a> {
    /// How it was measured: rounds, seconds, the machine.
    pub(super) about: &'a str,
    /// Who took part, and what their first connections showed.
    pub(super) seen: &'a [(&'static Contender, Seen)],
    pub(super) results: &'a Results,
}

impl Report<'_> {
    /// The tables.
    pub(super) fn markdown(&self) -> Result<String, fmt::Error> {
        let mut text = format!("# TCP and UDP through the gateway\n\n{}\n", self.about);
        self.bars(&mut text)?;
        text.push_str("\n## Medians\n\n");
        self.table(&mut text, |figure, contender| {
            let values = self.results.values(figure.key, contender.key);
            (!values.is_empty()).then(|| number(median(&values).value, figure.places))
        })?;
        let base = &CONTENDERS[0];
        if self.took_part(base.key) {
            writeln!(text, "\n## Divided by {} in the same round: median [95 % interval]\n", base.name)?;
            self.table(&mut text, |figure, contender| {
                let ratios = self.results.ratios(figure.key, contender.key, base.key);
                if ratios.is_empty() || contender.key == base.key {
                    return None;
                }
                let ratio = median(&ratios);
                Some(format!("{:.2} [{:.2}, {:.2}]", ratio.value, ratio.low, ratio.high))
            })?;
        }
        text.push_str("\n## Paths\n\n| | TCP | UDP | relayed connections |\n|---|---|---|---:|\n");
        for (contender, seen) in self.seen {
            let udp = seen.udp.map_or("–".to_owned(), |path| path.to_string());
            let relayed = seen.relayed.map_or("–".to_owned(), |count| number(count, 0));
            writeln!(text, "| {} | {} | {udp} | {relayed} |", label(contender, seen), seen.tcp)?;
        }
        if self.seen.iter().any(|(_, seen)| !seen.holds) {
            text.push_str("\n\\* not the path that is to be measured\n");
        }
        if !self.results.failures().is_empty() {
            text.push_str("\n## Failed\n\n");
            for failure in self.results.failures() {
                writeln!(text, "- {}", failure.replace('\n', " "))?;
            }
        }
        Ok(text)
    }

    fn bars(&self, text: &mut String) -> fmt::Result {
        let judged: Vec<_> =
            BARS.iter().filter_map(|bar| bar.judge(self.results).map(|judged| (bar, judged))).collect();
        if judged.is_empty() {
            return Ok(());
        }
        text.push_str(
            "\n## Bars\n\n| figure | of | bar | ratio | 95 % interval | |\n|---|---|---|---|---|---|\n",
        );
        for (bar, (ratio, verdict)) in judged {
            writeln!(
                text,
                "| {} | {} | {} | {:.3} | [{:.3}, {:.3}] | {} |",
                figure(bar.figure).map_or(bar.figure, |figure| figure.name),
                name(bar.contender),
                wanted(bar),
                ratio.value,
                ratio.low,
                ratio.high,
                verdict.name(),
            )?;
        }
        Ok(())
    }

    /// A row for each figure that has a cell, a column for each contender.
    fn table(&self, text: &mut String, cell: impl Fn(&Figure, &Contender) -> Option<String>) -> fmt::Result {
        let names: Vec<_> = self.seen.iter().map(|(contender, seen)| label(contender, seen)).collect();
        writeln!(text, "| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()))?;
        for figure in FIGURES {
            let cells: Vec<_> = self.seen.iter().map(|(contender, _)| cell(figure, contender)).collect();
            if cells.iter().any(Option::is_some) {
                let cells: Vec<_> =
                    cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".into())).collect();
                writeln!(text, "| {} | {} |", title(figure), cells.join(" | "))?;
            }
        }
        Ok(())
    }

    fn took_part(&self, key: &str) -> bool {
        self.seen.iter().any(|(contender, _)| contender.key == key)
    }

    /// Every value, with medians, ratios and bars.
    pub(super) fn json(&self) -> Value {
        let contenders: Vec<_> = self
            .seen
            .iter()
            .map(|(contender, seen)| {
                json!({
                    "key": contender.key, "name": contender.name, "tcp": seen.tcp.to_string(),
                    "udp": seen.udp.map(|path| path.to_string()), "pathHolds": seen.holds, "relayedConnections": seen.relayed,
                })
            })
            .collect();
        let figures: Vec<_> = FIGURES
            .iter()
            .map(|figure| {
                let values: Map<_, _> = self.seen.iter().filter_map(|(c, _)| self.cell(figure, c)).collect();
                json!({
                    "key": figure.key, "name": figure.name, "unit": figure.unit, "lessIsBetter": figure.less,
                    "contenders": values,
                })
            })
            .collect();
        let bars: Vec<_> = BARS
            .iter()
            .filter_map(|bar| {
                let (ratio, verdict) = bar.judge(self.results)?;
                Some(json!({
                    "figure": bar.figure, "contender": bar.contender, "reference": bar.reference,
                    "factor": bar.factor, "most": bar.most,
                    "ratio": ratio.value, "low": ratio.low, "high": ratio.high, "verdict": verdict.name(),
                }))
            })
            .collect();
        json!({ "about": self.about, "contenders": contenders, "figures": figures, "bars": bars, "failures": self.results.failures() })
    }

    fn cell(&self, figure: &Figure, contender: &Contender) -> Option<(String, Value)> {
        let values = self.results.values(figure.key, contender.key);
        if values.is_empty() {
            return None;
        }
        let m = median(&values);
        let mut cell = json!({ "median": m.value, "low": m.low, "high": m.high, "rounds": values });
        let ratios = self.results.ratios(figure.key, contender.key, CONTENDERS[0].key);
        if !ratios.is_empty() {
            let m = median(&ratios);
            cell["dividedByRouted"] = json!({ "median": m.value, "low": m.low, "high": m.high });
        }
        Some((contender.key.to_owned(), cell))
    }
}

/// What a bar asks: `≥ 0.95 × routed`.
fn wanted(bar: &Bar) -> String {
    format!("{} {} × {}", if bar.most { "≤" } else { "≥" }, bar.factor, name(bar.reference))
}

fn figure(key: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.key == key)
}

fn name(key: &'static str) -> &'static str {
    CONTENDERS.iter().find(|contender| contender.key == key).map_or(key, |contender| contender.name)
}

/// A contender's name, with a star if it was not measured on its path.
pub(super) fn label(contender: &Contender, seen: &Seen) -> String {
    format!("{}{}", contender.name, if seen.holds { "" } else { "*" })
}

/// A figure with its unit.
pub(super) fn title(figure: &Figure) -> String {
    match figure.unit {
        "" => figure.name.to_owned(),
        unit => format!("{} ({unit})", figure.name),
    }
}

/// A number with its thousands apart: `12,345.6`.
pub(super) fn number(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", &*text), |rest| ("-", rest));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::l4::contender::Path;

    #[test]
    fn thousands_are_set_apart() {
        for (value, places, want) in [
            (0.0, 0, "0"),
            (999.4, 0, "999"),
            (1000.0, 0, "1,000"),
            (123_456.78, 1, "123,456.8"),
            (-1234.5, 2, "-1,234.50"),
            (-12.0, 0, "-12"),
        ] {
            assert_eq!(number(value, places), want);
        }
    }

    #[test]
    fn a_report_shows_values_ratios_bars_and_paths() {
        let mut results = Results::default();
        for (round, (routed, ours)) in [(100_000.0, 98_000.0), (90_000.0, 90_000.0)].into_iter().enumerate() {
            results.add(round, "requests-32", "routed", routed);
            results.add(round, "requests-32", "forward", ours);
        }
        results.saw("routed", true);
        results.saw("forward", false);
        results.failed("Envoy: it\nbroke".to_owned());
        let seen: Vec<_> = CONTENDERS[..2]
            .iter()
            .map(|c| {
                (
                    c,
                    Seen {
                        tcp: Path::Kept,
                        udp: None,
                        holds: c.key == "routed",
                        relayed: (c.key == "forward").then_some(1234.0),
                    },
                )
            })
            .collect();
        let report = Report { about: "One run.", seen: &seen, results: &results };
        let text = report.markdown().expect("a string takes all");
        for line in [
            "| requests, 32 connections | Sluice Forward | ≥ 0.95 × routed | 0.990 | [0.980, 1.000] | missed (other path) |",
            "| | routed | Sluice Forward* |",
            "| requests, 32 connections (/s) | 95,000 | 94,000 |",
            "| requests, 32 connections (/s) | – | 0.99 [0.98, 1.00] |",
            "| routed | packets, the client's address kept | – | – |",
            "| Sluice Forward* | packets, the client's address kept | – | 1,234 |",
            "- Envoy: it broke",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let json = report.json();
        assert_eq!(json["figures"][0]["contenders"]["forward"]["dividedByRouted"]["median"], 0.99);
        assert_eq!(json["bars"][0]["verdict"], "missed (other path)");
        assert_eq!(json["contenders"][1]["pathHolds"], false);
    }
}
