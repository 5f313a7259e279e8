//! Medians and ratios.

use std::{collections::BTreeMap, fmt::Write};

use super::{measure::Figures, system::System};

#[derive(Default)]
pub(super) struct Report {
    runs: BTreeMap<(u32, System), Vec<Figures>>,
}

impl Report {
    pub(super) fn add(&mut self, size: u32, system: System, figures: Figures) {
        self.runs.entry((size, system)).or_default().push(figures);
    }

    /// The system's messages a second over Postfix', both medians.
    pub(super) fn ratio(&self, size: u32, system: System) -> Option<f64> {
        let median = |system| Some(spread(self.runs.get(&(size, system))?, |it| it.per_second).1);
        Some(median(system)? / median(System::Postfix)?)
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "size      system    messages/s median (min-max)  us CPU a message  RSS MB  PSS MB  to Postfix\n",
        );
        for ((size, system), runs) in &self.runs {
            let (least, median, most) = spread(runs, |it| it.per_second);
            let of = |figure: fn(&Figures) -> f64| spread(runs, figure).1;
            let ratio = times(self.ratio(*size, *system));
            let _ = writeln!(
                text,
                "{size:<9} {:<9} {:<29} {:>16.0} {:>7.0} {:>7.0} {ratio:>11}",
                system.name(),
                format!("{median:.0} ({least:.0}-{most:.0})"),
                of(|it| it.cpu_microseconds),
                of(|it| it.rss_megabytes),
                of(|it| it.pss_megabytes),
            );
        }
        text
    }
}

/// A ratio, or that it is not known.
pub(super) fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}x"))
}

/// Least, median and most of a figure; of an even number the upper of the two in the middle.
fn spread(runs: &[Figures], figure: impl Fn(&Figures) -> f64) -> (f64, f64, f64) {
    let mut all: Vec<_> = runs.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().unwrap_or_default();
    (at(0), at(all.len() / 2), at(all.len().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(per_second: f64) -> Figures {
        Figures {
            per_second,
            ..Figures::default()
        }
    }

    #[test]
    fn ratios_are_of_medians() {
        let mut report = Report::default();
        for speed in [900.0, 100.0, 500.0] {
            report.add(10, System::Postfix, figures(speed));
            report.add(10, System::Embedded, figures(speed * 6.0));
        }
        assert_eq!(report.ratio(10, System::Embedded), Some(6.0));
        assert_eq!(report.ratio(10, System::Redis), None);
        let table = report.table();
        assert!(table.contains("3000 (600-5400)"), "{table}");
        assert!(table.contains("6.0x"), "{table}");
    }
}
