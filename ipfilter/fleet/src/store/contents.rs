//! Bundles and overrides: compressed, in chunks, named by the digest of what they are of.

use std::{collections::BTreeSet, io::Read as _};

use ipfilter_bundle::{Digest, LARGEST};
use ruzstd::{
    decoding::StreamingDecoder,
    encoding::{CompressionLevel, compress_to_vec},
};
use serde::{Deserialize, Serialize};

use super::{Failure, Store, json, parse};
use crate::etcd::Txn;

/// The bytes of a chunk. etcd takes requests of 1.5 MiB.
const CHUNK: usize = 512 << 10;

/// How many chunks are asked for at once.
const PAGE: usize = 8;

/// How long content is, and what it is kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Its bytes.
    pub(crate) size: usize,
    /// Its bytes compressed with zstd.
    pub(crate) stored: usize,
    /// The chunks that these are kept in.
    pub(crate) chunks: usize,
}

/// Content ready for etcd.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    compressed: Vec<u8>,
}

/// Compresses content.
pub(crate) fn pack(content: &[u8]) -> Packed {
    let compressed = compress_to_vec(content, CompressionLevel::Fastest);
    Packed {
        digest: Digest::of(content),
        manifest: Manifest {
            size: content.len(),
            stored: compressed.len(),
            chunks: compressed.len().div_ceil(CHUNK),
        },
        compressed,
    }
}

/// The content that was compressed, if it is of this size and has this digest.
pub(crate) fn unpack(compressed: &[u8], size: usize, digest: Digest) -> Result<Vec<u8>, String> {
    if size > LARGEST {
        return Err(format!(
            "it would be {size} bytes, and {LARGEST} is the most"
        ));
    }
    let mut content = Vec::with_capacity(size);
    let decoder = StreamingDecoder::new(compressed).map_err(|_| "it is not compressed by zstd")?;
    // One byte more shows that there would be more.
    decoder
        .take(size as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|_| "it can't be decompressed")?;
    if content.len() != size {
        return Err(format!("it is not the {size} bytes that were announced"));
    }
    match Digest::of(&content) == digest {
        true => Ok(content),
        false => Err("its digest is another one".into()),
    }
}

impl Store {
    /// The key that says that content is there whole.
    pub(crate) fn content_key(&self, digest: &Digest) -> String {
        self.key(&format!("contents/{digest}"))
    }

    fn chunk_key(&self, digest: &Digest, index: usize) -> String {
        format!("{}/{index:04}", self.content_key(digest))
    }

    /// Writes content, unless it is there and whole. Whether it had to be.
    pub(crate) async fn upload(&self, packed: &Packed) -> Result<bool, Failure> {
        match self.fetch("content", packed.digest).await {
            Ok(_) => return Ok(false),
            Err(Failure::Etcd(failure)) => return Err(failure.into()),
            Err(_) => {}
        }
        for (index, chunk) in packed.compressed.chunks(CHUNK).enumerate() {
            let key = self.chunk_key(&packed.digest, index);
            self.client.put(&key, chunk.to_vec(), 0).await?;
        }
        // Last, so that it is whole for whoever finds it.
        let key = self.content_key(&packed.digest);
        self.client.put(&key, json(&packed.manifest)?, 0).await?;
        Ok(true)
    }

    /// Reads content, and checks that it is what its digest says.
    pub(crate) async fn fetch(
        &self,
        what: &'static str,
        digest: Digest,
    ) -> Result<Vec<u8>, Failure> {
        let missing = |why: String| Failure::Missing { what, digest, why };
        let key = self.content_key(&digest);
        let (found, _) = self.client.get(&key).await?;
        let found = found.ok_or_else(|| missing("it is not there".into()))?;
        let manifest: Manifest = parse(&key, &found.value)?;
        let mut compressed = Vec::new();
        let chunks = manifest.chunks.min(LARGEST / CHUNK + 1);
        for first in (0..chunks).step_by(PAGE) {
            let last = (first + PAGE).min(chunks);
            let keys = (
                self.chunk_key(&digest, first),
                self.chunk_key(&digest, last),
            );
            let found = self.client.get_range(&keys.0, &keys.1).await?;
            if found.len() != last - first {
                let count = manifest.chunks;
                return Err(missing(format!("of its {count} chunks some are missing")));
            }
            compressed.extend(found.into_iter().flat_map(|kv| kv.value));
        }
        let unpacking =
            tokio::task::spawn_blocking(move || unpack(&compressed, manifest.size, digest));
        let unpacked = unpacking
            .await
            .unwrap_or_else(|error| Err(error.to_string()));
        unpacked.map_err(|why| Failure::Damaged { what, digest, why })
    }

    /// The digests of all content, whole or not.
    async fn digests(&self) -> Result<BTreeSet<Digest>, Failure> {
        let prefix = self.key("contents/");
        let keys = self.client.keys(&prefix).await?;
        let names = keys.iter().filter_map(|key| {
            let name = key.strip_prefix(&prefix)?.split('/').next()?;
            name.parse().ok()
        });
        Ok(names.collect())
    }

    /// Removes content that is not among `used`, unless the group's desired state has changed since `revision`.
    /// How much there was.
    pub(crate) async fn collect(
        &self,
        used: &BTreeSet<Digest>,
        revision: i64,
    ) -> Result<usize, Failure> {
        let mut collected = 0;
        for digest in self.digests().await?.difference(used) {
            let key = self.content_key(digest);
            let txn = Txn::default()
                .unchanged(self.key("desired"), revision)
                .delete(key.clone())
                .delete_prefix(&format!("{key}/"));
            if !self.client.txn(txn).await? {
                break;
            }
            collected += 1;
        }
        Ok(collected)
    }
}
