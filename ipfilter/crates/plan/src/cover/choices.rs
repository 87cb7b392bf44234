//! Sets of answers, each distinct one kept once and known by a number.

use std::{cmp::Ordering, collections::HashMap, rc::Rc};

/// Slots in the memory of recent merges; a power of two.
const RECENT: usize = 4096;

/// The sets met so far. Set number `i`, for each answer `i`, is the one with only that answer.
pub(super) struct Choices {
    /// Sorted.
    sets: Vec<Rc<[u32]>>,
    numbers: HashMap<Rc<[u32]>, u32>,
    /// Merges done before, `(left, right, result)`: with few APIs there are but a handful, and
    /// millions of nodes ask for them.
    recent: Vec<Option<(u32, u32, u32)>>,
}

impl Choices {
    /// Sets of answers below `answers`.
    pub(super) fn new(answers: usize) -> Self {
        let mut choices = Self {
            sets: Vec::new(),
            numbers: HashMap::new(),
            recent: vec![None; RECENT],
        };
        for answer in (0..).take(answers) {
            choices.number(vec![answer]);
        }
        choices
    }

    /// What a node can hold whose children can hold `left` and `right`: what both can, which saves
    /// an entry, or, failing that, what either can.
    pub(super) fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == right {
            return left;
        }
        let slot = (left.wrapping_mul(0x9e37_79b1) ^ right) as usize % RECENT;
        if let Some(Some((a, b, result))) = self.recent.get(slot)
            && (*a, *b) == (left, right)
        {
            return *result;
        }
        let merged = merge(self.set(left), self.set(right));
        let result = self.number(merged);
        if let Some(recent) = self.recent.get_mut(slot) {
            *recent = Some((left, right, result));
        }
        result
    }

    /// `wanted` if the set `number` has it, else another of its answers.
    pub(super) fn prefer(&self, number: u32, wanted: u32) -> u32 {
        let set = self.set(number);
        match (set.binary_search(&wanted), set) {
            (Err(_), [first, ..]) => *first,
            _ => wanted,
        }
    }

    fn set(&self, number: u32) -> &[u32] {
        self.sets.get(number as usize).map_or(&[], |set| set)
    }

    fn number(&mut self, set: Vec<u32>) -> u32 {
        let set: Rc<[u32]> = set.into();
        if let Some(number) = self.numbers.get(&set) {
            return *number;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "each set stems from a node, of which memory holds fewer than 2^32"
        )]
        let number = self.sets.len() as u32;
        self.sets.push(Rc::clone(&set));
        self.numbers.insert(set, number);
        number
    }
}

/// The intersection of two sorted lists, or their union if that is empty.
fn merge(left: &[u32], right: &[u32]) -> Vec<u32> {
    let (mut both, mut either) = (Vec::new(), Vec::with_capacity(left.len() + right.len()));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let Some(order) = match (left.peek(), right.peek()) {
        (Some(a), Some(b)) => Some(a.cmp(b)),
        (Some(_), None) => Some(Ordering::Less),
        (None, b) => b.map(|_| Ordering::Greater),
    } {
        let from_left = if order.is_le() { left.next() } else { None };
        let from_right = if order.is_ge() { right.next() } else { None };
        either.extend(from_left.or(from_right));
        both.extend(from_left.and(from_right));
    }
    if both.is_empty() { either } else { both }
}
