//! What policies mean: documented cases, and what people have written.

#[cfg(test)]
#[path = "../../../../tests/it/corpus.rs"]
mod corpus;
#[cfg(test)]
mod documented;
