//! What the kernel has of a deployment: the tables of the programs that are attached, read back.
//!
//! They are found from the interface: its link names the program, the program names its maps. Nothing that
//! was written down of a deployment is asked.

use std::{
    fs,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, lpm_trie::Key};
use ipfilter_ebpf::abi::{AddressKey, ApiSet, Config, Response, flags, names};

use super::{
    error::Error,
    filter::{Filter, Standing, config_of},
    hook::Hook,
    interface::Interface,
    object, reports,
    sys::{self, Raw},
    trie_key::TrieKey,
};
use crate::plan::{Entry, Plan, ReadBack, Stored, Table};

/// Entries that are asked for by one call.
const BATCH: usize = 1 << 14;

/// The tables of a program, and where it is attached.
#[derive(Debug)]
pub struct Dump {
    /// The interfaces, and where at each.
    pub attached: Vec<(Interface, Hook)>,
    program: u32,
    config: Config,
    /// As the programs have it.
    pub ports: Vec<u8>,
    /// The protected addresses, sorted; none for all.
    pub addresses: Vec<IpAddr>,
    responses: Vec<Response>,
    /// What its IPv4 table answers.
    pub v4: ReadBack<u32>,
    /// What its IPv6 table answers.
    pub v6: ReadBack<u128>,
    /// Tables that somebody could still write to.
    pub unfrozen: Vec<&'static str>,
}

/// A constant of a program that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// What it is.
    pub name: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

impl Filter {
    /// The tables of all programs that are attached.
    ///
    /// # Errors
    ///
    /// When they can't be read, or another version of ipfilter made one.
    pub fn dump(&self) -> Result<Vec<Dump>, Error> {
        let mut dumps: Vec<Dump> = Vec::new();
        for Standing {
            attachment,
            program,
            ..
        } in self.standing()?
        {
            let at = (attachment.interface, attachment.hook);
            match dumps.iter_mut().find(|dump| dump.program == program) {
                Some(dump) => dump.attached.push(at),
                None => dumps.push(Dump::of(program, at)?),
            }
        }
        Ok(dumps)
    }
}

impl Dump {
    fn of(program: u32, at: (Interface, Hook)) -> Result<Self, Error> {
        let config = config_of(program)?;
        let config = config.ok_or_else(|| {
            Error::failed(
                format!("can't read the tables at `{}`", at.0.name),
                "another version of ipfilter deployed them: `ipfilter reload` renews them",
            )
        })?;
        let maps = Maps::of(program)?;
        let table = Table::of_program(config.flags);
        let addresses = if config.flags & flags::ADDRESSES != 0 {
            maps.addresses()?
        } else {
            Vec::new()
        };
        Ok(Self {
            ports: maps.value(names::PORTS_SECTION)?,
            addresses,
            responses: maps.responses()?,
            v4: table.read_back(&maps, &config)?,
            v6: table.read_back(&maps, &config)?,
            unfrozen: maps.unfrozen()?,
            attached: vec![at],
            program,
            config,
        })
    }

    /// The digest of the plan that the program says it enforces.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.config.digest
    }

    /// The constants that are not those of `plan`.
    #[must_use]
    pub fn constants(&self, plan: &Plan) -> Vec<Constant> {
        let own = object::constants(plan);
        let is = |name: &str, wanted: u64, found: u64| {
            (wanted != found).then(|| Constant {
                name: name.to_owned(),
                wanted: wanted.to_string(),
                found: found.to_string(),
            })
        };
        let found = &self.config;
        let simple = [
            is("flags", own.flags.into(), found.flags.into()),
            is("APIs", own.apis.bits(), found.apis.bits()),
            is(
                "interval of reject",
                own.reject_interval,
                found.reject_interval,
            ),
            is(
                "interval of respond",
                own.respond_interval,
                found.respond_interval,
            ),
            is("events", own.events.into(), found.events.into()),
            is("allowed sources", own.callers.into(), found.callers.into()),
        ];
        let names = plan.apis.iter().zip(own.deny).zip(found.deny);
        let deny = names.filter_map(|((api, wanted), found)| {
            let name = format!("deny action of `{}`", api.name);
            is(&name, wanted.into(), found.into())
        });
        let ids = plan.apis.iter().zip(own.ids).zip(found.ids);
        let ids = ids.filter_map(|((api, wanted), found)| {
            let name = format!("identity of `{}`", api.name);
            is(&name, wanted.into(), found.into())
        });
        let shares = plan.apis.iter().zip(own.shares).zip(found.shares);
        let shares = shares.filter_map(|((api, wanted), found)| {
            let name = format!("enforced share of `{}`", api.name);
            is(&name, wanted, found)
        });
        let responses = plan.apis.iter().zip(&self.responses);
        let responses = responses.filter(|(api, found)| api.response.to_abi() != **found);
        let responses = responses.map(|(api, _)| Constant {
            name: format!("response of `{}`", api.name),
            wanted: "that of the policy".to_owned(),
            found: "another".to_owned(),
        });
        let simple = simple.into_iter().flatten();
        let apis = deny.chain(ids).chain(shares).chain(responses);
        simple.chain(apis).collect()
    }
}

