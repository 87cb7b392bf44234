//! Per packet: a bare drop, a bare parse, and the deployed programs with either table.

use std::{net::IpAddr, time::Instant};

use anyhow::{Context as _, Result};
use aya::programs::ProgramFd;
use ipfilter::{
    addresses::AddressSet,
    kernel::{Kind, Trial},
    plan::{Api, Deny, IntervalTable, Lookup, Plan, Protocols, Response},
};
use ipnet::IpNet;
use serde_json::{Value, json};
use testkit::lists::{Family, List, Shape};

use crate::harness::{Programs, Sources, frame, info, time};

/// The API's port, and one that is none's.
const PORT: u16 = 443;
const OTHER_PORT: u16 = 444;

/// Any address will do.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Sources inside prefixes: enough that the table's lines are not all in the nearest cache.
const INSIDE: usize = 1 << 17;

/// Packets until no more are reported in a second.
const FLOOD: usize = 1300;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of prefixes
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,10,1000,100000,1000000"
    )]
    sizes: Vec<usize>,

    /// Prefixes of the dense list
    #[arg(long, default_value_t = 500_000)]
    dense: usize,

    /// Prefixes of the lists of long and of clustered IPv6 prefixes
    #[arg(long, default_value_t = 100_000)]
    long: usize,

    /// Measurements of each; the median counts
    #[arg(long, default_value_t = 9)]
    rounds: usize,

    /// Packets in each
    #[arg(long, default_value_t = 1_000_000)]
    packets: u32,

    /// Leave the tries out from this many prefixes on
    #[arg(long)]
    no_trie_from: Option<usize>,
}

pub fn run(args: &Args) -> Result<()> {
    for (shape, family) in Shape::ALL {
        let sizes = match shape {
            Shape::Sparse => args.sizes.as_slice(),
            Shape::Dense => &[args.dense],
            Shape::Long | Shape::Clusters => &[args.long],
        };
        for &size in sizes.iter().filter(|size| **size > 0) {
            measure(args, shape, family, size)?;
        }
    }
    Ok(())
}

/// A program to be measured.
struct Contender {
    name: &'static str,
    trial: Option<Trial>,
    program: ProgramFd,
    port: u16,
    build: f64,
}

fn measure(args: &Args, shape: Shape, family: Family, size: usize) -> Result<()> {
    let list = List::new(shape, family, size);
    let plan = plan(&list)?;
    let unreported = Plan {
        events: 0,
        ..plan.clone()
    };
    let inside = list.inside(INSIDE);
    let bytes = IntervalTable::new(&plan.v4)?.sizes().total()
        + IntervalTable::new(&plan.v6)?.sizes().total();
    let words = bytes / size_of::<u64>();
    let bits = words.next_power_of_two().ilog2();
    for (sources, name) in [
        (Sources::Random, "random"),
        (Sources::These(&inside), "inside"),
    ] {
        let mut programs = Programs::load(family, sources, bits, 0, PORT)?;
        let mut contenders = vec![
            Contender::own(&mut programs, "bench_drop")?,
            Contender::own(&mut programs, "bench_parse")?,
            Contender::own(&mut programs, "bench_read")?,
            Contender::deployed("other port", &plan, Lookup::Intervals, OTHER_PORT)?,
            Contender::deployed("intervals", &plan, Lookup::Intervals, PORT)?,
            Contender::deployed(
                "intervals, no reports",
                &unreported,
                Lookup::Intervals,
                PORT,
            )?,
        ];
        if args.no_trie_from.is_none_or(|limit| size < limit) {
            contenders.push(Contender::deployed("trie", &plan, Lookup::Trie, PORT)?);
        }
        let (bare, times) = rounds(args, family, &mut programs, &contenders)?;
        report(
            &json!({ "family": family.to_string(), "list": shape.to_string(), "prefixes": size, "sources": name }),
            &bare,
            &contenders,
            &times,
            &plan,
            family,
        )?;
    }
    Ok(())
}

