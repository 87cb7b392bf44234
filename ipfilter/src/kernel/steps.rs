//! Counts the instructions that a loaded program runs for a frame, by stepping through what the kernel
//! has made of it.
//!
//! What decides on a live interface is how many instructions a packet takes (ARCHITECTURE.md, "Speed"),
//! and no clock shows that on a busy machine. This runs the *translated* program, which the kernel hands
//! out: map lookups inlined, dead branches removed, accesses to the context replaced. It counts as one what
//! the kernel's compiler makes one or two machine instructions of, and a helper call as one too.
//!
//! Memory is made up: the frame, the stack and the fields of the kernel's own structures that the programs
//! read. Tables are read from the kernel as they are needed; values of per-CPU maps begin as zeros and stay
//! here. Only XDP programs can be stepped through.

#![expect(
    clippy::cast_possible_truncation,
    reason = "halves and bytes of registers are wanted, and sizes are small"
)]

mod helpers;
mod instruction;
mod processor;

use std::{collections::HashMap, os::fd::OwnedFd};

pub use processor::Steps;

use self::{
    helpers::Helpers,
    instruction::{Instruction, LOW, alu, lost, swapped},
    processor::{DEPTH, FUNCTION_STACK, Run},
};

use super::{
    error::Error,
    sys::{self, MapShape},
};

/// Where each kind of memory is: a region has 2^32 addresses.
const REGION: u32 = 32;
const CONTEXT: u64 = 1;
const FRAME: u64 = 2;
const STACK: u64 = 3;
/// A structure of the kernel's of which nothing is known but an interface's number.
const OBJECT: u64 = 4;
/// The first map; each takes two regions: the map itself, and values.
const MAPS: u64 = 16;

/// Bytes in front of a frame (`XDP_PACKET_HEADROOM`).
const HEADROOM: u64 = 256;
/// The interface that frames come in by.
pub(super) const INTERFACE: u32 = 4242;
/// The kernel's ticks, as the programs see them.
const JIFFIES: u64 = 1 << 33;
/// No frame takes as many.
const LIMIT: usize = 1 << 20;

/// A translated program that can be stepped through.
pub struct Stepper {
    instructions: Vec<Instruction>,
    maps: HashMap<u32, MapInUse>,
    helpers: Helpers,
    frame: Vec<u8>,
    stack: Vec<u8>,
}

/// A map that the program uses.
struct MapInUse {
    map: OwnedFd,
    shape: MapShape,
    /// Its place among the regions.
    place: u64,
    /// Where its elements begin in the kernel's structure, once that was seen.
    elements: Option<u64>,
    values: HashMap<u64, Vec<u8>>,
}

impl MapInUse {
    /// The bytes from one element to the next.
    fn stride(&self) -> u64 {
        u64::from(self.shape.value_size.max(1)).next_multiple_of(8)
    }

    /// The element with this number.
    fn value(&mut self, index: u64) -> Result<&mut Vec<u8>, Error> {
        if !self.values.contains_key(&index) {
            let mut value = vec![0; usize::try_from(self.stride()).unwrap_or(0)];
            if !self.shape.per_cpu {
                let key = u32::try_from(index).map_err(|_| lost("an element past the end"))?;
                sys::lookup(&self.map, &key.to_ne_bytes(), &mut value)
                    .map_err(|error| Error::io("can't read a map", error))?;
            }
            self.values.insert(index, value);
        }
        self.values
            .get_mut(&index)
            .ok_or_else(|| lost("a value that is gone"))
    }
}

impl Stepper {
    /// Steps through `program` from now on.
    pub(super) fn new(program: &OwnedFd) -> Result<Self, Error> {
        let failed = |error| Error::io("can't read the translated program", error);
        let (instructions, ids) = sys::translated(program).map_err(failed)?;
        let mut maps = HashMap::new();
        for (place, id) in (0..).zip(ids) {
            let map = sys::map_by_id(id).map_err(failed)?;
            let shape = sys::map_shape(&map).map_err(failed)?;
            let in_use = MapInUse {
                map,
                shape,
                place: MAPS + 2 * place,
                elements: None,
                values: HashMap::new(),
            };
            maps.insert(id, in_use);
        }
        Ok(Self {
            instructions: instructions.into_iter().map(Instruction::new).collect(),
            maps,
            helpers: Helpers::read(),
            frame: Vec::new(),
            stack: Vec::new(),
        })
    }

