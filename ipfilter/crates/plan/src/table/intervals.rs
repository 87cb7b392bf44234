//! The interval table: words in arrays that are filled through memory maps, and near roots in the program.

use ipfilter_ebpf::{
    abi::{ApiSet, Config, flags, names},
    interval::{Image, WIDE_ROOT_WORDS},
};

use super::{Content, Need, Part, ReadBack, SourceTable, Stored, TableSize};
use crate::{Family, IntervalTable, SourceMap, TableTooLarge, intervals::interval_answers};

impl<A: Family> SourceTable<A> for IntervalTable<A> {
    fn maps() -> &'static [&'static str] {
        &[names::INTERVALS_V4, names::ROOTS_V4, names::INTERVALS_V6]
    }

    fn flags() -> u32 {
        flags::INTERVALS
    }

    fn build(map: &SourceMap<A>) -> Result<Self, TableTooLarge> {
        Self::new(map)
    }

    fn read_back<E>(stored: &dyn Stored<A, E>, config: &Config) -> Result<ReadBack<A>, E> {
        let words = stored.words(words::<A>())?;
        let near = stored.section(near::<A>())?;
        let roots = roots::<A>().map_or_else(|| Ok(Vec::new()), |name| stored.words(name))?;
        let image = Image {
            words: &words,
            roots: roots.as_chunks().0,
            near: &near,
        };
        let mut config = *config;
        Ok(interval_answers(image, A::layout_in(&mut config)))
    }

    fn parts(&self) -> Vec<Part<'_, A>> {
        let image = self.image();
        let words = Part {
            name: words::<A>(),
            content: Content::Words(image.words, 1),
        };
        let roots = roots::<A>().map(|name| Part {
            name,
            content: Content::Words(image.roots.as_flattened(), WIDE_ROOT_WORDS as usize),
        });
        let near = Part {
            name: near::<A>(),
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

/// The array of everything but roots.
fn words<A: Family>() -> &'static str {
    A::pick(names::INTERVALS_V4, names::INTERVALS_V6)
}

/// The array of the roots that have several words; IPv6 has none.
fn roots<A: Family>() -> Option<&'static str> {
    A::pick(Some(names::ROOTS_V4), None)
}

/// The section of what is read first.
fn near<A: Family>() -> &'static str {
    A::pick(names::NEAR_V4, names::NEAR_V6)
}
