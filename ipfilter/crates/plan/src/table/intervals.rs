//! The interval table: words in arrays that are filled through memory maps, and near roots in the program.

use ipfilter_ebpf::{
    abi::{ApiSet, Config, flags, names},
    interval::WIDE_ROOT_WORDS,
};

use super::{Content, Need, Part, SourceTable, TableSize};
use crate::{Family, IntervalTable};

pub(super) const MAPS: &[&str] = &[names::INTERVALS_V4, names::ROOTS_V4, names::INTERVALS_V6];

pub(super) const FLAGS: u32 = flags::INTERVALS;

impl<A: Family> SourceTable<A> for IntervalTable<A> {
    fn parts(&self) -> Vec<Part<'_, A>> {
        let image = self.image();
        let words = Part {
            name: A::pick(names::INTERVALS_V4, names::INTERVALS_V6),
            content: Content::Words(image.words, 1),
        };
        let roots = A::pick(Some(names::ROOTS_V4), None).map(|name| Part {
            name,
            content: Content::Words(image.roots.as_flattened(), WIDE_ROOT_WORDS as usize),
        });
        let near = Part {
            name: A::pick(names::NEAR_V4, names::NEAR_V6),
            content: Content::Section(image.near),
        };
        [Some(words), roots, Some(near)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn configure(&self, config: &mut Config) {
        *A::layout_in(config) = *self.layout();
        config.lean = 1;
    }

    fn size(&self) -> TableSize {
        TableSize {
            entries: self.ranges(),
            bytes: self.sizes().total(),
        }
    }

    fn need(&self) -> Need {
        Need {
            family: A::NAME,
            table: "interval table",
            count: self.sizes().total() / size_of::<u64>(),
            each: size_of::<u64>(),
            unit: "words",
            instead: None,
        }
    }

    fn at(&self, address: A) -> ApiSet {
        Self::at(self, address)
    }
}
