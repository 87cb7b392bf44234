//! Registers, and where a program is.

use super::instruction::{Instruction, LOW, lost};
use crate::kernel::error::Error;

/// Bytes of stack that each function has.
pub(super) const FUNCTION_STACK: u64 = 512;
/// Functions that call each other.
pub(super) const DEPTH: usize = 8;
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

/// A program that runs.
pub(super) struct Run {
    pub(super) at: usize,
    pub(super) registers: [u64; 11],
    /// Where functions return to, and the registers that they must leave as they are.
    pub(super) callers: Vec<(usize, [u64; 11])>,
    pub(super) done: Steps,
}

impl Run {
    pub(super) fn get(&self, register: usize) -> Result<u64, Error> {
        let register = self.registers.get(register).copied();
        register.ok_or_else(|| lost("an unknown register"))
    }

    pub(super) fn set(&mut self, register: usize, value: u64) -> Result<(), Error> {
        let register = self.registers.get_mut(register);
        *register.ok_or_else(|| lost("an unknown register"))? = value;
        Ok(())
    }

    pub(super) fn jump(&mut self, instruction: Instruction) -> Result<(), Error> {
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

    pub(super) fn go(&mut self, by: i32) -> Result<(), Error> {
        let at = isize::try_from(by)
            .ok()
            .and_then(|by| self.at.checked_add_signed(by));
        self.at = at.ok_or_else(|| lost("a jump out of the program"))?;
        Ok(())
    }

    /// Where programs are compiled, the offset says how far it is, and the constant which function it is.
    pub(super) fn enter(&mut self, instruction: Instruction) -> Result<(), Error> {
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
    pub(super) fn leave(&mut self) -> Result<bool, Error> {
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
