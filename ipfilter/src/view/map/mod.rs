//! The IPv4 space as a picture: who may pass, on a Hilbert curve (SVG 1.1).

mod cells;
mod hilbert;
mod panels;

use std::fmt::{self, Write as _};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use self::{
    cells::{Cells, PARTS},
    panels::Panels,
};
use crate::addresses::{Intervals, words};

/// The side of the map, and what is left of it and above it.
const SIDE: u32 = 1024;
const LEFT: u32 = 16;
const TOP: u32 = 96;

/// The whole picture.
const WIDTH: u32 = LEFT + SIDE + 336;
const HEIGHT: u32 = TOP + SIDE + 16;

/// The side of a /8.
const EIGHTH: u32 = SIDE / 16;

/// How many of the policy's networks are labelled.
const LABELLED: usize = 40;

/// What the picture looks like: in plain colors, which every renderer knows; where a reader prefers dark ones, browsers
/// take those.
const STYLE: &str = "
text{font:13px ui-sans-serif,system-ui,sans-serif;fill:#1a1a1a}
.title{font-size:20px;font-weight:600}.faint{fill:#6f6f6f}.eighth{font-size:10px;opacity:.6}
.page{fill:#fff}.none{fill:#f0f0f0}.grid{stroke:#d2d2d2;fill:none}.pass{fill:#1a7f37}
.mark{stroke:#1a1a1a;fill:none;stroke-width:1.5}.lead{stroke:#1a1a1a;stroke-width:1}
.tag{fill:#fff;stroke:#1a1a1a}.number{font-size:10px;text-anchor:middle}
.list{font-family:ui-monospace,monospace}
@media (prefers-color-scheme:dark){text{fill:#eee}.faint{fill:#8b9099}.page{fill:#16181c}.none{fill:#24272d}\
.grid{stroke:#3a3f47}.pass{fill:#3fb950}.mark,.lead{stroke:#eee}.tag{fill:#16181c;stroke:#eee}}
";

/// A picture of who may pass.
pub struct Map<'a> {
    /// What it is called: the policy's file.
    pub name: &'a str,
    /// When it is so.
    pub now: Timestamp,
    /// Who may pass.
    pub may_pass: &'a Intervals<u32>,
    /// The networks that the policy names.
    pub networks: Vec<Ipv4Net>,
}

impl fmt::Display for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panels = Panels::of(&self.labelled(), self.may_pass);
        let height = HEIGHT + panels.height();
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">"#
        )?;
        let name = escaped(self.name);
        writeln!(f, "<title>{name}: who may pass, IPv4</title>")?;
        writeln!(f, "<style>{STYLE}</style>")?;
        writeln!(
            f,
            r#"<rect class="page" width="{WIDTH}" height="{height}"/>"#
        )?;
        writeln!(f, r#"<text class="title" x="{LEFT}" y="32">{name}</text>"#)?;
        writeln!(f, r#"<text x="{LEFT}" y="54">{}</text>"#, self.summary())?;
        writeln!(
            f,
            r#"<text class="faint" x="{LEFT}" y="76">Hilbert curve from 0.0.0.0, top left, to 255.255.255.255, top right; each square is a /8</text>"#
        )?;
        writeln!(f, r#"<g transform="translate({LEFT} {TOP})">"#)?;
        self.cells(f)?;
        grid(f)?;
        self.marks(f)?;
        writeln!(f, "</g>")?;
        self.list(f)?;
        write!(f, "{panels}")?;
        writeln!(f, "</svg>")
    }
}

impl Map<'_> {
    fn summary(&self) -> String {
        let passing = self.may_pass.count();
        let share = words::share(self.may_pass);
        format!(
            "{passing} IPv4 addresses may pass ({share}), at {:.0}; IPv6 is not drawn",
            self.now
        )
    }

    /// Whom the policy lets pass.
    fn cells(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, r#"<rect class="none" width="{SIDE}" height="{SIDE}"/>"#)?;
        shaded(f, &Cells::of(self.may_pass), SIDE)
    }

    /// The networks that are labelled, the largest first.
    fn labelled(&self) -> Vec<Ipv4Net> {
        let mut networks = self.networks.clone();
        networks.sort_by_key(|network| (network.prefix_len(), network.network()));
        networks.dedup();
        networks.truncate(LABELLED);
        networks
    }

    fn marks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut taken: Vec<(i64, i64)> = Vec::new();
        for (number, network) in (1..).zip(self.labelled()) {
            let (x, y, w, h) = outline(network);
            let (mid_x, mid_y) = (x + w / 2.0, y + h / 2.0);
            let spot = free_spot(mid_x, mid_y, w.min(h), &taken);
            taken.push(spot);
            let (tag_x, tag_y) = spot;
            writeln!(f, "<g><title>{network}: {}</title>", self.says(network))?;
            writeln!(
                f,
                r#"<rect class="mark" x="{x}" y="{y}" width="{w}" height="{h}"/>"#
            )?;
            writeln!(
                f,
                r#"<line class="lead" x1="{mid_x}" y1="{mid_y}" x2="{tag_x}" y2="{tag_y}"/>"#
            )?;
            writeln!(
                f,
                r#"<circle class="tag" cx="{tag_x}" cy="{tag_y}" r="8"/>"#
            )?;
            writeln!(
                f,
                r#"<text class="number" x="{tag_x}" y="{}">{number}</text></g>"#,
                tag_y + 4
            )?;
        }
        Ok(())
    }

    fn list(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = LEFT + SIDE + 24;
        let labelled = self.labelled();
        let title = match self.networks.len() {
            0 => "The policy names no IPv4 network".to_owned(),
            all if all > labelled.len() => {
                format!(
                    "The largest {} of the policy's {all} networks",
                    labelled.len()
                )
            }
            _ => "The policy's networks".to_owned(),
        };
        writeln!(f, r#"<text x="{x}" y="{}">{title}</text>"#, TOP + 12)?;
        let mut y = TOP + 40;
        for (number, network) in (1..).zip(labelled) {
            writeln!(
                f,
                r#"<text class="list" x="{x}" y="{y}" xml:space="preserve">{number:>2}  {:<18}  {}</text>"#,
                network.to_string(),
                self.says(network)
            )?;
            y += 20;
        }
        y += 12;
        for (opacity, what) in [(100, "may pass"), (45, "a part of it may pass")] {
            writeln!(
                f,
                r#"<rect class="none" x="{x}" y="{y}" width="16" height="16"/><rect class="pass" opacity="{}" x="{x}" y="{y}" width="16" height="16"/><text x="{}" y="{}">{what}</text>"#,
                f64::from(opacity) / 100.0,
                x + 24,
                y + 13
            )?;
            y += 24;
        }
        writeln!(
            f,
            r#"<rect class="none" x="{x}" y="{y}" width="16" height="16"/><text x="{}" y="{}">is denied</text>"#,
            x + 24,
            y + 13
        )
    }

    /// How a network is drawn.
    fn says(&self, network: Ipv4Net) -> &'static str {
        let (first, last) = (network.network().to_bits(), network.broadcast().to_bits());
        if self.may_pass.contains_range(first, last) {
            return "passes";
        }
        let whole = Intervals::from_ranges(vec![(first, last)]);
        if self.may_pass.intersection(&whole).is_empty() {
            "denied"
        } else {
            "passes in part"
        }
    }
}

/// A path for each shade, in a square of this side.
fn shaded(f: &mut fmt::Formatter<'_>, cells: &Cells, side: u32) -> fmt::Result {
    let scale = f64::from(side) / f64::from(1_u32 << cells.order);
    for shade in 1..=PARTS + 1 {
        let mut path = String::new();
        for one in cells.rectangles.iter().filter(|one| one.shade == shade) {
            let (x, y, w, h) = (one.x, one.y, one.width, one.height);
            write!(path, "M{x} {y}h{w}v{h}h-{w}z")?;
        }
        if path.is_empty() {
            continue;
        }
        let opacity = match shade {
            _ if shade > PARTS => 100,
            _ => 35 + 10 * u32::from(shade),
        };
        writeln!(
            f,
            r#"<path class="pass" shape-rendering="crispEdges" opacity="{}" transform="scale({scale})" d="{path}"/>"#,
            f64::from(opacity) / 100.0,
        )?;
    }
    Ok(())
}

/// The square or the two squares that a network is on the map, of one pixel at least.
fn outline(network: Ipv4Net) -> (f64, f64, f64, f64) {
    outline_in(Ipv4Net::default(), network, SIDE)
}

/// The same in a square of this side that shows a block, of even length, around the network.
fn outline_in(block: Ipv4Net, network: Ipv4Net, side: u32) -> (f64, f64, f64, f64) {
    // Cells of a quarter of the network or smaller: its corners are among theirs.
    let longer = network.prefix_len().saturating_sub(block.prefix_len());
    let order = u32::from(longer).div_ceil(2).clamp(1, 16);
    let base = block.network().to_bits();
    let bits = (32 - u32::from(block.prefix_len())).saturating_sub(2 * order);
    let [(x1, y1), (x2, y2)] = if longer == 0 {
        [(0, 0), (1, 1)]
    } else {
        [network.network(), network.broadcast()].map(|address| {
            let number = (address.to_bits() - base).checked_shr(bits).unwrap_or(0);
            hilbert::place(order, number)
        })
    };
    let cell = f64::from(side) / f64::from(1_u32 << order);
    let (width, height) = (x1.abs_diff(x2) + 1, y1.abs_diff(y2) + 1);
    (
        f64::from(x1.min(x2)) * cell,
        f64::from(y1.min(y2)) * cell,
        (f64::from(width) * cell).max(1.0),
        (f64::from(height) * cell).max(1.0),
    )
}

/// Where a number fits near a place without covering another, or the place if it is wide.
#[expect(clippy::cast_possible_truncation, reason = "pixels of a small picture")]
fn free_spot(x: f64, y: f64, size: f64, taken: &[(i64, i64)]) -> (i64, i64) {
    let inside = f64::from(SIDE) - 10.0;
    let around = |radius: f64| {
        (0..16_u8).map(move |step| {
            let angle = f64::from(step) * std::f64::consts::TAU / 16.0;
            let spot = (x + radius * angle.cos(), y + radius * angle.sin());
            (
                spot.0.clamp(10.0, inside) as i64,
                spot.1.clamp(10.0, inside) as i64,
            )
        })
    };
    let first = if size >= 24.0 { 0.0 } else { 18.0 };
    let radii = (0..16_u8).map(|ring| first + f64::from(ring) * 16.0);
    let free = |spot: &(i64, i64)| {
        taken
            .iter()
            .all(|other| (spot.0 - other.0).pow(2) + (spot.1 - other.1).pow(2) >= 18 * 18)
    };
    let mut spots = radii.flat_map(around);
    spots.find(free).unwrap_or((x as i64, y as i64))
}

/// Lines between the /8s, and their numbers.
fn grid(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut path = String::new();
    for line in 0..=16 {
        let at = line * EIGHTH;
        write!(path, "M{at} 0v{SIDE}M0 {at}h{SIDE}")?;
    }
    writeln!(f, r#"<path class="grid" d="{path}"/>"#)?;
    for first in 0..=255 {
        let (x, y) = hilbert::place(4, first);
        let (x, y) = (x * EIGHTH + 4, y * EIGHTH + 12);
        writeln!(f, r#"<text class="eighth" x="{x}" y="{y}">{first}</text>"#)?;
    }
    Ok(())
}

/// Text as XML takes it: what it can't hold is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            _ if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_are_where_the_cells_are() {
        for (network, outline) in [
            ("0.0.0.0/0", (0.0, 0.0, 1024.0, 1024.0)),
            ("0.0.0.0/1", (0.0, 0.0, 512.0, 1024.0)),
            ("0.0.0.0/2", (0.0, 0.0, 512.0, 512.0)),
            ("0.0.0.0/8", (0.0, 0.0, 64.0, 64.0)),
            ("255.0.0.0/8", (960.0, 0.0, 64.0, 64.0)),
            ("0.0.0.0/32", (0.0, 0.0, 1.0, 1.0)),
        ] {
            assert_eq!(
                super::outline(network.parse().unwrap()),
                outline,
                "{network}"
            );
        }
    }

    #[test]
    fn colors_are_plain() {
        for map in [Intervals::all(), Intervals::empty()] {
            let map = Map {
                name: "plain",
                now: Timestamp::UNIX_EPOCH,
                may_pass: &map,
                networks: vec!["203.0.113.0/24".parse().unwrap()],
            };
            assert!(!map.to_string().contains("var("));
        }
    }

    #[test]
    fn a_name_can_not_become_markup() {
        let map = Map {
            name: "<script>&\u{1b}",
            now: Timestamp::UNIX_EPOCH,
            may_pass: &Intervals::all(),
            networks: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let text = map.to_string();
        assert!(
            text.contains("&lt;script&gt;&amp;\u{fffd}</text>"),
            "{text}"
        );
        assert!(text.contains("10.0.0.0/8          passes<"), "{text}");
        assert!(text.contains("(all), at 1970-01-01T00:00:00Z"), "{text}");
    }

    #[test]
    fn a_million_networks_make_a_picture_of_less_than_two_megabytes() {
        let networks = (0..1_000_000_u32).map(|number| {
            let first = number.wrapping_mul(2_654_435_761) & !0xff;
            (first, first | 0xff)
        });
        let ranges: Vec<_> = networks.collect();
        let map = Map {
            name: "large",
            now: Timestamp::UNIX_EPOCH,
            networks: ranges
                .iter()
                .map(|(first, _)| Ipv4Net::new((*first).into(), 24).unwrap())
                .collect(),
            may_pass: &Intervals::from_ranges(ranges.clone()),
        };
        let text = map.to_string();
        assert!(text.len() < 2_000_000, "{}", text.len());
        assert!(text.contains("The largest 40 of the policy's 1000000 networks"));
    }
}
