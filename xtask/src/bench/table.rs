//! The outcome of a benchmark: per measure every contender's median, and the paired ratios with their bar.

use std::{fs, path::PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::stats::median;

/// One measure: a value for every contender in every round.
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// What Sluice's value divided by another's shall reach, or (`less`) shall not pass.
    pub(super) bar: f64,
    /// Whether less is better.
    pub(super) less: bool,
    /// Contender, then round. Sluice is the first contender.
    pub(super) values: Vec<(&'static str, Vec<f64>)>,
}

impl Measure {
    pub(super) fn new(
        name: &'static str,
        unit: &'static str,
        bar: f64,
        less: bool,
        contenders: &[&'static str],
    ) -> Self {
        Self { name, unit, bar, less, values: contenders.iter().map(|&c| (c, Vec::new())).collect() }
    }

    pub(super) fn add(&mut self, contender: &str, value: f64) {
        if let Some((_, values)) = self.values.iter_mut().find(|(name, _)| *name == contender) {
            values.push(value);
        }
    }

    fn ratios(&self, other: &[f64]) -> Vec<f64> {
        self.values[0].1.iter().zip(other).map(|(ours, theirs)| ours / theirs).collect()
    }
}

/// Prints the measures and writes them to `target/bench/NAME.json`.
pub(super) fn show(name: &str, rounds: usize, measures: &[Measure]) -> Result<()> {
    println!(
        "\n{name}: {rounds} rounds, medians; ratios are Sluice's paired with the other's, 95 % interval"
    );
    let mut out = Vec::new();
    for measure in measures {
        println!("  {} ({})", measure.name, measure.unit);
        let mut contenders = serde_json::Map::new();
        for (contender, values) in &measure.values {
            let m = median(values);
            println!("    {contender:<10}{:>12.2}  [{:.2}, {:.2}]", m.value, m.low, m.high);
            contenders.insert((*contender).to_owned(), json!({ "median": m.value, "rounds": values }));
        }
        let mut met = true;
        let mut ratios = serde_json::Map::new();
        for (contender, values) in &measure.values[1..] {
            let m = median(&measure.ratios(values));
            met &= if measure.less { m.value <= measure.bar } else { m.value >= measure.bar };
            println!("    Sluice / {contender:<10}{:>6.3}  [{:.3}, {:.3}]", m.value, m.low, m.high);
            ratios
                .insert((*contender).to_owned(), json!({ "median": m.value, "low": m.low, "high": m.high }));
        }
        let sign = if measure.less { "≤" } else { "≥" };
        println!("    bar: {sign} {} × each: {}", measure.bar, if met { "met" } else { "missed" });
        out.push(json!({
            "measure": measure.name, "unit": measure.unit, "contenders": contenders, "ratios": ratios,
            "bar": measure.bar, "less": measure.less, "met": met,
        }));
    }
    write(name, &json!({ "rounds": rounds, "measures": out }))
}

/// Writes a benchmark's figures to `target/bench/NAME.json` and says so.
pub(super) fn write(name: &str, figures: &Value) -> Result<()> {
    save(&format!("{name}.json"), &serde_json::to_string_pretty(figures)?)
}

/// Writes a file into `target/bench` and says so.
pub(super) fn save(file: &str, text: &str) -> Result<()> {
    let folder: PathBuf = crate::sh::root().join("target/bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join(file);
    fs::write(&path, text)?;
    println!("figures: {}", path.display());
    Ok(())
}