/// The unit, and each contender's times, all by turns.
fn rounds(
    args: &Args,
    family: Family,
    programs: &mut Programs,
    contenders: &[Contender],
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let mut bare = Vec::new();
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..=args.rounds {
        let drop = time(
            programs.program("bench_drop")?,
            &frame(family, PORT, MAC)?,
            args.packets,
        )?;
        let mut spent = Vec::new();
        for contender in contenders {
            let frame = frame(family, contender.port, MAC)?;
            spent.push(programs.judge(&contender.program, &frame, args.packets)?);
        }
        // The first is to warm up.
        if round > 0 {
            bare.push(drop);
            let wrapper = spent.first().copied().unwrap_or_default() - drop;
            for (times, spent) in times.iter_mut().zip(spent) {
                times.push(spent - wrapper);
            }
        }
    }
    Ok((bare, times))
}

fn report(
    case: &Value,
    bare: &[f64],
    contenders: &[Contender],
    times: &[Vec<f64>],
    plan: &Plan,
    family: Family,
) -> Result<()> {
    let measures = plan.measure();
    let measures = match family {
        Family::V4 => measures.v4,
        Family::V6 => measures.v6,
    };
    for (contender, times) in contenders.iter().zip(times) {
        let mut line = case.clone();
        let object = line.as_object_mut().context("an object")?;
        object.insert("part".into(), "packet".into());
        object.insert("program".into(), contender.name.into());
        object.insert("ns".into(), spread(times));
        object.insert("drop_ns".into(), spread(bare));
        if let Some(trial) = &contender.trial {
            let info = info(trial)?;
            object.insert("verified".into(), info.verified_instruction_count().into());
            object.insert("jited_bytes".into(), info.size_jitted().into());
            object.insert("build_s".into(), contender.build.into());
            object.insert(
                "instructions".into(),
                contender.instructions(family)?.into(),
            );
        }
        match contender.name {
            "intervals" => {
                let bytes = measures.table.as_ref().map(|sizes| sizes.total()).ok();
                object.insert("bytes".into(), bytes.into());
            }
            "trie" => {
                object.insert("bytes".into(), measures.trie_bytes().into());
            }
            _ => {}
        }
        println!("{line}");
    }
    Ok(())
}

fn spread(times: &[f64]) -> Value {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let at = |part: usize| {
        let place = (times.len() - 1) * part / 4;
        times.get(place).map(|time| (time * 100.0).round() / 100.0)
    };
    json!({ "median": at(2), "low": at(1), "high": at(3) })
}

impl Contender {
    fn own(programs: &mut Programs, name: &'static str) -> Result<Self> {
        Ok(Self {
            name: name.trim_start_matches("bench_"),
            trial: None,
            program: programs.program(name)?.fd()?.try_clone()?,
            port: PORT,
            build: 0.0,
        })
    }

    /// Instructions that a denied packet from far away takes in a flood.
    fn instructions(&self, family: Family) -> Result<Option<usize>> {
        let Some(trial) = &self.trial else {
            return Ok(None);
        };
        let mut stepper = trial.stepper()?;
        let frame = frame(family, self.port, MAC)?;
        let mut least = usize::MAX;
        for _ in 0..FLOOD {
            least = least.min(stepper.run(&frame)?.instructions);
        }
        Ok(Some(least))
    }

    fn deployed(name: &'static str, plan: &Plan, lookup: Lookup, port: u16) -> Result<Self> {
        let plan = Plan {
            lookup,
            ..plan.clone()
        };
        let start = Instant::now();
        let trial = Trial::load(&plan, Kind::Xdp)?;
        Ok(Self {
            name,
            build: start.elapsed().as_secs_f64(),
            program: info(&trial)?.fd()?,
            trial: Some(trial),
            port,
        })
    }
}

/// Only the list's prefixes may call.
fn plan(list: &List) -> Result<Plan> {
    let networks: Vec<IpNet> = list
        .prefixes
        .iter()
        .map(|prefix| IpNet::new(address(list.family, prefix.first), prefix.length))
        .collect::<Result<_, _>>()?;
    let api = Api {
        name: "api".into(),
        ports: PORT.to_string().parse()?,
        protocols: Protocols::TCP,
        deny: Deny::Drop,
        enforce: ipfilter::plan::Share::ALL,
        response: Response::default(),
        sources: AddressSet::from_networks(networks),
    };
    Ok(Plan::new(vec![api], Vec::new())?)
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4((bits as u32).into()),
        Family::V6 => IpAddr::V6(bits.into()),
    }
}
