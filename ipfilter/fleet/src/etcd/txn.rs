//! Transactions.

use super::{
    behind,
    messages::{Compare, DeleteRangeRequest, Operation, PutRequest, RequestOp, Target, TxnRequest},
};

/// The number by which etcd knows a comparison of revisions of the last change.
const MOD: i32 = 2;

/// The number by which etcd knows a comparison of revisions of the creation.
const CREATE: i32 = 1;

/// Changes that are made together, if nothing that they rest on has changed meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Txn {
    compare: Vec<Compare>,
    success: Vec<RequestOp>,
}

impl Txn {
    /// Only if the last change of `key` was at `revision`; 0 if there is no such key.
    pub(crate) fn unchanged(mut self, key: impl Into<Vec<u8>>, revision: i64) -> Self {
        self.compare.push(Compare {
            result: 0,
            target: MOD,
            key: key.into(),
            target_union: Some(Target::ModRevision(revision)),
        });
        self
    }

    /// Only if there is such a key.
    pub(crate) fn exists(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.compare.push(Compare {
            result: 1,
            target: CREATE,
            key: key.into(),
            target_union: Some(Target::CreateRevision(0)),
        });
        self
    }

    /// Writes a value.
    pub(crate) fn put(self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.and(Operation::Put(PutRequest {
            key: key.into(),
            value: value.into(),
            lease: 0,
        }))
    }

    /// Removes a key.
    pub(crate) fn delete(self, key: impl Into<Vec<u8>>) -> Self {
        self.and(Operation::DeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: Vec::new(),
        }))
    }

    /// Removes all keys that begin so.
    pub(crate) fn delete_prefix(self, prefix: &str) -> Self {
        self.and(Operation::DeleteRange(DeleteRangeRequest {
            key: prefix.into(),
            range_end: behind(prefix),
        }))
    }

    fn and(mut self, operation: Operation) -> Self {
        self.success.push(RequestOp {
            request: Some(operation),
        });
        self
    }

    pub(super) fn into_request(self) -> TxnRequest {
        TxnRequest {
            compare: self.compare,
            success: self.success,
            failure: Vec::new(),
        }
    }
}
