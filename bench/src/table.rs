//! The table in docs/PERFORMANCE.md, between two marks: all else in that file is written by hand.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::pairs::{Measured, Verdict};
use crate::report::{Report, Row, figure};

const BEGIN: &str = "<!-- written by uepoll-bench: begin -->";
const END: &str = "<!-- written by uepoll-bench: end -->";

const BUSY: &str =
    "\n\\* Other programs took more than 5 % of the machine meanwhile: to be measured again.\n";

/// Replaces what stands between the marks.
pub fn write(report: &Report, file: &Path) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    let table = table(&report.circumstances(), report.rows());
    let text = replaced(&text, &table).ok_or_else(|| {
        io::Error::other(format!("has no lines {BEGIN:?} and {END:?} to write between"))
    })?;
    fs::write(file, text)
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n\n{table}\n{}", &text[..begin], &text[end..]))
}

fn table(circumstances: &str, rows: &[Row]) -> String {
    let mut table = format!(
        "{circumstances}.\n\n| case | | kernel | uepoll | ratio (lowest .. highest) | wanted |\n|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let busy = if row.busy { " \\*" } else { "" };
        for (index, measured) in row.metrics.iter().enumerate() {
            let name = if index == 0 { row.about.as_str() } else { "the same" };
            // Writing to a String cannot fail.
            let _ = writeln!(table, "| {name}{busy} | {} |", cells(measured));
        }
    }
    if rows.iter().any(|row| row.busy) {
        table.push_str(BUSY);
    }
    table
}

fn cells(measured: &Measured) -> String {
    let ratio = measured.ratio.map_or_else(
        || "-".to_string(),
        |ratio| format!("{:.2} ({:.2} .. {:.2})", ratio.median, ratio.lowest, ratio.highest),
    );
    let wanted = match (measured.metric.wanted, measured.verdict()) {
        (Some(wanted), Some(Verdict::Missed)) => format!("{wanted}: **missed**"),
        (Some(wanted), Some(verdict)) => format!("{wanted}: {}", verdict.said()),
        _ => String::new(),
    };
    format!(
        "{} | {} | {} | {ratio} | {wanted}",
        measured.metric.name,
        figure(measured.native.median),
        figure(measured.preloaded.median)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_between_the_marks() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "new\n").as_deref(), Some(new.as_str()));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
