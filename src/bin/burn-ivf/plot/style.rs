//! How pictures look: size, fonts, the colour-blind safe palette, axes.

use crate::output::{Done, count};
use burn_ivf::io::replace_file;
use plotters::{chart::ChartBuilder, coord::Shift, prelude::*, style::TextStyle};
use std::{io::Write, ops::Range, path::Path};

/// Width and height in pixels.
pub const SIZE: (u32, u32) = (760, 460);

/// Okabe and Ito's palette, darkest first, without yellow, which is too light on white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The colour of a series.
pub fn colour(series: usize) -> RGBColor {
    PALETTE[series % PALETTE.len()]
}

/// Text in dark grey.
pub fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size)
        .into_font()
        .color(&RGBColor(40, 40, 40))
}

/// A chart with room for its words.
pub fn builder<'a, 'b, DB: DrawingBackend>(
    root: &'a DrawingArea<DB, Shift>,
    title: &str,
) -> ChartBuilder<'a, 'b, DB> {
    let mut builder = ChartBuilder::on(root);
    builder
        .caption(title, font(18))
        .margin(14)
        .margin_right(24)
        .x_label_area_size(52)
        .y_label_area_size(84);
    builder
}

/// Axes, their names and a light grid.
macro_rules! decorate {
    ($chart:expr, $x:expr, $y:expr, $ticks:expr, $x_label:expr, $y_label:expr) => {
        $chart
            .configure_mesh()
            .x_desc($x)
            .y_desc($y)
            .x_labels($ticks)
            .y_labels(8)
            .x_label_formatter($x_label)
            .y_label_formatter($y_label)
            .label_style(style::font(13))
            .axis_desc_style(style::font(15))
            .axis_style(RGBColor(120, 120, 120))
            .bold_line_style(RGBColor(222, 222, 222))
            .light_line_style(RGBColor(243, 243, 243))
            .draw()?
    };
}
pub(super) use decorate;

/// `body` with the mark of a series at a place as `shape`: colour is not all that tells series
/// apart. (A macro, as plotters' elements are of a type each.)
macro_rules! mark {
    ($series:expr, $paint:expr, $at:expr, $shape:ident => $body:expr) => {{
        let (paint, at) = ($paint, $at);
        match $series % 3 {
            0 => {
                let $shape = move || Circle::new(at, 4, paint.filled());
                $body;
            }
            1 => {
                let $shape = move || TriangleMarker::new(at, 6, paint.filled());
                $body;
            }
            _ => {
                let $shape = move || Cross::new(at, 5, paint.stroke_width(2));
                $body;
            }
        }
    }};
}
pub(super) use mark;

/// The marks of a series on its points.
macro_rules! points {
    ($chart:expr, $series:expr, $points:expr) => {
        for at in $points {
            mark!($series, colour($series), at, shape => {
                $chart.draw_series(std::iter::once(shape()))?
            });
        }
    };
}
pub(super) use points;

/// A number of an axis.
pub fn label(value: &f64) -> String {
    if value.fract().abs() < 1e-9 || *value >= 100.0 {
        count(value.round().max(0.0) as usize)
    } else {
        format!("{value:.1}")
    }
}

/// A range for a logarithmic axis with some air around the values.
pub fn fitting(values: impl Iterator<Item = f64>) -> Range<f64> {
    let values = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return 1.0..10.0;
    }
    let (mut low, mut high) = (low / 1.4, high * 1.8);
    // Powers of ten carry the labels: one that is near belongs to the picture.
    let (below, above) = (
        10_f64.powf(low.log10().floor()),
        10_f64.powf(high.log10().ceil()),
    );
    if low / below < 1.6 {
        low = below;
    }
    if above / high < 1.6 {
        high = above;
    }
    low..high
}

/// Writes the picture.
pub fn save(path: &Path, svg: &str) -> Done {
    replace_file(path, |file| Ok(file.write_all(svg.as_bytes())?))
}
