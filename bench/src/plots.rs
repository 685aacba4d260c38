//! The same results as pictures: ratios with their spread, and how a wait grows with the number of descriptors.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

use crate::pairs::{Better, Measured, Verdict};
use crate::report::{Report, Row};

const WIDTH: u32 = 1000;
/// Of a row, and of what stands above and below all rows.
const ROW: u32 = 18;
const MARGIN: u32 = 90;
/// For the names of the rows.
const LABELS: u32 = 330;

const CAPTION: (&str, u32) = ("sans-serif", 20);
const TEXT: (&str, u32) = ("sans-serif", 15);
/// Where a ratio is worth a line.
const MARKS: [f64; 13] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0, 10.0, 20.0];

type Line = Vec<(f64, f64)>;
type Drawn = Result<(), Box<dyn Error>>;

/// Writes what there is data for; returns the files.
pub fn write(report: &Report, directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let mut draw = |name: &str, picture: &dyn Fn(&Path) -> Drawn| {
        let file = directory.join(format!("{}-{name}.svg", report.stem()));
        picture(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        files.push(file);
        Ok::<(), String>(())
    };
    for (name, title, better) in [
        ("rates", "per second, preloaded / kernel: to the right is better", Better::Higher),
        ("times", "time, preloaded / kernel: to the left is better", Better::Lower),
    ] {
        let bars = bars(report.rows(), better);
        if !bars.is_empty() {
            draw(name, &|file| ratios(file, title, &bars))?;
        }
    }
    let points = growth(report.rows());
    if points.len() > 1 {
        draw("waits", &|file| waits(file, &points))?;
    }
    Ok(files)
}

struct Bar {
    label: String,
    lowest: f64,
    median: f64,
    highest: f64,
    missed: bool,
}

fn bars(rows: &[Row], better: Better) -> Vec<Bar> {
    let of = |row: &Row, measured: &Measured| -> Option<Bar> {
        let ratio = measured.ratio.filter(|ratio| ratio.lowest > 0.0)?;
        (measured.metric.better == better).then(|| Bar {
            label: format!("{}, {}", row.name, measured.metric.name),
            lowest: ratio.lowest,
            median: ratio.median,
            highest: ratio.highest,
            missed: measured.verdict() == Some(Verdict::Missed),
        })
    };
    let all = rows.iter().flat_map(|row| row.metrics.iter().map(move |metric| (row, metric)));
    all.filter_map(|(row, metric)| of(row, metric)).collect()
}

/// A whisker from the lowest to the highest ratio, and a dot at the median: red where a wanted figure is missed.
fn ratios(file: &Path, title: &str, bars: &[Bar]) -> Drawn {
    let height = MARGIN + ROW * bars.len() as u32;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    // Ratios are compared on a logarithmic scale: half and double are equally far from 1.
    let lowest = bars.iter().map(|bar| bar.lowest).fold(0.5, f64::min) / 1.1;
    let highest = bars.iter().map(|bar| bar.highest).fold(2.0, f64::max) * 1.1;
    let rows = bars.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, CAPTION)
        .margin(12)
        .margin_left(LABELS)
        .margin_bottom(36)
        .build_cartesian_2d((lowest..highest).log_scale(), -0.5..rows - 0.5)?;
    // By hand: a logarithmic axis of plotters has a number only at the powers of ten.
    for mark in MARKS.into_iter().filter(|mark| (lowest..highest).contains(mark)) {
        let color = if mark == 1.0 { BLACK } else { RGBColor(210, 210, 210) };
        let line = [(mark, -0.5), (mark, rows - 0.5)];
        chart.draw_series(LineSeries::new(line, color.stroke_width(1)))?;
        let (x, y) = chart.backend_coord(&(mark, -0.5));
        area.draw(&Text::new(mark.to_string(), (x - 8, y + 6), TEXT))?;
    }
    for (index, bar) in bars.iter().enumerate() {
        // The first row stands at the top.
        let y = rows - 1.0 - index as f64;
        let color = if bar.missed { RED } else { BLUE };
        let whisker = [(bar.lowest, y), (bar.highest, y)];
        chart.draw_series(LineSeries::new(whisker, color.stroke_width(2)))?;
        chart.draw_series([Circle::new((bar.median, y), 4, color.filled())])?;
        let (_, pixel) = chart.backend_coord(&(bar.median, y));
        let label = format!("{}  {:.2}", bar.label, bar.median);
        area.draw(&Text::new(label, (10, pixel - 7), TEXT))?;
    }
    area.present()?;
    Ok(())
}

/// (descriptors, native, preloaded) of the cases `wait-N`.
fn growth(rows: &[Row]) -> Vec<(f64, f64, f64)> {
    let point = |row: &Row| {
        let size = row.name.strip_prefix("wait-")?.parse().ok()?;
        let measured = row.metrics.first()?;
        Some((size, measured.native.median, measured.preloaded.median))
    };
    rows.iter().filter_map(point).collect()
}

fn waits(file: &Path, points: &[(f64, f64, f64)]) -> Drawn {
    let area = SVGBackend::new(file, (WIDTH, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let largest = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let slowest = points.iter().map(|point| point.1.max(point.2)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption("epoll_wait, one ready among N: nanoseconds", CAPTION)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d((0.8..largest * 1.2).log_scale(), 0.0..slowest * 1.15)?;
    chart
        .configure_mesh()
        .label_style(TEXT)
        .x_desc("registered descriptors")
        .x_label_formatter(&|size| format!("{size:.0}"))
        .y_label_formatter(&|time| format!("{time:.0}"))
        .draw()?;
    let native = points.iter().map(|point| (point.0, point.1)).collect();
    let preloaded = points.iter().map(|point| (point.0, point.2)).collect();
    let sides: [(&str, RGBColor, Line); 2] =
        [("kernel", BLACK, native), ("preloaded", BLUE, preloaded)];
    for (name, color, line) in sides {
        let dots = line.iter().map(|point| Circle::new(*point, 4, color.filled()));
        chart.draw_series(dots.collect::<Vec<_>>())?;
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart
        .configure_series_labels()
        .label_font(TEXT)
        .background_style(WHITE)
        .border_style(BLACK)
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_drawn() {
        let scratch = crate::servers::Scratch::new().unwrap();
        let bar = |label: &str, median: f64, missed| Bar {
            label: label.into(),
            lowest: median * 0.9,
            median,
            highest: median * 1.2,
            missed,
        };
        let file = scratch.path().join("ratios.svg");
        ratios(&file, "title", &[bar("good-case", 1.0, false), bar("bad-case", 0.05, true)])
            .unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("<svg") && text.contains("good-case") && text.contains("#FF0000"));

        let file = scratch.path().join("waits.svg");
        waits(&file, &[(1.0, 500.0, 900.0), (9000.0, 510.0, 1000.0)]).unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("preloaded"));
    }
}
