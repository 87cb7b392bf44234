//! One instruction, and what it computes.

use crate::kernel::error::Error;

/// The low half of a register.
pub(super) const LOW: u64 = u32::MAX as u64;

/// One instruction, its parts named as in the kernel's `bpf.h`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    pub(super) code: u8,
    pub(super) dst: usize,
    pub(super) src: usize,
    pub(super) off: i16,
    pub(super) imm: i32,
}

impl Instruction {
    pub(super) fn new(bits: u64) -> Self {
        let [code, registers, o0, o1, i0, i1, i2, i3] = bits.to_le_bytes();
        Self {
            code,
            dst: usize::from(registers & 15),
            src: usize::from(registers >> 4),
            off: i16::from_le_bytes([o0, o1]),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    pub(super) fn class(self) -> u8 {
        self.code & 7
    }

    pub(super) fn has_source_register(self) -> bool {
        self.code & 8 != 0
    }

    /// Bytes that are loaded or stored.
    pub(super) fn size(self) -> usize {
        match self.code >> 3 & 3 {
            0 => 4,
            1 => 2,
            2 => 1,
            _ => 8,
        }
    }
}

/// Arithmetic on registers of so many bits.
pub(super) fn alu(operation: u8, a: u64, b: u64, bits: u32) -> Result<u64, Error> {
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
pub(super) fn swapped(value: u64, instruction: Instruction) -> Result<u64, Error> {
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

pub(super) fn lost(by: &str) -> Error {
    Error::failed("can't step through the program", by)
}
