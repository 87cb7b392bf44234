//! What the policy names, enlarged: on the whole map a /24 is a dot.

use std::fmt;

use ipnet::Ipv4Net;

use super::{HEIGHT, LEFT, cells::Cells, outline_in, shaded};
use crate::addresses::Intervals;

/// The side of a panel, and the space around one.
const SIDE: u32 = 248;
const GAP: u32 = 24;

/// For a panel's name.
const HEAD: u32 = 24;

/// In a row, and in all.
const COLUMNS: u32 = 5;
const MOST: usize = 10;

/// Networks up to this length are large enough on the whole map.
const SMALL: u8 = 10;

/// How much longer a network's prefix is than that of the block around it: it takes a sixteenth of the side.
const AROUND: u8 = 8;

/// The finest grid of a panel.
const ORDER: u32 = 8;

/// Enlarged blocks.
pub(super) struct Panels<'a> {
    blocks: Vec<(Ipv4Net, Vec<Ipv4Net>)>,
    may_pass: &'a Intervals<u32>,
}

impl<'a> Panels<'a> {
    /// A panel for each block with networks that would be dots on the whole map, the first of them first.
    pub(super) fn of(networks: &[Ipv4Net], may_pass: &'a Intervals<u32>) -> Self {
        let mut blocks: Vec<(Ipv4Net, Vec<Ipv4Net>)> = Vec::new();
        for network in networks
            .iter()
            .filter(|network| network.prefix_len() > SMALL)
        {
            if let Some((_, inside)) = blocks.iter_mut().find(|(block, _)| block.contains(network))
            {
                inside.push(*network);
            } else if blocks.len() < MOST {
                blocks.extend(around(*network).map(|block| (block, vec![*network])));
            }
        }
        Self { blocks, may_pass }
    }

    /// What they add to the picture.
    pub(super) fn height(&self) -> u32 {
        let rows = u32::try_from(self.blocks.len())
            .unwrap_or(0)
            .div_ceil(COLUMNS);
        rows * (SIDE + HEAD + GAP)
    }
}

/// The block that a network is shown in, of even length.
fn around(network: Ipv4Net) -> Option<Ipv4Net> {
    let length = network.prefix_len().saturating_sub(AROUND) & !1;
    Some(Ipv4Net::new(network.network(), length).ok()?.trunc())
}

impl fmt::Display for Panels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (block, networks)) in (0..).zip(&self.blocks) {
            let x = LEFT + (number % COLUMNS) * (SIDE + GAP);
            let y = HEIGHT + HEAD + (number / COLUMNS) * (SIDE + HEAD + GAP);
            writeln!(f, r#"<text x="{x}" y="{}">{block}, enlarged</text>"#, y - 8)?;
            writeln!(f, r#"<g transform="translate({x} {y})">"#)?;
            writeln!(f, r#"<rect class="none" width="{SIDE}" height="{SIDE}"/>"#)?;
            shaded(f, &Cells::within(*block, ORDER, self.may_pass), SIDE)?;
            for network in networks {
                let (x, y, w, h) = outline_in(*block, *network, SIDE);
                writeln!(
                    f,
                    r#"<g><title>{network}</title><rect class="mark" x="{x}" y="{y}" width="{w}" height="{h}"/></g>"#
                )?;
            }
            writeln!(f, "</g>")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn networks_of_one_block_share_a_panel_and_large_ones_have_none() {
        let named = networks(&[
            "10.0.0.0/8",
            "198.51.100.0/24",
            "198.51.7.0/24",
            "203.0.113.9/32",
        ]);
        let everyone = Intervals::all();
        let panels = Panels::of(&named, &everyone);
        let blocks: Vec<String> = panels
            .blocks
            .iter()
            .map(|(block, _)| block.to_string())
            .collect();
        assert_eq!(blocks, ["198.51.0.0/16", "203.0.113.0/24"]);
        assert_eq!(panels.blocks[0].1.len(), 2);
        assert!(panels.to_string().contains("198.51.0.0/16, enlarged"));
        assert_eq!(panels.height(), SIDE + HEAD + GAP);
        assert_eq!(Panels::of(&named[..1], &everyone).height(), 0);
    }

    #[test]
    fn a_network_in_a_panel_is_outlined_where_its_cells_are() {
        let block = "198.51.0.0/16".parse().unwrap();
        let network = "198.51.100.0/24".parse().unwrap();
        let (first, last) = (0xc633_6400, 0xc633_64ff);
        let set = Intervals::from_ranges(vec![(first, last)]);
        let cells = Cells::within(block, ORDER, &set);
        let [one] = cells.rectangles[..] else {
            panic!("{:?}", cells.rectangles)
        };
        let (x, y, w, h) = outline_in(block, network, 256);
        assert_eq!(
            [x, y, w, h],
            [one.x, one.y, one.width, one.height].map(f64::from)
        );
    }
}
