//! The smallest longest-prefix-match table that answers as a [`SourceMap`] does.
//!
//! After Draves, King, Venkatachary and Zill, "Constructing Optimal IP Routing Tables" (INFOCOM
//! 1999): bottom up, every node of the address tree learns which answers it could hold at least
//! cost; top down, a node gets an entry only if what it inherits is not among those. Unlike a
//! routing table, an address that no entry matches has an answer too, [`ApiSet::NONE`], which the
//! root therefore inherits free of charge.
//!
//! The tree is never built. A node is a prefix and the steps of the map that begin inside it, found
//! again in the second pass by the same splitting; only the choices of branching nodes are kept.

mod choices;

use ipfilter_ebpf::abi::ApiSet;

use self::choices::Choices;
use super::SourceMap;
use ipfilter_addresses::Address;

/// One entry of a longest-prefix-match table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry<A> {
    /// The prefix's lowest address, in host byte order.
    pub prefix: A,
    /// The prefix's length in bits.
    pub length: u8,
    /// The APIs that an address may call for which this is the longest match.
    pub apis: ApiSet,
}

impl<A: Address> Entry<A> {
    /// Whether `address` is in the prefix.
    #[must_use]
    pub fn matches(&self, address: A) -> bool {
        let host = u32::from(A::BITS - self.length);
        let differ = self.prefix.to_u128() ^ address.to_u128();
        differ.checked_shr(host).unwrap_or(0) == 0
    }
}

/// The fewest entries whose longest match answers as `map` does, where no match means no API.
/// Sorted by address, an outer prefix before those inside it.
#[must_use]
pub fn cover<A: Address>(map: &SourceMap<A>) -> Vec<Entry<A>> {
    let mut palette = map.palette().to_vec();
    let none = palette.iter().position(|apis| *apis == ApiSet::NONE);
    let none = none.unwrap_or_else(|| {
        palette.push(ApiSet::NONE);
        palette.len() - 1
    });
    let mut up = Up {
        map,
        choices: Choices::new(palette.len()),
        branches: Vec::new(),
    };
    let root = Node::root(map);
    up.visit(root);
    let mut down = Down {
        map,
        palette: &palette,
        choices: &up.choices,
        branches: up.branches.iter(),
        entries: Vec::new(),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a palette has fewer than 2^32 answers, as its indices are that wide"
    )]
    down.visit(root, none as u32);
    down.entries
}

/// A node of the address tree: a prefix, and which steps of the map concern it.
#[derive(Clone, Copy)]
struct Node<A> {
    prefix: A,
    length: u8,
    /// The step that holds at the prefix's lowest address.
    first: usize,
    /// One past the last step that begins inside the prefix.
    end: usize,
}

/// What is below a node.
enum Below<A> {
    /// Nothing: the whole prefix has this answer.
    Leaf(u32),
    /// A chain of two nodes or more, on each of which one child is a leaf with this answer, down
    /// to this node. Every node of the chain but perhaps the lowest holds just this answer at
    /// least cost, and the lowest has it among its choices.
    Chain(u32, Node<A>),
    /// Both children.
    Branch(Node<A>, Node<A>),
}

impl<A: Address> Node<A> {
    fn root(map: &SourceMap<A>) -> Self {
        Self {
            prefix: A::MIN,
            length: 0,
            first: 0,
            end: map.starts().len(),
        }
    }

    fn below(self, map: &SourceMap<A>) -> Below<A> {
        let answer = |step: usize| map.answers().get(step).copied().unwrap_or_default();
        let left = answer(self.first);
        if self.end - self.first <= 1 {
            return Below::Leaf(left);
        }
        if left == answer(self.end - 1)
            && let Some(inner) = self.narrow(map)
        {
            return Below::Chain(left, inner);
        }
        let (low, high) = self.split(map);
        Below::Branch(low, high)
    }

