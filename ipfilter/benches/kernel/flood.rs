//! Live frames: sending them, dropping them, and swapping programs.

use std::{
    io::{Read as _, stdin},
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{
    TestRun as _, TestRunAttrs, TestRunOptions,
    links::FdLink,
    xdp::{XdpLinkId, XdpMode},
};
use ipfilter::kernel::Interface;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;
use testkit::lists::{Family, List, Shape};

use crate::harness::{Programs, Sources, cpu_time, frame};

/// Where frames are sent from.
const CPU: usize = 0;

/// Frames in a batch: what the kernel takes from a driver at once.
const BATCH: u32 = 64;

/// Frames in one call; between calls it can be interrupted.
const CALL: u32 = 100_000;

#[derive(Debug, clap::Args)]
pub struct SendArgs {
    /// The interface
    #[arg(long)]
    interface: String,

    /// The hardware address of the other end
    #[arg(long, value_parser = mac)]
    mac: [u8; 6],

    /// The port they go to
    #[arg(long, default_value_t = 443)]
    port: u16,

    /// The family of the sources: 4 or 6
    #[arg(long, default_value = "4", value_parser = family)]
    family: Family,

    /// Sources inside the sparse list of so many prefixes, rather than random ones
    #[arg(long)]
    inside: Option<usize>,

    /// How many, in hundreds of thousands
    #[arg(long, default_value_t = 10)]
    calls: u32,
}

#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// The interface
    #[arg(long)]
    interface: String,
}

fn family(text: &str) -> Result<Family> {
    match text {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err(anyhow!("the family is 4 or 6")),
    }
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    bytes
        .try_into()
        .map_err(|_| anyhow!("a hardware address has six bytes"))
}

/// Sources inside prefixes: a power of two.
const INSIDE: usize = 1 << 16;

/// Sends frames from uniformly random sources, or from inside prefixes.
pub fn send(args: &SendArgs) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(CPU);
    sched_setaffinity(None, &cpus)?;
    let interface = index(&args.interface)?;
    let list = args
        .inside
        .map(|size| List::new(Shape::Sparse, args.family, size).inside(INSIDE));
    let sources = list.as_deref().map_or(Sources::Random, Sources::These);
    let mut programs = Programs::load(args.family, sources, 1, interface, args.port)?;
    let program = programs.program("bench_send")?;
    let frame = frame(args.family, args.port, args.mac)?;
    let (start, cpu) = (Instant::now(), cpu_time());
    for _ in 0..args.calls {
        program.test_run(TestRunOptions {
            data_in: Some(&frame),
            repeat: CALL,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        })?;
    }
    println!(
        "{}",
        json!({
            "frames": u64::from(CALL) * u64::from(args.calls),
            "cpu_s": (cpu_time() - cpu).as_secs_f64(),
            "wall_s": start.elapsed().as_secs_f64(),
        })
    );
    Ok(())
}

/// The unit of the floods; and what an interface needs to take what XDP sends it.
pub fn attach(args: &AttachArgs, name: &str) -> Result<()> {
    let mut programs = Programs::load(Family::V4, Sources::Random, 1, 0, 0)?;
    let program = programs.program(name)?;
    let _attached: XdpLinkId = program.attach(&args.interface, XdpMode::Driver)?;
    println!("ready");
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Times the call that puts a program behind the link of another.
pub fn swap(args: &AttachArgs) -> Result<()> {
    let mut programs = Programs::load(Family::V4, Sources::Random, 1, 0, 0)?;
    programs.program("bench_parse")?;
    let program = programs.program("bench_drop")?;
    let attached = program.attach(&args.interface, XdpMode::Driver)?;
    let mut link: FdLink = program.take_link(attached)?.try_into()?;
    let mut times = Vec::new();
    for round in 0..20 {
        let name = if round % 2 == 0 {
            "bench_parse"
        } else {
            "bench_drop"
        };
        let program = programs.program(name)?;
        let start = Instant::now();
        let id = program.attach_to_link(link.try_into()?)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        link = program.take_link(id)?.try_into()?;
    }
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place).copied();
    println!(
        "{}",
        json!({ "median_ms": at(10), "low_ms": at(5), "high_ms": at(15) })
    );
    Ok(())
}

fn index(name: &str) -> Result<u32> {
    let interfaces = Interface::matching(&[name.to_owned()], &[])?.interfaces;
    let interface = interfaces.first().context("no such interface")?;
    Ok(interface.index)
}
