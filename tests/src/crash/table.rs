//! The table as a document: what is required, and what was seen.

use super::stage::Measured;
use super::{Row, TakenOver};

/// A row that came out as required.
pub struct Played {
    /// Event, step, what is required.
    verdict: [String; 3],
    /// Lost, duplicated, taken over after.
    seen: [String; 3],
}

impl Played {
    pub(super) fn new(row: &Row, measured: Measured) -> Self {
        let took = match (row.taken_over, measured.took) {
            (TakenOver::Not, _) | (_, None) => "-".to_owned(),
            (_, Some(took)) => format!("{:.1} s", took.as_secs_f32()),
        };
        let duplicates = match row.duplicates {
            0 => "no duplicate".to_owned(),
            1 => "at most 1 duplicate".to_owned(),
            most => format!("at most {most} duplicates"),
        };
        Self {
            verdict: [
                row.event.to_owned(),
                row.step.to_owned(),
                format!("{}; {duplicates}", row.required),
            ],
            seen: [
                measured.lost.to_string(),
                measured.duplicated.to_string(),
                took,
            ],
        }
    }

    /// The columns that are the same in every run.
    fn verdict(&self) -> String {
        format!("| {} |", self.verdict.join(" | "))
    }
}

/// The rows as Markdown.
pub fn table(rows: &[Played]) -> String {
    let mut text = "| event | stopped at | required | lost | duplicated | taken over after |\n\
         |---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        text.push_str(&format!("{} {} |\n", row.verdict(), row.seen.join(" | ")));
    }
    text
}

/// Rows that `document` does not have, or not so, and rows that it has in vain.
pub fn differences(rows: &[Played], document: &str) -> Vec<String> {
    let mut written: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| event |"))
        .collect();
    let mut differences = Vec::new();
    for row in rows {
        let verdict = row.verdict();
        match written.iter().position(|line| line.starts_with(&verdict)) {
            Some(position) => {
                written.remove(position);
            }
            None => differences.push(format!("not in the document: {verdict}")),
        }
    }
    let in_vain = written.iter().map(|line| format!("not played: {line}"));
    differences.extend(in_vain);
    differences
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crash::stage::Stage;

    fn row(step: &'static str, duplicates: usize) -> Row {
        Row {
            event: "an event",
            step,
            required: "nothing lost",
            duplicates,
            taken_over: TakenOver::AfterTheLease,
            play: |_: &mut Stage| Ok(Measured::default()),
        }
    }

    fn seen(duplicated: usize, milliseconds: u64) -> Measured {
        Measured {
            lost: 0,
            duplicated,
            took: Some(Duration::from_millis(milliseconds)),
        }
    }

    #[test]
    fn a_document_differs_in_what_is_required_and_not_in_what_was_seen() {
        let written = table(&[
            Played::new(&row("one", 0), seen(0, 2_900)),
            Played::new(&row("two", 1), seen(1, 3_100)),
        ]);
        let one = || Played::new(&row("one", 0), seen(0, 1_000));
        let two = |duplicates| Played::new(&row("two", duplicates), seen(0, 1_000));
        assert_eq!(differences(&[one(), two(1)], &written), [""; 0]);
        assert_eq!(differences(&[one()], &written).len(), 1);
        assert_eq!(differences(&[one(), two(2)], &written).len(), 2);
        assert_eq!(differences(&[one(), two(1), two(1)], &written).len(), 1);
    }
}
