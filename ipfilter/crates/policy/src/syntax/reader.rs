//! What reads a policy's values.

pub(crate) use ipfilter_document::reader::Member;

/// Notes every mistake on the way.
pub(crate) type Reader = ipfilter_document::reader::Reader<Dialect>;

/// What else is known while a policy is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dialect {
    /// Whether the document's version has policy variables.
    pub(crate) variables: bool,
}
