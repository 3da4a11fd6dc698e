//! What all plots share: paper, colours, legend, axes, and turning a picture into files.
//!
//! Pictures are drawn once, as SVG, and rendered to PNG from that. The PNG's font is compiled in, so that it looks the
//! same on a machine without fonts.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use crate::report::table::title;

/// Where is drawn.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What may go wrong while drawing.
pub(super) type Outcome = Result<(), String>;

/// One line or set of bars.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// The server.
    pub(super) server: String,
    /// What the legend calls it.
    pub(super) label: String,
    /// In the axes' own units.
    pub(super) points: Vec<(f64, f64)>,
}

/// An axis: how far it goes, where it has labels, and what they say.
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) range: Range<f64>,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From nothing to a little more than the greatest of `values`, with round labels.
    pub(super) fn linear(title: &str, values: impl Iterator<Item = f64>) -> Self {
        let top = values.fold(0.0, f64::max).max(1e-9) * 1.08;
        let rough = top / 5.0;
        let size = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|one| one * size).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * size);
        let ticks = (0..).map(|nth| f64::from(nth) * step).take_while(|tick| *tick <= top);
        Self { title: title.to_owned(), range: 0.0..top, ticks: ticks.map(|at| (at, tick(at))).collect() }
    }

    /// Upwards for `curves`, whose points are moved to where they lie on it. Linear and from nothing, so that a height is
    /// an amount and calm looks calm; in powers of ten only where one great value would leave all others on the ground.
    pub(super) fn up(title: &str, curves: &mut [Curve]) -> Self {
        let mut values: Vec<f64> =
            curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1)).collect();
        if !is_wide(&mut values) {
            return Self::linear(title, values.into_iter());
        }
        let place = |value: f64| value.max(LEAST).log10();
        for (_, value) in curves.iter_mut().flat_map(|curve| &mut curve.points) {
            *value = place(*value);
        }
        Self::powers(&format!("{title} (each step ten times the last)"), values.into_iter().map(place))
    }

    /// Around `values`, which are logarithms already, with labels at powers of ten, and between few of them at the steps
    /// in between.
    pub(super) fn powers(title: &str, values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).clamp(-9.0, 9.0);
        let most = values.fold(f64::NEG_INFINITY, f64::max).clamp(least, 10.0);
        let steps = || {
            let powers = (0..21).map(|nth| least.floor() + f64::from(nth));
            powers.flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powf(power)))
        };
        // The last step below everything, but for what rounding adds.
        let low = steps().map(f64::log10).take_while(|step| *step <= least + 1e-9).last().unwrap_or(least);
        let range = low..(most + 0.1).max(low + 0.7);
        let is_short = range.end - range.start < 2.6;
        let is_power = |value: &f64| (value.log10() - value.log10().round()).abs() < 1e-9;
        let ticks =
            steps().filter(|value| is_short || is_power(value)).map(|value| (value.log10(), tick(value)));
        let is_inside = |(place, _): &(f64, String)| (range.start - 1e-9..=range.end).contains(place);
        Self { title: title.to_owned(), ticks: ticks.filter(is_inside).collect(), range }
    }
}

/// Whether the greatest of `values` is so far above the middle one that half of them would lie on the ground.
fn is_wide(values: &mut [f64]) -> bool {
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2).copied().unwrap_or(0.0);
    values.last().is_some_and(|greatest| *greatest > SPREAD_MAX * middle.max(LEAST))
}

/// How many times the middle value fits below the greatest on a linear axis.
const SPREAD_MAX: f64 = 20.0;
/// What is less is drawn like it, where there is no place for nothing.
const LEAST: f64 = 1e-3;

/// The paper with a headline and a legend; `plot` gets what is left below.
pub(super) fn picture(
    file: &Path,
    headline: &str,
    curves: &[Curve],
    height: u32,
    plot: impl FnOnce(&Area) -> Outcome,
) -> Result<Vec<PathBuf>, String> {
    let mut svg = String::new();
    {
        let paper = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paper.fill(&WHITE).map_err(text)?;
        let lines = legend(curves);
        let head = HEADLINE + LEGEND_LINE * i32::try_from(lines.len()).unwrap_or(1) + 6;
        write(&paper, headline, (LEFT, 14), (20, INK), HPos::Left)?;
        for (nth, line) in lines.iter().enumerate() {
            let y = HEADLINE + LEGEND_LINE * i32::try_from(nth).unwrap_or(0);
            for (x, curve) in line {
                let square = [(*x, y + 3), (x + 14, y + 17)];
                paper.draw(&Rectangle::new(square, color(&curve.server).filled())).map_err(text)?;
                write(&paper, &curve.label, (x + 20, y + 4), (14, INK), HPos::Left)?;
            }
        }
        let (_, below) = paper.split_vertically(head);
        plot(&below)?;
        paper.present().map_err(text)?;
    }
    save(file, &svg)
}

