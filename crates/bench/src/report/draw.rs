//! Charts as SVG, for a column as narrow as a phone: names stand above their bars, not beside.
//!
//! Colours are drawn as on paper; the page's style sheet swaps each of them for another in the
//! dark, by its value.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{Bars, Chart, Kind, Line, Picture, Whisker};
use super::figures::{bytes, duration, three};

/// Widths and heights are in units of the view box, which is about a CSS pixel on a phone.
const WIDTH: u32 = 360;
const ROW: u32 = 42;
const AXIS: u32 = 34;
const LEGEND_LINE: u32 = 22;
/// What is free on either side, for the halves of figures at the ends of an axis.
const LEFT: u32 = 26;
/// 13 pixels: the backend divides by 1.24.
const TEXT: f64 = 16.12;
/// How many letters a line has room for.
const LETTERS: usize = 39;

const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);

/// Told apart by those who don't tell red from green, and three times as dark as paper at least.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x91, 0x69),
    RGBColor(0xb4, 0x56, 0x8f),
    RGBColor(0xa6, 0x75, 0x00),
    RGBColor(0x6f, 0x4f, 0xbf),
    RGBColor(0x7a, 0x52, 0x30),
    RGBColor(0x6e, 0x77, 0x81),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// A chart as an `svg` element that is as wide as its surroundings. `id` is unique in the page.
pub fn svg(chart: &Chart, id: &str) -> Result<String, Box<dyn Error>> {
    let (plot, legend) = match &chart.picture {
        Picture::Whiskers(rows) => (rows.len() as u32 * ROW + AXIS, kinds(rows)),
        Picture::Stacked(bars) => (bars.rows.len() as u32 * ROW + AXIS, parts(bars)),
        Picture::Beside(bars) => {
            let row = 22 + 18 * bars.parts.len() as u32;
            (bars.rows.len() as u32 * row + AXIS, parts(bars))
        }
        Picture::Lines(lines) => (280, names(lines)),
    };
    let legend = flow(legend);
    let lines = legend.last().map_or(0, |entry| entry.line + 1);
    let height = plot + lines * LEGEND_LINE + 6;
    let mut drawn = String::new();
    {
        let root = SVGBackend::with_string(&mut drawn, (WIDTH, height)).into_drawing_area();
        let (upper, lower) = root.split_vertically(plot);
        match &chart.picture {
            Picture::Whiskers(rows) => whiskers(&upper, rows)?,
            Picture::Stacked(bars) => stacked(&upper, bars)?,
            Picture::Beside(bars) => beside(&upper, bars)?,
            Picture::Lines(lines) => draw_lines(&upper, lines)?,
        }
        draw_legend(&lower, &legend)?;
        root.present()?;
    }
    let (_, inside) = drawn.split_once('>').ok_or("the chart has no element")?;
    let (title, said) = (html_text(chart.title), html_text(&in_words(&chart.picture)));
    Ok(format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{said}</desc>{inside}"
    ))
}

/// Text as HTML and SVG show it as it is.
pub fn html_text(text: &str) -> String {
    let mut escaped = String::new();
    // Writing to a string can't fail.
    let _ = pulldown_cmark_escape::escape_html(&mut escaped, text);
    escaped
}

/// What a chart shows, for those who can't see it.
fn in_words(picture: &Picture) -> String {
    let rows: Vec<String> = match picture {
        Picture::Whiskers(rows) => rows
            .iter()
            .map(|row| {
                let [min, median, p95] = [row.min, row.median, row.p95].map(duration);
                format!("{}: median {median}, from {min} to {p95}", row.label)
            })
            .collect(),
        Picture::Stacked(bars) => bar_words(bars, duration),
        Picture::Beside(bars) => bar_words(bars, bytes),
        Picture::Lines(lines) => lines
            .iter()
            .map(|line| {
                let points = line.points.iter();
                let points = points.map(|(at, rate)| format!("{} a second at {at}", three(*rate)));
                format!("{}: {}", line.label, points.collect::<Vec<_>>().join(", "))
            })
            .collect(),
    };
    rows.join(". ")
}

fn bar_words(bars: &Bars, said: fn(f64) -> String) -> Vec<String> {
    let row = |(name, values): &(String, Vec<f64>)| {
        let parts = bars.parts.iter().zip(values);
        let parts = parts.map(|(part, value)| format!("{part} {}", said(*value)));
        format!("{name}: {}", parts.collect::<Vec<_>>().join(", "))
    };
    bars.rows.iter().map(row).collect()
}

fn font(colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&colour)
}

fn anchored(horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    font(INK).pos(Pos::new(horizontal, vertical))
}