/// The maps of a program, by name.
struct Maps(Vec<NamedMap>);

struct NamedMap {
    name: String,
    value_size: usize,
    entries: usize,
    map: OwnedFd,
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused("can't read the tables of a program", error)
}

impl Maps {
    fn of(program: u32) -> Result<Self, Error> {
        let program = sys::program_by_id(program).map_err(|error| failed(&error))?;
        let (_, ids) = sys::translated(&program).map_err(|error| failed(&error))?;
        let maps = ids.into_iter().map(|id| {
            let map = sys::map_by_id(id).map_err(|error| failed(&error))?;
            let again = map.as_fd().try_clone_to_owned();
            let data = MapData::from_fd(again.map_err(|error| failed(&error))?);
            let info = data.and_then(|data| data.info());
            let info = info.map_err(|error| failed(&error))?;
            Ok(NamedMap {
                name: info.name_as_str().unwrap_or_default().to_owned(),
                value_size: info.value_size() as usize,
                entries: info.max_entries() as usize,
                map,
            })
        });
        maps.collect::<Result<_, _>>().map(Self)
    }

    fn get(&self, name: &str) -> Result<&NamedMap, Error> {
        let found = self.0.iter().find(|map| map.name == name);
        found.ok_or_else(|| {
            Error::failed(
                "can't read the tables of a program",
                format!("it has no map `{name}`"),
            )
        })
    }

    fn open(&self, name: &str) -> Result<Map, Error> {
        let map = self.get(name)?.map.try_clone();
        let data = MapData::from_fd(map.map_err(|error| failed(&error))?);
        data.and_then(Map::from_map_data)
            .map_err(|error| failed(&error))
    }

    /// The one value of a section.
    fn value(&self, name: &str) -> Result<Vec<u8>, Error> {
        let map = self.get(name)?;
        let mut value = vec![0; map.value_size.next_multiple_of(size_of::<u64>())];
        sys::lookup(&map.map, &[0; 4], &mut value).map_err(|error| failed(&error))?;
        value.truncate(map.value_size);
        Ok(value)
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let map = HashMap::<_, Raw<AddressKey>, u8>::try_from(self.open(names::ADDRESSES)?);
        let map = map.map_err(|error| failed(&error))?;
        let keys = map.keys().map(|key| key.map_err(|error| failed(&error)));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut addresses: Vec<_> = keys
            .iter()
            .filter_map(|Raw(key)| reports::address(key))
            .collect();
        addresses.sort_unstable();
        Ok(addresses)
    }

    fn responses(&self) -> Result<Vec<Response>, Error> {
        let map = Array::<_, Raw<Response>>::try_from(self.open(names::RESPONSES)?);
        let map = map.map_err(|error| failed(&error))?;
        let values = map.iter().map(|value| value.map(|Raw(value)| value));
        values
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))
    }

    /// The tables that are not frozen.
    fn unfrozen(&self) -> Result<Vec<&'static str>, Error> {
        let sections = [
            names::CONFIG_SECTION,
            names::PORTS_SECTION,
            names::NEAR_V4,
            names::NEAR_V6,
        ];
        let mut unfrozen = Vec::new();
        for name in object::frozen().chain(sections) {
            let number = self.get(name)?.map.as_raw_fd();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
            let info = info.map_err(|error| failed(&error))?;
            let frozen = info.lines().find_map(|line| line.strip_prefix("frozen:"));
            if frozen.is_none_or(|frozen| frozen.trim() != "1") {
                unfrozen.push(name);
            }
        }
        Ok(unfrozen)
    }
}

impl<A: TrieKey> Stored<A, Error> for Maps {
    /// Many at once, where the kernel supports that.
    fn entries(&self, name: &'static str) -> Result<Vec<Entry<A>>, Error> {
        let map = &self.get(name)?.map;
        let found = match sys::lookup_batches::<Key<A::Key>, Raw<ApiSet>>(map, BATCH) {
            Ok(found) => found,
            Err(_) => {
                let trie = LpmTrie::<_, A::Key, Raw<ApiSet>>::try_from(self.open(name)?);
                let trie = trie.map_err(|error| failed(&error))?;
                let entries = trie.iter().collect::<Result<_, _>>();
                entries.map_err(|error| failed(&error))?
            }
        };
        let entry = |(key, Raw(apis)): (Key<A::Key>, Raw<ApiSet>)| Entry {
            prefix: A::from_key(key.data()),
            length: u8::try_from(key.prefix_len())
                .unwrap_or(A::BITS)
                .min(A::BITS),
            apis,
        };
        Ok(found.into_iter().map(entry).collect())
    }

    fn words(&self, name: &'static str) -> Result<Vec<u64>, Error> {
        let map = self.get(name)?;
        let count = map.entries * map.value_size / size_of::<u64>();
        sys::read_words(&map.map, count).map_err(|error| failed(&error))
    }

    fn section(&self, name: &'static str) -> Result<Vec<u64>, Error> {
        let bytes = self.value(name)?;
        let words = bytes.as_chunks().0.iter().copied();
        Ok(words.map(u64::from_ne_bytes).collect())
    }
}
