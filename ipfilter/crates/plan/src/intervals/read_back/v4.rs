//! The edges of an IPv4 interval table.

use ipfilter_ebpf::interval::{
    INLINE_IN_LARGE_SLOT, INLINE_IN_ROOT, INLINE_IN_WORD, Image, KindV4, LARGE_SLOT_MOST, LayoutV4,
    Root, SMALL_SLOT_MOST, Words as _,
};

use super::{Edges, Malformed};

/// Slots have 2^6 addresses at least, so that a word of a bitmap is in one of them.
const SLOT_LEAST: u8 = 6;

/// Adds the edges of a table.
pub(in super::super) fn edges(
    image: Image<'_>,
    layout: &LayoutV4,
    edges: &mut Edges<u32>,
) -> Result<(), Malformed> {
    check(layout)?;
    if layout.summarized == 1 {
        let part_bits = u32::from(layout.part_shift - 32);
        let words =
            (0..(1_u32 << 26).checked_shr(part_bits).unwrap_or(0).max(1)).map(|word| match layout
                .near
            {
                0 => image.word(layout.summary.wrapping_add(word)),
                _ => image.near(word.into()),
            });
        edges.push_bits(words, |part| u32::try_from(part << part_bits).ok())?;
    }
    for slot in 0..1_u32 << (32 - layout.slot_bits) {
        let lowest = slot << layout.slot_bits;
        edges.push(lowest)?;
        let slot = Slot {
            image,
            layout,
            lowest,
        };
        slot.edges(slot.root(slot_number(layout, lowest)), edges)?;
    }
    Ok(())
}

fn slot_number(layout: &LayoutV4, lowest: u32) -> u32 {
    lowest >> layout.slot_bits
}

/// Refuses what no table has as its layout: everything below rests on it.
fn check(layout: &LayoutV4) -> Result<(), Malformed> {
    if !(SLOT_LEAST..=LARGE_SLOT_MOST).contains(&layout.slot_bits) {
        return Err(Malformed("its slots are of no possible size"));
    }
    let own = LayoutV4::of_slots(layout.slot_bits, layout.wide == 1);
    let fields = |of: &LayoutV4| (of.lowest, of.above, of.mask, of.slot_shift);
    let is_wide = layout.wide == 1 && layout.slot_bits >= SMALL_SLOT_MOST;
    let is_part = layout.summarized != 1 || (32..=58).contains(&layout.part_shift);
    if fields(layout) != fields(&own) || is_wide || !is_part {
        return Err(Malformed("its layout contradicts itself"));
    }
    Ok(())
}

/// A slot of the address space.
struct Slot<'a> {
    image: Image<'a>,
    layout: &'a LayoutV4,
    lowest: u32,
}

