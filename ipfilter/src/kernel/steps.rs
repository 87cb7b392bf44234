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

use std::{collections::HashMap, fs, os::fd::OwnedFd};

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
/// Bytes of stack that each function has.
const FUNCTION_STACK: u64 = 512;
/// Functions that call each other.
const DEPTH: usize = 8;
/// The interface that frames come in by.
pub(super) const INTERFACE: u32 = 4242;
/// The kernel's ticks, as the programs see them.
const JIFFIES: u64 = 1 << 33;
/// No frame takes as many.
const LIMIT: usize = 1 << 20;

/// What it took to judge a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Instructions run, helper calls among them.
    pub instructions: usize,
    /// Helpers called.
    pub helpers: usize,
    /// What the program returned.
    pub returned: u32,
}

/// A translated program that can be stepped through.
pub struct Stepper {
    instructions: Vec<Instruction>,
    maps: HashMap<u32, MapInUse>,
    helpers: Helpers,
    frame: Vec<u8>,
    stack: Vec<u8>,
}

/// One instruction, its parts named as in the kernel's `bpf.h`.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    dst: usize,
    src: usize,
    off: i16,
    imm: i32,
}

impl Instruction {
    fn new(bits: u64) -> Self {
        let [code, registers, o0, o1, i0, i1, i2, i3] = bits.to_le_bytes();
        Self {
            code,
            dst: usize::from(registers & 15),
            src: usize::from(registers >> 4),
            off: i16::from_le_bytes([o0, o1]),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    fn class(self) -> u8 {
        self.code & 7
    }

    fn has_source_register(self) -> bool {
        self.code & 8 != 0
    }

    /// Bytes that are loaded or stored.
    fn size(self) -> usize {
        match self.code >> 3 & 3 {
            0 => 4,
            1 => 2,
            2 => 1,
            _ => 8,
        }
    }
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

/// The low half of a register.
const LOW: u64 = u32::MAX as u64;

/// A program that runs.
struct Run {
    at: usize,
    registers: [u64; 11],
    /// Where functions return to, and the registers that they must leave as they are.
    callers: Vec<(usize, [u64; 11])>,
    done: Steps,
}

impl Run {
    fn get(&self, register: usize) -> Result<u64, Error> {
        let register = self.registers.get(register).copied();
        register.ok_or_else(|| lost("an unknown register"))
    }

    fn set(&mut self, register: usize, value: u64) -> Result<(), Error> {
        let register = self.registers.get_mut(register);
        *register.ok_or_else(|| lost("an unknown register"))? = value;
        Ok(())
    }

    fn jump(&mut self, instruction: Instruction) -> Result<(), Error> {
        let wide = instruction.class() == 5;
        let (operation, left) = (instruction.code >> 4, self.get(instruction.dst)?);
        let right = if instruction.has_source_register() {
            self.get(instruction.src)?
        } else {
            i64::from(instruction.imm).cast_unsigned()
        };
        if operation == 0 {
            let by = if wide {
                instruction.off.into()
            } else {
                instruction.imm
            };
            return self.go(by);
        }
        let signed = |value: u64| {
            if wide {
                value.cast_signed()
            } else {
                i64::from((value & LOW) as u32 as i32)
            }
        };
        let (l, r) = if wide {
            (left, right)
        } else {
            (left & LOW, right & LOW)
        };
        let taken = match operation {
            1 => l == r,
            2 => l > r,
            3 => l >= r,
            4 => l & r != 0,
            5 => l != r,
            6 => signed(left) > signed(right),
            7 => signed(left) >= signed(right),
            10 => l < r,
            11 => l <= r,
            12 => signed(left) < signed(right),
            13 => signed(left) <= signed(right),
            _ => return Err(lost("an unknown jump")),
        };
        if taken {
            self.go(instruction.off.into())
        } else {
            Ok(())
        }
    }

    fn go(&mut self, by: i32) -> Result<(), Error> {
        let at = isize::try_from(by)
            .ok()
            .and_then(|by| self.at.checked_add_signed(by));
        self.at = at.ok_or_else(|| lost("a jump out of the program"))?;
        Ok(())
    }

    /// Where programs are compiled, the offset says how far it is, and the constant which function it is.
    fn enter(&mut self, instruction: Instruction) -> Result<(), Error> {
        self.callers.push((self.at, self.registers));
        if self.callers.len() >= DEPTH {
            return Err(lost("functions too deep"));
        }
        self.set(10, self.get(10)? + FUNCTION_STACK)?;
        let by = if instruction.off == 0 {
            instruction.imm
        } else {
            instruction.off.into()
        };
        self.go(by)
    }

    /// Leaves a function; whether there is one to go on with.
    fn leave(&mut self) -> Result<bool, Error> {
        let returned = self.get(0)?;
        match self.callers.pop() {
            Some((at, registers)) => {
                (self.at, self.registers) = (at, registers);
                self.set(0, returned)?;
                Ok(true)
            }
            None => {
                self.done.returned = (returned & LOW) as u32;
                Ok(false)
            }
        }
    }
}

/// Arithmetic on registers of so many bits.
fn alu(operation: u8, a: u64, b: u64, bits: u32) -> Result<u64, Error> {
    let shift = (b & u64::from(bits - 1)) as u32;
    Ok(match operation {
        0 => a.wrapping_add(b),
        1 => a.wrapping_sub(b),
        2 => a.wrapping_mul(b),
        3 => a.checked_div(b).unwrap_or(0),
        4 => a | b,
        5 => a & b,
        6 => a << shift,
        7 => a >> shift,
        8 => a.wrapping_neg(),
        9 => a.checked_rem(b).unwrap_or(a),
        10 => a ^ b,
        // Also the address of a per-CPU value, which is one already.
        11 => b,
        12 if bits == 64 => (a.cast_signed() >> shift).cast_unsigned(),
        12 => ((a as u32).cast_signed() >> shift).cast_unsigned().into(),
        _ => return Err(lost("unknown arithmetic")),
    })
}

/// The low bytes, turned round where the instruction says so.
fn swapped(value: u64, instruction: Instruction) -> Result<u64, Error> {
    let turns = instruction.class() == 7
        || instruction.has_source_register() != cfg!(target_endian = "big");
    Ok(match (instruction.imm, turns) {
        (16, true) => u64::from((value as u16).swap_bytes()),
        (32, true) => u64::from((value as u32).swap_bytes()),
        (64, true) => value.swap_bytes(),
        (16, false) => value & 0xffff,
        (32, false) => value & LOW,
        (64, false) => value,
        _ => return Err(lost("an unknown byte order")),
    })
}

/// The kernel's helpers by the distance from the place that calls count from.
struct Helpers {
    names: HashMap<u64, String>,
    base: Option<u64>,
}

impl Helpers {
    /// Those that the kernel lists for root.
    fn read() -> Self {
        let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let symbols = text.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.nth(1)?))
        });
        let mut base = None;
        let mut names = HashMap::new();
        for (address, name) in symbols {
            if name == "__bpf_call_base" {
                base = Some(address);
            }
            if name.starts_with("bpf_") || name.ends_with("_elem") {
                names.insert(address, name.to_owned());
            }
        }
        Self { names, base }
    }

    fn name(&self, distance: i32) -> Result<&str, Error> {
        let address = self
            .base
            .map(|base| base.wrapping_add_signed(distance.into()));
        let name = address.and_then(|address| self.names.get(&address));
        name.map(String::as_str)
            .ok_or_else(|| lost("a helper whose name the kernel does not show"))
    }
}

fn lost(by: &str) -> Error {
    Error::failed("can't step through the program", by)
}