/// A name, cut to the room that there is beside what is written at its right.
fn beside_of(name: &str, written: &str) -> String {
    let room = LETTERS.saturating_sub(written.chars().count() + 1);
    shortened(name, room.max(8))
}

fn shortened(name: &str, most: usize) -> String {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.chars().count() <= most {
        return name;
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

/// A figure at an axis, without the digits that say nothing there.
fn tick(said: &str) -> String {
    let (number, unit) = said.split_once(' ').unwrap_or((said, ""));
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    if unit.is_empty() { number.to_owned() } else { format!("{number} {unit}") }
}

/// The round numbers, of one significant digit, between two bounds and one beyond each.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let steps: &[f64] = if decades < 1.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        .collect();
    let from = all.iter().rposition(|number| *number <= low).unwrap_or(0);
    let to = all.iter().position(|number| *number >= high).unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

fn whiskers(area: &Area<'_>, rows: &[Whisker]) -> Drawn {
    // Half a nanosecond stands for none, which a logarithm can't show.
    let low = rows.iter().map(|row| row.min).fold(f64::INFINITY, f64::min).max(0.5);
    let high = rows.iter().map(|row| row.p95).fold(low * 2.0, f64::max);
    let ticks = round_numbers(low, high);
    let (from, to) = (ticks[0], ticks[ticks.len() - 1]);
    let mut chart = ChartBuilder::on(area)
        .margin_left(LEFT)
        .margin_right(LEFT)
        .x_label_area_size(AXIS)
        .build_cartesian_2d(
            (from..to).log_scale().with_key_points(ticks),
            rows.len() as f64..0.0,
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .x_label_style(font(INK))
        .x_label_formatter(&|value| tick(&duration(*value)))
        .draw()?;
    for (index, row) in rows.iter().enumerate() {
        let (top, line) = (index as f64 + 0.42, index as f64 + 0.7);
        let colour = COLOURS[row.kind as usize];
        let ends = [row.min, row.p95].map(|end| end.max(low));
        let median = duration(row.median);
        let name = beside_of(&row.label, &median);
        chart.draw_series([
            Text::new(name, (from, top), anchored(HPos::Left, VPos::Bottom)),
            Text::new(median, (to, top), anchored(HPos::Right, VPos::Bottom)),
        ])?;
        let stroke = colour.stroke_width(2);
        chart.draw_series([
            PathElement::new(ends.map(|end| (end, line)).to_vec(), stroke),
            PathElement::new(vec![(ends[0], line - 0.1), (ends[0], line + 0.1)], stroke),
            PathElement::new(vec![(ends[1], line - 0.1), (ends[1], line + 0.1)], stroke),
        ])?;
        chart.draw_series([Circle::new((row.median.max(low), line), 6, colour.filled())])?;
    }
    Ok(())
}

/// Each bar is as long as the others: of two runs of which one takes a hundred times as long, the
/// parts of the other could not be seen.
fn stacked(area: &Area<'_>, bars: &Bars) -> Drawn {
    let shares = |share: f64| format!("{} %", tick(&three(share)));
    horizontal(area, bars, 100.0, &shares, &|values, index| {
        let whole: f64 = values.iter().sum();
        let mut from = 0.0;
        let mut boxes = Vec::new();
        for value in values {
            let (top, share) = (index as f64 + 0.5, value / whole.max(1.0) * 100.0);
            boxes.push([(from, top), (from + share, top + 0.38)]);
            from += share;
        }
        (boxes, duration(whole))
    })
}

fn beside(area: &Area<'_>, bars: &Bars) -> Drawn {
    let most = bars.rows.iter().flat_map(|(_, sizes)| sizes).copied().fold(1.0, f64::max);
    // Round numbers of bytes are no round numbers of MiB, so the axis counts the latter.
    let unit = 1024_f64.powf(most.log(1024.0).floor());
    let count = bars.parts.len() as f64;
    let sizes = |size: f64| tick(&bytes(size * unit));
    horizontal(area, bars, most / unit * 1.02, &sizes, &|values, index| {
        let height = 0.56 / count;
        let boxes = values.iter().enumerate().map(|(part, value)| {
            let top = index as f64 + 0.36 + height * part as f64;
            [(0.0, top), (value.max(0.0) / unit, top + height * 0.85)]
        });
        let said = values.iter().map(|value| bytes(*value)).collect::<Vec<_>>().join(", ");
        (boxes.collect(), said)
    })
}

/// The corners of a bar's boxes, one of each part, and what is written above them.
type Boxes<'a> = &'a dyn Fn(&[f64], usize) -> (Vec<[(f64, f64); 2]>, String);

fn horizontal(
    area: &Area<'_>,
    bars: &Bars,
    end: f64,
    said: &dyn Fn(f64) -> String,
    boxes: Boxes<'_>,
) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin_left(LEFT)
        .margin_right(LEFT)
        .x_label_area_size(AXIS)
        .build_cartesian_2d(0.0..end, bars.rows.len() as f64..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(4)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .x_label_style(font(INK))
        .x_label_formatter(&|value| said(*value))
        .draw()?;
    for (index, (name, values)) in bars.rows.iter().enumerate() {
        let (boxes, written) = boxes(values, index);
        let top = boxes.first().map_or(0.0, |[(_, top), _]| top - 0.06);
        let name = beside_of(name, &written);
        chart.draw_series([
            Text::new(name, (0.0, top), anchored(HPos::Left, VPos::Bottom)),
            Text::new(written, (end, top), anchored(HPos::Right, VPos::Bottom)),
        ])?;
        chart.draw_series(boxes.into_iter().enumerate().map(|(part, corners)| {
            Rectangle::new(corners, COLOURS[part % COLOURS.len()].filled())
        }))?;
    }
    Ok(())
}

fn draw_lines(area: &Area<'_>, lines: &[Line]) -> Drawn {
    let points = || lines.iter().flat_map(|line| &line.points);
    let mut ticks: Vec<f64> = points().map(|(at_once, _)| (*at_once).max(1) as f64).collect();
    ticks.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else { return Ok(()) };
    let (from, to) = (first / 1.15, last * 1.15);
    // Closer together, their figures would run into each other.
    ticks.dedup_by(|next, kept| *next < *kept * 1.4);
    let most = points().map(|(_, rate)| *rate).fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .margin_top(10)
        .margin_right(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((from..to).log_scale().with_key_points(ticks), 0.0..most)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .y_labels(5)
        .x_desc("at once")
        .axis_desc_style(font(INK))
        .label_style(font(INK))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{}/s", tick(&three(*value))))
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<_> =
            line.points.iter().map(|(at_once, rate)| ((*at_once).max(1) as f64, *rate)).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(3)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 5, colour.filled())))?;
    }
    Ok(())
}