/// Draws `curves` as lines over both axes.
pub(super) fn lines(area: &Area, across: &Axis, up: &Axis, curves: &[Curve]) -> Outcome {
    let frame = Frame::draw(area, across, up)?;
    // Ours last, so that it lies on top.
    let mut order: Vec<&Curve> = curves.iter().collect();
    order.sort_by_key(|curve| curve.server == OURS);
    for curve in order {
        let width = if curve.server == OURS { 4 } else { 2 };
        let points: Vec<(i32, i32)> = curve.points.iter().map(|(x, y)| frame.at(*x, *y)).collect();
        let style = color(&curve.server).stroke_width(width);
        if let [only] = points.as_slice() {
            area.draw(&Circle::new(*only, 4, color(&curve.server).filled())).map_err(text)?;
        }
        area.draw(&PathElement::new(points, style)).map_err(text)?;
    }
    Ok(())
}

/// The box that data is drawn in.
pub(super) struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    across: Range<f64>,
    up: Range<f64>,
}

impl Frame {
    /// Draws grid, labels and titles.
    pub(super) fn draw(area: &Area, across: &Axis, up: &Axis) -> Result<Self, String> {
        let (width, height) = area.dim_in_pixel();
        let (width, height) = (i32::try_from(width).unwrap_or(0), i32::try_from(height).unwrap_or(0));
        let frame = Self {
            left: LEFT + 66,
            right: width - 28,
            top: 34,
            bottom: height - 56,
            across: across.range.clone(),
            up: up.range.clone(),
        };
        write(area, &up.title, (LEFT, 8), (14, SOFT), HPos::Left)?;
        write(area, &across.title, (frame.right, height - 24), (14, SOFT), HPos::Right)?;
        for (value, label) in &up.ticks {
            let (_, y) = frame.at(across.range.start, *value);
            area.draw(&PathElement::new(vec![(frame.left, y), (frame.right, y)], GRID)).map_err(text)?;
            write(area, label, (frame.left - 10, y - 6), (14, SOFT), HPos::Right)?;
        }
        for (value, label) in &across.ticks {
            let (x, _) = frame.at(*value, up.range.start);
            area.draw(&PathElement::new(vec![(x, frame.top), (x, frame.bottom)], GRID)).map_err(text)?;
            write(area, label, (x, frame.bottom + 8), (14, SOFT), HPos::Center)?;
        }
        let corner = vec![(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)];
        area.draw(&PathElement::new(corner, SOFT)).map_err(text)?;
        Ok(frame)
    }

    /// Where a value lies on the paper.
    pub(super) fn at(&self, x: f64, y: f64) -> (i32, i32) {
        let share = |value: f64, range: &Range<f64>| {
            ((value - range.start) / (range.end - range.start)).clamp(0.0, 1.0)
        };
        let x = f64::from(self.left) + share(x, &self.across) * f64::from(self.right - self.left);
        let y = f64::from(self.bottom) - share(y, &self.up) * f64::from(self.bottom - self.top);
        (pixel(x), pixel(y))
    }
}

/// Writes one line of text, its upper edge at `at`.
pub(super) fn write(
    area: &Area,
    line: &str,
    at: (i32, i32),
    (size, ink): (u32, RGBColor),
    anchor: HPos,
) -> Outcome {
    let style = ("sans-serif", size).into_font().color(&ink).pos(Pos::new(anchor, VPos::Top));
    area.draw(&Text::new(line, at, style)).map_err(text)
}

/// The colour of a server, the same in all plots.
pub(super) fn color(server: &str) -> RGBColor {
    match server {
        OURS => RGBColor(0, 109, 178),
        "floor" => RGBColor(130, 130, 130),
        "floor-tick" => RGBColor(180, 180, 180),
        "axum" => RGBColor(213, 94, 0),
        "go" => RGBColor(0, 172, 150),
        "node" => RGBColor(106, 168, 40),
        "nchan" => RGBColor(204, 81, 160),
        "pushpin" => RGBColor(222, 170, 0),
        _ => RGBColor(90, 80, 160),
    }
}

/// A curve of `server`, called by its title.
pub(super) fn curve(server: &str, points: Vec<(f64, f64)>) -> Curve {
    Curve { server: server.to_owned(), label: title(server).to_owned(), points }
}

