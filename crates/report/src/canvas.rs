//! Where the library draws: an SVG picture in the page's own colours and font.
//!
//! The library places on whole numbers, so sizes here are in tenths of a pixel. It writes fixed colours, so each role
//! that the style sheet knows has a colour of its own while it draws; `painted` makes classes of them.

use evenkeel_record::Estimate;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::prelude::{
    ChartBuilder, Color, IntoDrawingArea, IntoFont, RGBColor, SVGBackend, ShapeStyle, TRANSPARENT,
    TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::axis::Axis;
use crate::html::escape;

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;
pub type Failure = DrawingAreaErrorKind<std::io::Error>;

/// The width of every figure. A phone shows it at three quarters of its size.
pub const WIDTH: u32 = 4400;
/// The size of text, and the width of a digit in wide fonts.
pub const TEXT: u32 = 130;
const CHARACTER: u32 = 83;
const TICK: u32 = 40;
/// Below the axis, for labels and its name.
pub const BOTTOM: u32 = 450;
pub const SIDE: u32 = 210;

/// What a mark is for; the style sheet gives it a colour in light and in dark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    Text,
    /// Text over lines, strong and quiet.
    Name,
    Beside,
    Axis,
    Grid,
    Zero,
    Gap,
    Bar,
    Train,
    Test,
    Plain,
    Faint,
    Arm(usize),
}

/// Arms that have a colour.
pub const ARMS: usize = 8;

const ROLES: [(Role, &str); 12 + ARMS] = [
    (Role::Text, "text"),
    (Role::Name, "name"),
    (Role::Beside, "beside"),
    (Role::Axis, "axis"),
    (Role::Grid, "grid"),
    (Role::Zero, "zero"),
    (Role::Gap, "gap"),
    (Role::Bar, "bar"),
    (Role::Train, "train"),
    (Role::Test, "test"),
    (Role::Plain, "plain"),
    (Role::Faint, "faint"),
    (Role::Arm(0), "arm0"),
    (Role::Arm(1), "arm1"),
    (Role::Arm(2), "arm2"),
    (Role::Arm(3), "arm3"),
    (Role::Arm(4), "arm4"),
    (Role::Arm(5), "arm5"),
    (Role::Arm(6), "arm6"),
    (Role::Arm(7), "arm7"),
];

impl Role {
    /// Arms behind those that have a colour are faint.
    pub fn arm(index: usize) -> Self {
        match index {
            0..ARMS => Self::Arm(index),
            _ => Self::Faint,
        }
    }

    fn index(self) -> usize {
        ROLES
            .iter()
            .position(|(role, _)| *role == self)
            .unwrap_or(0)
    }

    /// In the style sheet.
    pub fn class(self) -> &'static str {
        ROLES[self.index()].1
    }

    /// What it is drawn with until it is painted.
    pub fn color(self) -> RGBColor {
        RGBColor(1, 2, self.index() as u8)
    }

    pub fn line(self) -> ShapeStyle {
        match self {
            Self::Faint => self.color().mix(0.5).stroke_width(10),
            Self::Grid | Self::Axis => self.color().stroke_width(10),
            Self::Zero => self.color().stroke_width(14),
            _ => self.color().stroke_width(24),
        }
    }

    pub fn text(self, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
        // The library divides the size by this.
        let font = ("sans-serif", 1.24 * f64::from(TEXT)).into_font();
        TextStyle {
            font,
            color: self.color().to_backend_color(),
            pos: Pos::new(horizontal, vertical),
        }
    }
}

/// What `draw` draws, as an element with `alternative` for those who cannot see it.
pub fn picture(
    height: u32,
    alternative: &str,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let mut drawn = String::new();
    {
        let area = SVGBackend::with_string(&mut drawn, (WIDTH, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    Ok(painted(&drawn, height, alternative))
}

/// The ends of an interval that can be drawn.
pub fn ends(estimate: Estimate) -> Option<(f64, f64)> {
    let interval = estimate.interval?;
    (!interval.low.is_nan() && !interval.high.is_nan()).then_some((interval.low, interval.high))
}

/// Makes the library's SVG part of the page: roles instead of colours, the page's font, no size of its own, and a text
/// alternative. Nothing in a text is mistaken for an attribute, since the library escapes quotes.
fn painted(drawn: &str, height: u32, alternative: &str) -> String {
    let marks = drawn.split_once('>').map_or("", |(_, marks)| marks);
    let mut marks = marks
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "")
        // The library turns text by quarters only, and names below an axis are easier to read aslant.
        .replace("\"rotate(270, ", "\"rotate(-32, ");
    for (role, class) in ROLES {
        let RGBColor(red, green, blue) = role.color();
        let color = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        for kind in ["fill", "stroke"] {
            let attribute = format!(" {kind}={color}");
            marks = marks.replace(&attribute, &format!(" class=\"{kind} {class}\""));
        }
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">{marks}",
        escape(alternative)
    )
}

/// Which ticks have lines across the picture.
#[derive(Clone, Copy, PartialEq)]
pub enum Grid {
    X,
    Y,
}

/// The axes of a chart, and the room around it.
pub struct Frame<'a> {
    pub x: Axis,
    pub y: Axis,
    /// Below the horizontal axis.
    pub name: &'a str,
    pub grid: Grid,
    pub top: u32,
    pub bottom: u32,
}

impl Frame<'_> {
    /// Draws axes, ticks and grid. What is drawn on the chart then is in the axes' own values.
    pub fn draw<'a>(self, area: &Area<'a>) -> Result<Chart<'a>, Failure> {
        let left = match self.y.longest() {
            0 => SIDE,
            longest => CHARACTER * longest as u32 + 2 * TICK + 40,
        };
        let labelled = self.y.longest() > 0;
        let mut chart = ChartBuilder::on(area)
            .margin_top(self.top)
            .margin_right(SIDE)
            .x_label_area_size(self.bottom)
            .y_label_area_size(left)
            .build_cartesian_2d(self.x, self.y)?;
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(Role::Grid.line())
            .light_line_style(TRANSPARENT)
            .axis_style(Role::Axis.line())
            .set_all_tick_mark_size(TICK)
            .label_style(Role::Text.text(HPos::Center, VPos::Top))
            .axis_desc_style(Role::Text.text(HPos::Center, VPos::Bottom));
        if !self.name.is_empty() {
            mesh.x_desc(self.name);
        }
        match self.grid {
            Grid::X => mesh.disable_y_mesh(),
            Grid::Y => mesh.disable_x_mesh(),
        };
        if !labelled {
            mesh.disable_y_axis();
        }
        mesh.draw()?;
        Ok(chart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_roles_and_texts_stay_texts() {
        let hostile = "\" fill=\"#010200\" <script> rotate(270, ";
        let svg = picture(100, hostile, |area| {
            for (role, _) in ROLES {
                area.draw_text(hostile, &role.text(HPos::Left, VPos::Top), (0, 0))?;
            }
            Ok(())
        });
        let svg = svg.unwrap();
        for (_, class) in ROLES {
            assert!(svg.contains(&format!("class=\"fill {class}\"")), "{class}");
        }
        assert!(!svg.contains("=\"#") && !svg.contains("<script"), "{svg}");
        assert!(svg.contains("&quot; fill=&quot;#010200&quot; &lt;script&gt; rotate(270, "));
        assert!(!svg.contains("xmlns") && !svg.contains("font-family") && !svg.contains(" width="));
    }
}