    /// Instructions there are.
    #[must_use]
    pub fn length(&self) -> usize {
        self.instructions.len()
    }

    /// Judges an Ethernet frame. What the program writes down between two packets stays.
    ///
    /// # Errors
    /// When the program does something that is not known here.
    pub fn run(&mut self, frame: &[u8]) -> Result<Steps, Error> {
        self.frame = vec![0; HEADROOM as usize];
        self.frame.extend(frame);
        self.stack = vec![0; FUNCTION_STACK as usize * DEPTH];
        let mut run = Run {
            at: 0,
            registers: [0; 11],
            callers: Vec::new(),
            done: Steps {
                instructions: 0,
                helpers: 0,
                returned: 0,
            },
        };
        run.set(1, CONTEXT << REGION)?;
        run.set(10, (STACK << REGION) + FUNCTION_STACK)?;
        while self.step(&mut run)? {
            if run.done.instructions > LIMIT {
                return Err(lost("a program without an end"));
            }
        }
        Ok(run.done)
    }

    /// Runs one instruction; whether there are more.
    fn step(&mut self, run: &mut Run) -> Result<bool, Error> {
        let instruction = self.fetch(run.at)?;
        run.at += 1;
        run.done.instructions += 1;
        match instruction.class() {
            0 => self.load_constant(run, instruction)?,
            1 => {
                let address = run
                    .get(instruction.src)?
                    .wrapping_add_signed(instruction.off.into());
                let value = self.load(address, instruction)?;
                run.set(instruction.dst, value)?;
            }
            2 | 3 => self.store(run, instruction)?,
            5 | 6 if instruction.code >> 4 == 8 => self.call(run, instruction)?,
            5 if instruction.code >> 4 == 9 => return run.leave(),
            5 | 6 => run.jump(instruction)?,
            _ => self.compute(run, instruction)?,
        }
        Ok(true)
    }

    fn fetch(&self, at: usize) -> Result<Instruction, Error> {
        let instruction = self.instructions.get(at);
        instruction
            .copied()
            .ok_or_else(|| lost("a jump out of the program"))
    }

    /// A 64-bit constant, or the address of a map or of its only value: one instruction in two places.
    fn load_constant(&mut self, run: &mut Run, instruction: Instruction) -> Result<(), Error> {
        let high = self.fetch(run.at)?.imm;
        run.at += 1;
        let low = instruction.imm.cast_unsigned();
        let value = match instruction.src {
            0 => u64::from(high.cast_unsigned()) << 32 | u64::from(low),
            1 | 2 => {
                let map = self.maps.get(&low).ok_or_else(|| lost("an unknown map"))?;
                let region = map.place + u64::from(instruction.src == 2);
                (region << REGION) + u64::from(high.cast_unsigned())
            }
            _ => return Err(lost("a constant of an unknown kind")),
        };
        run.set(instruction.dst, value)
    }