/// A number on an axis.
pub(super) fn tick(value: f64) -> String {
    let text = if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 10_000.0 {
        format!("{}k", value / 1e3)
    } else {
        format!("{value:.4}")
    };
    if text.contains('.') && !text.ends_with(['k', 'M']) {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Whatever the backend has to say.
pub(super) fn text(err: impl std::fmt::Display) -> String {
    format!("can't draw: {err}")
}

/// A place on the paper.
#[expect(clippy::cast_possible_truncation, reason = "the paper has hundreds of pixels")]
pub(super) fn pixel(value: f64) -> i32 {
    value.round() as i32
}

/// Where each entry of the legend goes, line by line.
fn legend(curves: &[Curve]) -> Vec<Vec<(i32, &Curve)>> {
    let mut lines = vec![Vec::new()];
    let mut x = LEFT;
    for curve in curves {
        // A little more than letters need, as fonts differ.
        let width = 46 + 9 * i32::try_from(curve.label.chars().count()).unwrap_or(0);
        if x + width > i32::try_from(WIDTH).unwrap_or(0) {
            lines.push(Vec::new());
            x = LEFT;
        }
        if let Some(line) = lines.last_mut() {
            line.push((x, curve));
        }
        x += width;
    }
    lines
}

/// Writes `file` with the endings svg and png.
fn save(file: &Path, svg: &str) -> Result<Vec<PathBuf>, String> {
    let files = ["svg", "png"].map(|ending| file.with_extension(ending));
    fs::write(&files[0], svg).map_err(|err| format!("{}: {err}", files[0].display()))?;
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let tree = usvg::Tree::from_str(svg, &options).map_err(text)?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("can't draw: no size")?;
    let mut image = tiny_skia::Pixmap::new(size.width(), size.height()).ok_or("can't draw: no size")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut image.as_mut());
    image.save_png(&files[1]).map_err(|err| format!("{}: {err}", files[1].display()))?;
    Ok(files.to_vec())
}

/// The server that stands out.
pub(super) const OURS: &str = "tidegate";
pub(super) const INK: RGBColor = RGBColor(30, 34, 40);
pub(super) const SOFT: RGBColor = RGBColor(90, 96, 104);
pub(super) const GRID: RGBColor = RGBColor(228, 231, 235);
const WIDTH: u32 = 960;
const LEFT: i32 = 22;
const HEADLINE: i32 = 48;
const LEGEND_LINE: i32 = 26;
/// Pixels of the PNG for each of the picture, for sharp screens.
const SCALE: f32 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn axes_begin_and_end_close_to_the_values_and_have_round_labels() {
        let linear = Axis::linear("", [0.0, 19_000.0].into_iter());
        assert_eq!(labels(&linear), ["0", "5000", "10k", "15k", "20k"]);
        let short = Axis::powers("", [0.66_f64, 7.7].map(f64::log10).into_iter());
        assert_eq!(labels(&short), ["0.5", "1", "2", "5"]);
        let long = Axis::powers("", [1.0_f64, 3_000.0].map(f64::log10).into_iter());
        assert_eq!(labels(&long), ["1", "10", "100", "1000"]);
        let single = Axis::powers("", [1.0].into_iter());
        assert!(single.range.contains(&1.0) && !single.ticks.is_empty());
    }

    /// What went up and down between 4 and 6 ms filled a logarithmic axis from top to bottom.
    #[test]
    fn an_axis_is_linear_unless_the_spread_needs_more() {
        let drawn = |values: &[f64]| {
            let points = values.iter().map(|value| (0.0, *value)).collect();
            let mut curves = [curve("tidegate", points)];
            let axis = Axis::up("ms", &mut curves);
            (axis, curves[0].points.iter().map(|point| point.1).collect::<Vec<_>>())
        };
        let (calm, values) = drawn(&[4.1, 5.9, 4.4, 5.2]);
        assert_eq!(values, [4.1, 5.9, 4.4, 5.2]);
        assert!(calm.range.start.abs() < 1e-9 && calm.range.end < 7.0, "{:?}", calm.range);
        let (wide, values) = drawn(&[1.0, 10.0, 10_000.0]);
        assert_eq!(values, [0.0, 1.0, 4.0]);
        assert!(labels(&wide).contains(&"1000") && wide.title.contains("ten times"), "{:?}", wide.ticks);
        // Twenty times is the most that fits.
        assert!(!is_wide(&mut [1.0, 1.0, 20.0]) && is_wide(&mut [1.0, 1.0, 20.1]));
        assert!(!is_wide(&mut []) && !is_wide(&mut [0.0, 0.0]));
    }

    #[test]
    fn a_long_legend_takes_another_line_and_stays_on_the_paper() {
        let curves: Vec<Curve> =
            (0..9).map(|nth| curve(&format!("a longer name {nth}"), Vec::new())).collect();
        let lines = legend(&curves);
        assert_eq!(lines.iter().map(Vec::len).sum::<usize>(), 9);
        assert!(lines.len() > 1);
        assert!(lines.iter().flatten().all(|(x, _)| *x < 760), "room for a name");
    }
}
