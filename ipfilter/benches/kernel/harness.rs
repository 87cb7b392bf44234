//! The benchmark's own programs, and the clock.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, ProgramInfo, TestRun as _, TestRunOptions, Xdp, loaded_programs},
};
use ipfilter::{packet::Packet, plan::Protocol};
use rustix::time::{ClockId, clock_gettime};
use testkit::lists::Family;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ipfilter-bench"));

/// Sources to go through.
#[derive(Clone, Copy)]
pub enum Sources<'a> {
    /// Uniformly random.
    Random,
    /// These, again and again; as many as a power of two.
    These(&'a [u128]),
}

/// The benchmark's programs, set up for one kind of sources.
pub struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Loads them. `bench_send` sends to `interface`, `bench_parse` looks for `port`.
    ///
    /// `bench_read` reads from a table of 2^`bits` words.
    pub fn load(
        family: Family,
        sources: Sources<'_>,
        bits: u32,
        interface: u32,
        port: u16,
    ) -> Result<Self> {
        let (last, length) = match sources {
            Sources::Random => (0, 1),
            Sources::These(list) => (u32::try_from(list.len() - 1)?, u32::try_from(list.len())?),
        };
        let family_number: u32 = match family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let mut ebpf = EbpfLoader::new()
            .override_global("FAMILY", &family_number, true)
            .override_global("LAST", &last, true)
            .override_global("INTERFACE", &interface, true)
            .override_global("PORT", &u32::from(port), true)
            .override_global("SHIFT", &(32 - bits), true)
            .map_max_entries("LIST", length)
            .map_max_entries("WORDS", 1 << bits)
            .load(OBJECT)?;
        if let Sources::These(list) = sources {
            let map = ebpf.map_mut("LIST").context("no list")?;
            let mut array = Array::<_, [u64; 2]>::try_from(map)?;
            for (index, address) in (0..).zip(list) {
                array.set(index, halves(family, *address), 0)?;
            }
        }
        Ok(Self { ebpf })
    }

    /// One of them, verified.
    pub fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("no program `{name}`"))?;
        let xdp: &mut Xdp = program.try_into()?;
        if xdp.fd().is_err() {
            xdp.load()?;
        }
        Ok(xdp)
    }

    /// The time that a packet takes which gets another source and is then judged by `judged`.
    pub fn judge(&mut self, judged: &ProgramFd, frame: &[u8], repeats: u32) -> Result<f64> {
        let map = self.ebpf.map_mut("JUDGED").context("no program array")?;
        ProgramArray::try_from(map)?.set(0, judged, 0)?;
        time(self.program("bench_judge")?, frame, repeats)
    }
}

/// The time that a packet takes in `program`, in ns.
pub fn time(program: &Xdp, frame: &[u8], repeats: u32) -> Result<f64> {
    let start = cpu_time();
    let ran = program.test_run(TestRunOptions {
        data_in: Some(frame),
        repeat: repeats,
        ..TestRunOptions::new()
    })?;
    let spent = cpu_time() - start;
    if ran.return_value == 0 {
        return Err(anyhow!("the program gave up (XDP_ABORTED)"));
    }
    Ok(spent.as_secs_f64() * 1e9 / f64::from(repeats))
}

/// This thread's CPU time.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// What the kernel says of a loaded program.
pub fn info(program: impl AsFd) -> Result<ProgramInfo> {
    let fd = program.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("prog_id:"))
        .context("not a program")?;
    let id: u32 = id.trim().parse()?;
    for info in loaded_programs() {
        let info = info?;
        if info.id() == id {
            return Ok(info);
        }
    }
    Err(anyhow!("program {id} is gone"))
}

#[expect(clippy::cast_possible_truncation, reason = "halves are wanted")]
fn halves(family: Family, address: u128) -> [u64; 2] {
    match family {
        Family::V4 => [address as u64, 0],
        Family::V6 => [(address >> 64) as u64, address as u64],
    }
}

/// A client's first segment to the host that the namespaces of `cargo xtask bench` have.
pub fn frame(family: Family, port: u16, mac: [u8; 6]) -> Result<Vec<u8>> {
    let (source, destination) = match family {
        Family::V4 => ("203.0.113.10", "192.0.2.2"),
        Family::V6 => ("2001:db8:113::10", "2001:db8:2::2"),
    };
    Packet {
        mac,
        vlans: Vec::new(),
        source: source.parse()?,
        destination: destination.parse()?,
        protocol: Protocol::Tcp,
        port,
        fragment: None,
    }
    .frame()
}