    fn load(&mut self, address: u64, instruction: Instruction) -> Result<u64, Error> {
        let size = instruction.size();
        let (region, offset) = (address >> REGION, address & u64::from(u32::MAX));
        match region {
            CONTEXT => Ok(match offset {
                0 => (FRAME << REGION) + HEADROOM,
                8 => (FRAME << REGION) + self.frame.len() as u64,
                _ => OBJECT << REGION,
            }),
            OBJECT if size == 4 => Ok(INTERFACE.into()),
            OBJECT => Ok(OBJECT << REGION),
            FRAME | STACK | MAPS.. if region < self.end() => {
                if let Some(pointer) = self.per_cpu(region, offset) {
                    return Ok(pointer);
                }
                let bytes = self.bytes(region, offset, size)?;
                let bytes = bytes.iter().rev();
                Ok(bytes.fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            // The ticks: the only variable of the kernel's that a program reads.
            _ if size == 8 && region >= self.end() => Ok(JIFFIES),
            _ => Err(lost(&format!("a load from {address:#x}"))),
        }
    }

    /// The first region that is nobody's.
    fn end(&self) -> u64 {
        MAPS + 2 * self.maps.len() as u64
    }

    /// The pointer to an element of a per-CPU map that is read from the map itself.
    fn per_cpu(&self, region: u64, offset: u64) -> Option<u64> {
        let map = self.maps.values().find(|map| map.place == region)?;
        let index = (offset - map.elements?) / 8;
        map.shape
            .per_cpu
            .then(|| ((region + 1) << REGION) + index * map.stride())
    }

    fn store(&mut self, run: &Run, instruction: Instruction) -> Result<(), Error> {
        let size = instruction.size();
        let address = run
            .get(instruction.dst)?
            .wrapping_add_signed(instruction.off.into());
        let value = if instruction.class() == 2 {
            i64::from(instruction.imm).cast_unsigned()
        } else {
            run.get(instruction.src)?
        };
        let atomic = instruction.class() == 3 && instruction.code >> 5 == 6;
        let bytes = self.bytes(address >> REGION, address & u64::from(u32::MAX), size)?;
        let before = bytes.iter().rev();
        let before = before.fold(0, |value, byte| value << 8 | u64::from(*byte));
        let value = match (atomic, instruction.imm) {
            (false, _) => value,
            (true, 0) => before.wrapping_add(value),
            _ => return Err(lost("an atomic operation other than an addition")),
        };
        for (byte, new) in bytes.iter_mut().zip(value.to_le_bytes()) {
            *byte = new;
        }
        Ok(())
    }

    /// The bytes at a place.
    fn bytes(&mut self, region: u64, offset: u64, size: usize) -> Result<&mut [u8], Error> {
        let within = |bytes: &mut Vec<u8>, offset: u64| {
            let from = usize::try_from(offset).ok()?;
            Some(from..from.checked_add(size)?).filter(|range| range.end <= bytes.len())
        };
        let (bytes, offset) = match region {
            FRAME => (&mut self.frame, offset),
            STACK => (&mut self.stack, offset),
            _ => {
                let map = self
                    .maps
                    .values_mut()
                    .find(|map| map.place == region & !1)
                    .ok_or_else(|| lost("an address that is nobody's"))?;
                let from = if region == map.place {
                    map.elements.unwrap_or(u64::MAX)
                } else {
                    0
                };
                let offset = offset
                    .checked_sub(from)
                    .ok_or_else(|| lost("a field of a map"))?;
                let stride = map.stride();
                (map.value(offset / stride)?, offset % stride)
            }
        };
        let range = within(bytes, offset).ok_or_else(|| lost("an address out of bounds"))?;
        bytes
            .get_mut(range)
            .ok_or_else(|| lost("an address out of bounds"))
    }

    fn compute(&mut self, run: &mut Run, instruction: Instruction) -> Result<(), Error> {
        let wide = instruction.class() == 7;
        let before = run.get(instruction.dst)?;
        let operation = instruction.code >> 4;
        // From here on the kernel's structure of a map has its elements.
        if operation == 0
            && !instruction.has_source_register()
            && let Some(map) = self
                .maps
                .values_mut()
                .find(|map| map.place << REGION == before)
        {
            map.elements = u64::try_from(instruction.imm).ok();
        }
        let by = if operation != 13 && instruction.has_source_register() {
            run.get(instruction.src)?
        } else {
            i64::from(instruction.imm).cast_unsigned()
        };
        let value = if operation == 13 {
            swapped(before, instruction)?
        } else if wide {
            alu(operation, before, by, 64)?
        } else {
            alu(operation, before & LOW, by & LOW, 32)? & LOW
        };
        run.set(instruction.dst, value)
    }

    /// Calls a function of the program's own, or a helper.
    fn call(&mut self, run: &mut Run, instruction: Instruction) -> Result<(), Error> {
        if instruction.src == 1 {
            return run.enter(instruction);
        }
        run.done.helpers += 1;
        let returned = match self.helpers.name(instruction.imm)? {
            "bpf_xdp_get_buff_len" => self.frame.len() as u64 - HEADROOM,
            "bpf_ktime_get_ns" => JIFFIES << 20,
            // Nothing is found, and all goes well.
            _ => 0,
        };
        run.set(0, returned)
    }
}
