//! Pictures as SVG: what each shows. How they look is `style.rs`.

mod records;
mod style;

pub use records::{Record, read, series};

use crate::{
    args::Plot,
    output::{Done, Failure, Out, count, fail},
    outputs,
};
use plotters::prelude::*;
use serde_json::json;
use std::path::{Path, PathBuf};
use style::{SIZE, colour, decorate, fitting, label, mark, points, save};

/// One setting: what it finds and how quickly.
pub struct Tradeoff {
    pub name: String,
    pub recall: f64,
    pub qps: f64,
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn drawing(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("the picture could not be drawn: {error}"))
}

/// The command `plot`.
pub fn from_records(args: &Plot, out: &mut Out) -> Done {
    outputs::check(args.records.iter().map(PathBuf::as_path), [Some(&args.out)])?;
    let mut all = Vec::new();
    for path in &args.records {
        all.extend(read(path)?);
    }
    if all.is_empty() {
        return fail(
            "no line of these files has \"library\", \"nq\" and \"qps\"; pass the output of `burn-ivf bench --json` or `cargo bench --bench sweep`",
        );
    }
    throughput(&args.out, &args.title, &all)?;
    let value = json!({ "out": args.out, "records": all.len() });
    out.report(
        &value,
        format!("{} records drawn to {}", all.len(), args.out.display()),
    )
}

/// Queries per second against queries at once, a line per series; both axes logarithmic.
pub fn throughput(path: &Path, title: &str, records: &[Record]) -> Done {
    let lines = records::lines(records);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let x = fitting(points().map(|p| p.0));
    let y = fitting(points().map(|p| p.1));
    let mut svg = String::new();
    let draw = |svg: &mut String| -> Drawn {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart =
            style::builder(&root, title).build_cartesian_2d(x.log_scale(), y.log_scale())?;
        decorate!(
            chart,
            "queries at once",
            "queries per second (log scale)",
            12,
            &label,
            &label
        );
        for (i, (name, points)) in lines.iter().enumerate() {
            let paint = colour(i);
            let line = LineSeries::new(points.iter().copied(), paint.stroke_width(2));
            let legend = chart.draw_series(line)?.label(name);
            let dash = move || PathElement::new([(0, 0), (22, 0)], paint.stroke_width(2));
            mark!(i, paint, (11, 0), shape => {
                legend.legend(move |at| EmptyElement::at(at) + dash() + shape())
            });
            points!(chart, i, points.iter().copied());
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .legend_area_size(30)
            .margin(10)
            .background_style(WHITE.mix(0.9))
            .border_style(RGBColor(200, 200, 200))
            .label_font(style::font(14))
            .draw()?;
        root.present()?;
        Ok(())
    };
    draw(&mut svg).map_err(drawing)?;
    save(path, &svg)
}

/// Recall against queries per second, every point with its setting.
pub fn tradeoff(path: &Path, k: usize, points: &[Tradeoff]) -> Done {
    let least = points.iter().map(|p| p.recall).fold(1.0, f64::min);
    let left = ((least - 0.03).max(0.0) * 20.0).floor() / 20.0;
    let y = fitting(points.iter().map(|p| p.qps));
    let mut svg = String::new();
    let draw = |svg: &mut String| -> Drawn {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let short = points
            .iter()
            .all(|p| p.name.starts_with("nprobe=") && !p.name.contains(','));
        let numbers = if short { " (numbers: nprobe)" } else { "" };
        let title = format!("Recall@{k} against queries per second{numbers}");
        let right = 1.0 + (1.0 - left) * 0.03;
        let mut chart =
            style::builder(&root, &title).build_cartesian_2d(left..right, y.log_scale())?;
        let x_label = |x: &f64| {
            if *x > 1.0 + 1e-9 {
                String::new()
            } else {
                format!("{x:.2}")
            }
        };
        let x_name = format!("recall@{k} (share of true neighbours found)");
        decorate!(
            chart,
            x_name,
            "queries per second (log scale)",
            10,
            &x_label,
            &label
        );
        let mut sorted: Vec<&Tradeoff> = points.iter().collect();
        sorted.sort_by(|a, b| a.recall.total_cmp(&b.recall));
        let paint = colour(0);
        let line = sorted.iter().map(|p| (p.recall, p.qps));
        chart.draw_series(LineSeries::new(line.clone(), paint.stroke_width(2)))?;
        points!(chart, 0, line);
        // A name is left out where it would touch the one before.
        let mut last: Option<(i32, i32)> = None;
        for point in sorted {
            let at = (point.recall, point.qps);
            let name = if short {
                point.name["nprobe=".len()..].to_owned()
            } else {
                point.name.clone()
            };
            let room = 7 * name.chars().count() as i32;
            let (px, py) = chart.backend_coord(&at);
            if last.is_some_and(|(x, y)| (px - x).abs() < room + 14 && (py - y).abs() < 17) {
                continue;
            }
            last = Some((px, py));
            // Left of and below a falling curve, but inside the picture.
            let shift = if px - 90 < room { 6 } else { -6 - room };
            let text = Text::new(name, (shift, 5), style::font(13));
            chart.draw_series(std::iter::once(EmptyElement::at(at) + text))?;
        }
        root.present()?;
        Ok(())
    };
    draw(&mut svg).map_err(drawing)?;
    save(path, &svg)
}

/// How many lists hold how many vectors.
pub fn lists(path: &Path, sizes: &[usize]) -> Done {
    let most = sizes.iter().copied().max().unwrap_or(0);
    let width = (most / 40 + 1).max(1);
    let mut bars = vec![0_usize; most / width + 1];
    for size in sizes {
        bars[size / width] += 1;
    }
    let highest = bars.iter().copied().max().unwrap_or(1);
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64;
    let mut svg = String::new();
    let draw = |svg: &mut String| -> Drawn {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!(
            "Sizes of {} lists ({} vectors, dashed: mean {mean:.0})",
            count(sizes.len()),
            count(sizes.iter().sum())
        );
        let top = highest as f64 * 1.06;
        let end = ((bars.len() * width) as f64).max(1.0);
        let mut chart = style::builder(&root, &title).build_cartesian_2d(0.0..end, 0.0..top)?;
        let y_name = format!("lists (per {} vectors)", count(width));
        decorate!(chart, "vectors in a list", y_name, 10, &label, &label);
        chart.draw_series(
            bars.iter()
                .enumerate()
                .filter(|(_, n)| **n > 0)
                .map(|(i, n)| {
                    let (from, to) = ((i * width) as f64, ((i + 1) * width) as f64);
                    let gap = width as f64 * 0.06;
                    Rectangle::new(
                        [(from + gap, 0.0), (to - gap, *n as f64)],
                        colour(0).filled(),
                    )
                }),
        )?;
        chart.draw_series(DashedLineSeries::new(
            [(mean, 0.0), (mean, top)],
            6,
            4,
            colour(1).stroke_width(2),
        ))?;
        root.present()?;
        Ok(())
    };
    draw(&mut svg).map_err(drawing)?;
    save(path, &svg)
}
