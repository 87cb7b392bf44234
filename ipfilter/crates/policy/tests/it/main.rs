//! What policies mean: documented cases, and what people have written.

#[cfg(test)]
#[path = "../../../../tests/it/corpus.rs"]
mod corpus;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod field;
#[cfg(test)]
#[path = "../../../../tests/it/generate.rs"]
mod generate;
#[cfg(test)]
mod views;
