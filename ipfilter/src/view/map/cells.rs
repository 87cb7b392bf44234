//! How much of each cell of the map is in a set, and the cells as few rectangles.

use ipnet::Ipv4Net;

use super::hilbert;
use crate::addresses::Intervals;

/// Shades of cells of which only a part is in the set; one more is for whole cells.
pub(super) const PARTS: u8 = 4;

/// The most rectangles, which makes about a megabyte.
const MOST: usize = 60_000;

/// The grids that are tried first, of /20s and of /18s, and the last one, of /16s.
const FINER: [u32; 2] = [10, 9];
const COARSEST: u32 = 8;

/// A rectangle of cells of one shade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 to [`PARTS`] where a part is in the set, [`PARTS`] + 1 where all is.
    pub(super) shade: u8,
}

/// The members of a set on a grid.
pub(super) struct Cells {
    /// The grid has `1 << order` cells a side.
    pub(super) order: u32,
    pub(super) rectangles: Vec<Rectangle>,
}

impl Cells {
    /// The set on the finest grid on which it takes no more rectangles than a browser likes.
    pub(super) fn of(set: &Intervals<u32>) -> Self {
        let at = |order| Self {
            order,
            rectangles: merge(order, &shades(order, Ipv4Net::default(), set)),
        };
        let mut finer = FINER.into_iter().map(at);
        let fitting = finer.find(|cells| cells.rectangles.len() <= MOST);
        fitting.unwrap_or_else(|| at(COARSEST))
    }

    /// The set within a block, of even length, on a grid of so many cells a side at most.
    pub(super) fn within(block: Ipv4Net, finest: u32, set: &Intervals<u32>) -> Self {
        let order = finest.min((32 - u32::from(block.prefix_len())) / 2);
        Self {
            order,
            rectangles: merge(order, &shades(order, block, set)),
        }
    }
}

/// The shade of each cell of a block, row by row.
fn shades(order: u32, block: Ipv4Net, set: &Intervals<u32>) -> Vec<u8> {
    let base = block.network().to_bits();
    let bits = 32 - u32::from(block.prefix_len()) - 2 * order;
    let size = 1_u64 << bits;
    let mut members = vec![0_u64; 1 << (2 * order)];
    let whole = Intervals::from_ranges(vec![(base, block.broadcast().to_bits())]);
    for (first, last) in set.intersection(&whole).ranges() {
        let (first, last) = (first - base, last - base);
        for cell in first >> bits..=last >> bits {
            let start = u64::from(cell) << bits;
            let from = u64::from(first).max(start);
            let to = u64::from(last).min(start + size - 1);
            if let Some(members) = members.get_mut(cell as usize) {
                *members += to + 1 - from;
            }
        }
    }
    let mut shades = vec![0; members.len()];
    for (cell, members) in (0..).zip(members) {
        let (x, y) = hilbert::place(order, cell);
        if let Some(shade) = shades.get_mut(((y << order) + x) as usize) {
            *shade = shade_of(members, size);
        }
    }
    shades
}

/// However small a part is, it is seen.
fn shade_of(members: u64, size: u64) -> u8 {
    match members {
        0 => 0,
        // Less than `PARTS` beside the one, as not all are members.
        _ => u8::try_from(members * u64::from(PARTS) / size).map_or(PARTS, |part| part + 1),
    }
}

/// Runs of one shade in a row, and the same run in rows below each other.
fn merge(order: u32, shades: &[u8]) -> Vec<Rectangle> {
    let mut done: Vec<Rectangle> = Vec::new();
    let mut open: Vec<Rectangle> = Vec::new();
    for (y, row) in (0..).zip(shades.chunks(1 << order)) {
        let mut above = std::mem::take(&mut open).into_iter().peekable();
        let mut x = 0;
        for run in row.chunk_by(|one, other| one == other) {
            let width = u32::try_from(run.len()).unwrap_or(u32::MAX);
            let shade = run.first().copied().unwrap_or(0);
            // Both ascend: what begins further left has no continuation.
            while let Some(before) = above.next_if(|before| before.x < x) {
                done.push(before);
            }
            let same =
                |before: &Rectangle| (before.x, before.width, before.shade) == (x, width, shade);
            match above.next_if(same) {
                Some(before) => open.push(Rectangle {
                    height: before.height + 1,
                    ..before
                }),
                None if shade > 0 => open.push(Rectangle {
                    x,
                    y,
                    width,
                    height: 1,
                    shade,
                }),
                None => {}
            }
            x += width;
        }
        done.extend(above);
    }
    done.extend(open);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(cells: &Cells, shade: u8) -> u32 {
        let of_it = cells.rectangles.iter().filter(|one| one.shade == shade);
        of_it.map(|one| one.width * one.height).sum()
    }

    #[test]
    fn blocks_are_squares_and_parts_are_seen() {
        let all = Cells::of(&Intervals::all());
        assert_eq!((all.order, all.rectangles.len()), (10, 1));
        assert!(Cells::of(&Intervals::empty()).rectangles.is_empty());
        let half = Cells::of(&Intervals::from_ranges(vec![(0, u32::MAX >> 1)]));
        assert_eq!(area(&half, PARTS + 1), 1 << 19);
        let ten = Cells::of(&Intervals::from_ranges(vec![(0x0a00_0000, 0x0aff_ffff)]));
        assert_eq!(ten.rectangles.len(), 1);
        assert_eq!(ten.rectangles[0].width, 64);
        let one = Cells::of(&Intervals::from_ranges(vec![(7, 7)]));
        assert_eq!((area(&one, 1), one.rectangles.len()), (1, 1));
        let most = Cells::of(&Intervals::from_ranges(vec![(1, 4095)]));
        assert_eq!((area(&most, PARTS), most.rectangles.len()), (1, 1));
    }

    #[test]
    fn a_block_is_seen_address_by_address() {
        let block = "203.0.0.0/16".parse().unwrap();
        let set =
            Intervals::from_ranges(vec![(0xcb00_7100, 0xcb00_71ff), (0x0a00_0000, 0x0aff_ffff)]);
        let cells = Cells::within(block, 8, &set);
        assert_eq!((cells.order, cells.rectangles.len()), (8, 1));
        assert_eq!(area(&cells, PARTS + 1), 256);
        let small = Cells::within("203.0.113.0/30".parse().unwrap(), 8, &set);
        assert_eq!((small.order, area(&small, PARTS + 1)), (1, 4));
    }

    #[test]
    fn every_cell_is_in_one_rectangle_of_its_shade() {
        let order = 5;
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        let shades: Vec<u8> = (0..1 << (2 * order))
            .map(|_| u8::try_from(next() % 3).unwrap())
            .collect();
        let mut seen = vec![0; shades.len()];
        for one in merge(order, &shades) {
            for y in one.y..one.y + one.height {
                for x in one.x..one.x + one.width {
                    let cell = &mut seen[((y << order) + x) as usize];
                    assert_eq!(*cell, 0);
                    *cell = one.shade;
                }
            }
        }
        assert_eq!(seen, shades);
    }

    #[test]
    fn what_is_scattered_gets_a_coarser_grid() {
        let mut seed = 1_u32;
        let ranges = (0..300_000).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed, seed)
        });
        let scattered = Cells::of(&Intervals::from_ranges(ranges.collect()));
        assert!(scattered.rectangles.len() <= 1 << 16);
        assert!(scattered.order < 10);
    }
}