impl<'a> Slot<'a> {
    /// The words of the slot's root; none if they are missing.
    fn root(&self, number: u32) -> &'a [u64] {
        let Image { words, roots, near } = self.image;
        let index = number as usize;
        let words = match (self.layout.wide, self.layout.near, self.layout.summarized) {
            (1, ..) => return roots.get(index).map_or(&[], |root| root),
            (_, 1, 0) => near,
            _ => words,
        };
        words.get(index..=index).unwrap_or_default()
    }

    fn edges(&self, root: &[u64], edges: &mut Edges<u32>) -> Result<(), Malformed> {
        let Some(first) = root.first().copied().map(Root) else {
            return Ok(());
        };
        match first.kind() {
            kind if kind == KindV4::Uniform as u64 => Ok(()),
            kind if kind == KindV4::Inline as u64 => self.inline(root, edges),
            kind if kind == KindV4::List as u64 => self.list(first, edges),
            _ if self.layout.answers.lanes == 0 => self.bitmap(first, edges),
            _ => self.ranks(first, edges),
        }
    }

    /// An edge at this place of the slot, if it has one.
    fn push(&self, at: u64, edges: &mut Edges<u32>) -> Result<(), Malformed> {
        match u32::try_from(at) {
            Ok(at) if at >> self.layout.slot_bits == 0 => edges.push(self.lowest | at),
            _ => Ok(()),
        }
    }

    /// Prefixes that the root holds.
    fn inline(&self, root: &[u64], edges: &mut Edges<u32>) -> Result<(), Malformed> {
        let first = if self.layout.slot_bits > SMALL_SLOT_MOST {
            (INLINE_IN_LARGE_SLOT, 30)
        } else {
            (INLINE_IN_ROOT, 20)
        };
        let shapes = std::iter::once(first).chain(std::iter::repeat((INLINE_IN_WORD, 16)));
        let lanes = root.iter().zip(shapes).flat_map(|(word, (count, bits))| {
            (0..count).map(move |lane| word >> (lane * bits) & ((1 << bits) - 1))
        });
        for prefix in lanes {
            if prefix == 0 || prefix >> (self.layout.slot_bits + 1) != 0 {
                return self.no_prefixes(root, edges);
            }
            let host_bits = prefix.trailing_zeros();
            let first = prefix >> 1 >> host_bits << host_bits;
            self.push(first, edges)?;
            self.push(first + (1 << host_bits), edges)?;
        }
        Ok(())
    }

    /// A root that holds what is no prefix: what is compared of one then runs over into the next. The answer
    /// depends on those bits of the address that some comparison looks at.
    fn no_prefixes(&self, root: &[u64], edges: &mut Edges<u32>) -> Result<(), Malformed> {
        let first = if self.layout.slot_bits > SMALL_SLOT_MOST {
            (self.layout.lowest, 30)
        } else {
            (self.layout.lowest, 20)
        };
        let others = (1 | 1 << 16 | 1 << 32 | 1 << 48, 16);
        let shapes = std::iter::once(first).chain(std::iter::repeat(others));
        let compared = root
            .iter()
            .zip(shapes)
            .fold(0, |all, (word, (lowest, bits))| {
                let common = word ^ (lowest - 1_u64).wrapping_sub(*word);
                (0..64)
                    .step_by(bits)
                    .fold(all, |all, lane| all | common >> lane)
            });
        // Behind the last bit of the address there is a one.
        let step = (compared >> 1)
            .trailing_zeros()
            .min(self.layout.slot_bits.into());
        let all = 0_u64..1 << self.layout.slot_bits;
        all.step_by(1 << step)
            .try_for_each(|at| self.push(at, edges))
    }

    /// A list: its boundaries, and where the search begins at another word.
    fn list(&self, root: Root, edges: &mut Edges<u32>) -> Result<(), Malformed> {
        let bits = if self.layout.slot_bits > SMALL_SLOT_MOST {
            32
        } else {
            16
        };
        let length = u64::from(root.length());
        for offset in 0..root.length().max(1) {
            let begins = u64::from(offset) << self.layout.slot_bits;
            self.push(begins.div_ceil(length.max(1)), edges)?;
            let Some(word) = root.read(&self.image, offset) else {
                return Ok(());
            };
            for lane in 0..64 / bits {
                self.push(word >> (lane * bits) & ((1 << bits) - 1), edges)?;
            }
        }
        Ok(())
    }

    /// A bitmap whose bits are answers.
    fn bitmap(&self, root: Root, edges: &mut Edges<u32>) -> Result<(), Malformed> {
        let words = (0..1 << (self.layout.slot_bits - SLOT_LEAST))
            .map(|offset| root.read(&self.image, offset));
        let lowest = u64::from(self.lowest);
        edges.push_bits(words, |at| u32::try_from(lowest | at).ok())
    }

    /// A bitmap whose bits are boundaries, with the rank below each 32 addresses.
    fn ranks(&self, root: Root, edges: &mut Edges<u32>) -> Result<(), Malformed> {
        for group in 0..1_u32 << (self.layout.slot_bits - 5) {
            let first = u64::from(group) << 5;
            self.push(first, edges)?;
            let Some(word) = root.read(&self.image, group) else {
                continue;
            };
            let mut bits = word & u64::from(u32::MAX);
            while bits != 0 {
                self.push(first | u64::from(bits.trailing_zeros()), edges)?;
                bits &= bits - 1;
            }
        }
        Ok(())
    }
}
