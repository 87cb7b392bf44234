//! The edges of an IPv6 interval table.

use ipfilter_ebpf::interval::{
    FAN_DEPTH, FAN_HEADER, Fan, Image, KindV6, LayoutV6, Root, Words as _,
};

use super::{Edges, Malformed};

/// Adds the edges of a table.
pub(in super::super) fn edges(
    image: Image<'_>,
    layout: &LayoutV6,
    edges: &mut Edges<u128>,
) -> Result<(), Malformed> {
    let is_near = layout.near == 1 && layout.summarized != 1;
    let roots = if is_near { image.near } else { image.words };
    let count = layout.slots as usize + 2;
    let Some(roots) = roots.get(..count) else {
        return Err(Malformed("it has fewer roots than slots"));
    };
    if layout.slot_shift > 63 || layout.part_shift > 63 {
        return Err(Malformed("its slots are of no possible size"));
    }
    edges.push(address(layout.base, 0))?;
    if layout.summarized == 1 {
        summary(image, layout, edges)?;
    }
    for slot in 0..=u64::from(layout.slots) {
        if let Some(edge) = multiple(layout.base, slot, layout.slot_shift.into()) {
            edges.push(edge)?;
        }
    }
    roots
        .iter()
        .try_for_each(|root| node(image, Root(*root), Half::High, FAN_DEPTH, edges))
}

fn address(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

/// The lowest address of the part with this number past `base`, if there is one: distances go round.
fn multiple(base: u64, number: u64, shift: u32) -> Option<u128> {
    let distance = u64::try_from(u128::from(number) << shift).ok()?;
    Some(address(base.wrapping_add(distance), 0))
}

fn summary(image: Image<'_>, layout: &LayoutV6, edges: &mut Edges<u128>) -> Result<(), Malformed> {
    let there = match layout.near {
        0 => image.words.len(),
        _ => image.near.len(),
    };
    if layout.summary_words as usize > there {
        return Err(Malformed("its summary bitmap is longer than it is"));
    }
    let words = (0..layout.summary_words).map(|word| match layout.near {
        0 => image.word(layout.summary.wrapping_add(word)),
        _ => image.near(word.into()),
    });
    let part = |part| multiple(layout.base, part, layout.part_shift.into());
    edges.push_bits(words, part)?;
    match part(u64::from(layout.summary_words) << 6) {
        Some(end) => edges.push(end),
        None => Ok(()),
    }
}

/// Which half of an address a node compares.
#[derive(Clone, Copy)]
enum Half {
    /// The high one.
    High,
    /// The low one, of addresses with this high one.
    Low(u64),
    /// The low one, of addresses with more than one high one.
    LowOfMany,
}

impl Half {
    /// The address at which a comparison with `bound` comes out otherwise.
    fn edge(self, bound: u64) -> Result<u128, Malformed> {
        match self {
            Self::High => Ok(address(bound, 0)),
            Self::Low(high) => Ok(address(high, bound)),
            Self::LowOfMany => Err(Malformed("a list of low halves is for many high ones")),
        }
    }
}

/// The edges of a node below which there may be as many fans.
fn node(
    image: Image<'_>,
    root: Root,
    half: Half,
    fans: u32,
    edges: &mut Edges<u128>,
) -> Result<(), Malformed> {
    match root.kind() {
        kind if kind == KindV6::Uniform as u64 => Ok(()),
        kind if kind == KindV6::List as u64 => list(image, root, half, edges),
        kind if kind == KindV6::Fan as u64 && fans > 0 => fan(image, root, half, fans - 1, edges),
        _ => wide(image, root, edges),
    }
}

fn list(
    image: Image<'_>,
    root: Root,
    half: Half,
    edges: &mut Edges<u128>,
) -> Result<(), Malformed> {
    for offset in 0..root.length() {
        let Some(bound) = root.read(&image, offset) else {
            break;
        };
        edges.push(half.edge(bound)?)?;
    }
    Ok(())
}

/// A list of whole boundaries.
fn wide(image: Image<'_>, root: Root, edges: &mut Edges<u128>) -> Result<(), Malformed> {
    for offset in 0..root.length() {
        let Some(high) = root.read(&image, offset) else {
            break;
        };
        match root.read(&image, root.length() + offset) {
            Some(low) => edges.push(address(high, low))?,
            None => whole(high, edges)?,
        }
    }
    Ok(())
}

/// The edges of all addresses with this high half.
fn whole(high: u64, edges: &mut Edges<u128>) -> Result<(), Malformed> {
    edges.push(address(high, 0))?;
    high.checked_add(1)
        .map_or(Ok(()), |next| edges.push(address(next, 0)))
}

fn fan(
    image: Image<'_>,
    root: Root,
    half: Half,
    fans: u32,
    edges: &mut Edges<u128>,
) -> Result<(), Malformed> {
    let fan = Fan(root.length());
    let (mut inside, mut outside) = (half, half);
    if fan.turns() {
        let Some(own) = root.read(&image, 0) else {
            return Ok(());
        };
        whole(own, edges)?;
        (inside, outside) = (Half::Low(own), Half::LowOfMany);
    }
    let Some(base) = root.read(&image, 1) else {
        return Ok(());
    };
    for offset in [2, 3] {
        if let Some(root) = root.read(&image, offset) {
            node(image, Root(root), outside, fans, edges)?;
        }
    }
    for part in 0..=1_u64 << fan.bits() {
        let bound = u128::from(part) << fan.shift();
        let bound = u64::try_from(bound)
            .ok()
            .and_then(|past| base.checked_add(past));
        let Some(bound) = bound else {
            break;
        };
        edges.push(inside.edge(bound)?)?;
        if part >> fan.bits() == 1 {
            break;
        }
        let offset = u32::try_from(part).map_err(|_| Malformed("a fan has too many parts"))?;
        let Some(root) = root.read(&image, FAN_HEADER + offset) else {
            break;
        };
        node(image, Root(root), inside, fans, edges)?;
    }
    Ok(())
}