/// A colour's meaning, and where it stands.
struct Entry {
    colour: RGBColor,
    said: String,
    line: u32,
    left: u32,
}

fn kinds(rows: &[Whisker]) -> Vec<(RGBColor, String)> {
    [(Kind::Bare, "bare"), (Kind::Ours, "agentkernel"), (Kind::Beside, "other tools")]
        .into_iter()
        .filter(|(kind, _)| rows.iter().any(|row| row.kind == *kind))
        .map(|(kind, said)| (COLOURS[kind as usize], said.to_owned()))
        .collect()
}

fn parts(bars: &Bars) -> Vec<(RGBColor, String)> {
    COLOURS.into_iter().cycle().zip(bars.parts.iter().map(|part| (*part).to_owned())).collect()
}

fn names(lines: &[Line]) -> Vec<(RGBColor, String)> {
    let names = lines.iter().map(|line| shortened(&line.label, LETTERS - 6));
    COLOURS.into_iter().cycle().zip(names).collect()
}

/// Puts as many entries on a line as there is room for, by a wide guess at letters.
fn flow(entries: Vec<(RGBColor, String)>) -> Vec<Entry> {
    let (mut line, mut left) = (0, LEFT);
    let mut placed = Vec::new();
    for (colour, said) in entries {
        let width = 18 + said.chars().count() as u32 * 15 / 2 + 14;
        if left > LEFT && left + width > WIDTH {
            (line, left) = (line + 1, LEFT);
        }
        placed.push(Entry { colour, said, line, left });
        left += width;
    }
    placed
}

fn draw_legend(area: &Area<'_>, legend: &[Entry]) -> Drawn {
    for Entry { colour, said, line, left } in legend {
        let (x, y) = (i32::try_from(*left)?, i32::try_from(line * LEGEND_LINE)? + 5);
        area.draw(&Rectangle::new([(x, y), (x + 12, y + 12)], colour.filled()))?;
        let style = anchored(HPos::Left, VPos::Center);
        area.draw(&Text::new(said.as_str(), (x + 18, y + 6), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_reaches_past_what_it_shows() {
        assert_eq!(round_numbers(640.0, 3400.0), [500.0, 1000.0, 2000.0, 5000.0]);
        assert_eq!(round_numbers(1000.0, 1000.0), [1000.0]);
        assert_eq!(round_numbers(50.0, 5e6), [10.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7]);
    }

    #[test]
    fn names_are_cut_by_characters() {
        assert_eq!(shortened("ääää", 4), "ääää");
        assert_eq!(shortened("äääää", 4), "äää…");
        assert_eq!(tick("2.00 ms"), "2 ms");
        assert_eq!(tick("200 ms"), "200 ms");
    }
}