    /// The smallest prefix outside of which this node has but one answer, given that its lowest
    /// and highest address have the same. Nothing if that is less than two levels down.
    fn narrow(self, map: &SourceMap<A>) -> Option<Self> {
        let low = map.starts().get(self.first + 1)?;
        let high = map.starts().get(self.end - 1)?.predecessor()?;
        let differing = 128 - (low.to_u128() ^ high.to_u128()).leading_zeros();
        let length = A::BITS - u8::try_from(differing).ok()?;
        if length < self.length + 2 {
            return None;
        }
        let host = host_bits::<A>(length);
        let prefix = low.to_u128() & !host;
        Some(Self {
            prefix: A::from_u128(prefix),
            length,
            first: self.first + usize::from(prefix == low.to_u128()),
            end: self.end - usize::from(prefix | host == high.to_u128()),
        })
    }

    /// The two halves.
    fn split(self, map: &SourceMap<A>) -> (Self, Self) {
        let half = self.prefix.to_u128() | (host_bits::<A>(self.length + 1) + 1);
        let half = A::from_u128(half);
        let inside = map.starts().get(self.first + 1..self.end);
        let up_to = inside.map_or(0, |starts| starts.partition_point(|start| *start <= half));
        let at_half = self.first + up_to;
        let begins_there = map.starts().get(at_half) == Some(&half);
        let length = self.length + 1;
        let low = Self {
            length,
            end: at_half + usize::from(!begins_there),
            ..self
        };
        let high = Self {
            prefix: half,
            length,
            first: at_half,
            end: self.end,
        };
        (low, high)
    }
}

/// The bits of an address past a prefix of `length`, as the low bits of a `u128`.
fn host_bits<A: Address>(length: u8) -> u128 {
    let bits = u32::from(A::BITS - length);
    u128::MAX.checked_shr(128 - bits).unwrap_or(0)
}

/// The pass from the leaves to the root.
struct Up<'a, A> {
    map: &'a SourceMap<A>,
    choices: Choices,
    /// What each branching node chooses from, in the order in which they are reached from the root.
    branches: Vec<u32>,
}

impl<A: Address> Up<'_, A> {
    /// The answers that `node` could hold at least cost.
    fn visit(&mut self, node: Node<A>) -> u32 {
        match node.below(self.map) {
            Below::Leaf(answer) => answer,
            Below::Chain(answer, inner) => {
                self.visit(inner);
                answer
            }
            Below::Branch(low, high) => {
                let place = self.branches.len();
                self.branches.push(0);
                let (low, high) = (self.visit(low), self.visit(high));
                let merged = self.choices.merge(low, high);
                if let Some(branch) = self.branches.get_mut(place) {
                    *branch = merged;
                }
                merged
            }
        }
    }
}

/// The pass from the root to the leaves.
struct Down<'a, A> {
    map: &'a SourceMap<A>,
    palette: &'a [ApiSet],
    choices: &'a Choices,
    branches: std::slice::Iter<'a, u32>,
    entries: Vec<Entry<A>>,
}

impl<A: Address> Down<'_, A> {
    fn visit(&mut self, node: Node<A>, inherited: u32) {
        match node.below(self.map) {
            Below::Leaf(answer) => {
                self.hold(node, answer, inherited);
            }
            Below::Chain(answer, inner) => {
                let held = self.hold(node, answer, inherited);
                self.visit(inner, held);
            }
            Below::Branch(low, high) => {
                let choice = self.branches.next().copied().unwrap_or_default();
                let held = self.hold(node, choice, inherited);
                self.visit(low, held);
                self.visit(high, held);
            }
        }
    }

    /// Gives `node` an entry if what it inherits is not among its choices; says what it then holds.
    fn hold(&mut self, node: Node<A>, choice: u32, inherited: u32) -> u32 {
        let held = self.choices.prefer(choice, inherited);
        if held != inherited {
            let apis = self.palette.get(held as usize).copied();
            self.entries.push(Entry {
                prefix: node.prefix,
                length: node.length,
                apis: apis.unwrap_or_default(),
            });
        }
        held
    }
}

#[cfg(test)]
mod tests;
