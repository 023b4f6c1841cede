//! Instructions of the kernel's virtual machine (Documentation/bpf/standardization/instruction-set.rst),
//! put one after the other.
//!
//! Only those that the guard's program consists of. Jumps go forward, to a label that is placed later:
//! such a program ends.

/// One instruction (struct bpf_insn), as the machine orders its bytes.
pub type Instruction = [u8; 8];

/// A register. A call of the kernel takes its arguments in R1 to R5, whose contents are lost, and
/// leaves its result in R0; R10 is the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// What an operation works with besides its register: a number, which is extended to 64 bits with its
/// sign, or another register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operand {
    Number(i32),
    Register(Register),
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Operand::Number(number)
    }
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Operand::Register(register)
    }
}

/// How much a load takes from memory; the rest of the register becomes zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Size {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
}

/// An operation on whole registers (BPF_ALU64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Add = 0x00,
    Subtract = 0x10,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Move = 0xb0,
}

/// When a jump is taken; numbers are compared as unsigned, but for [`Comparison::Below`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Always = 0x00,
    Equal = 0x10,
    Greater = 0x20,
    /// Some of these bits are set.
    Bits = 0x40,
    NotEqual = 0x50,
    /// As signed numbers.
    Below = 0xc0,
}

/// Something that a jump leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    /// Where each label is, once it is placed.
    labels: Vec<Option<usize>>,
    /// Jumps, and where they lead.
    jumps: Vec<(usize, Label)>,
}

/// BPF_PSEUDO_KFUNC_CALL: the number is that of a function among the kernel's types.
const KERNEL_FUNCTION: u8 = 2;

impl Assembler {
    /// A label that is not placed so far.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `register = register OPERATION operand`
    pub fn alu(&mut self, operation: Operation, register: Register, operand: impl Into<Operand>) {
        let (source, from, number) = split(operand.into());
        self.emit(
            0x07 | source | operation as u8,
            register as u8 | from << 4,
            0,
            number,
        );
    }

    /// `register = operand`
    pub fn set(&mut self, register: Register, operand: impl Into<Operand>) {
        self.alu(Operation::Move, register, operand);
    }

    /// `register = memory[base + offset]`
    pub fn load(&mut self, size: Size, register: Register, base: Register, offset: i16) {
        let registers = register as u8 | (base as u8) << 4;
        self.emit(0x61 | size as u8, registers, offset, 0);
    }

    /// Goes on at the label if the register compares so.
    pub fn jump(
        &mut self,
        condition: Comparison,
        register: Register,
        operand: impl Into<Operand>,
        to: Label,
    ) {
        let (source, from, number) = split(operand.into());
        self.jumps.push((self.code.len(), to));
        self.emit(
            0x05 | source | condition as u8,
            register as u8 | from << 4,
            0,
            number,
        );
    }

    /// Goes on at the label.
    pub fn go(&mut self, to: Label) {
        self.jump(Comparison::Always, Register::R0, 0, to);
    }

    /// Calls a helper by its number (enum bpf_func_id, linux/bpf.h).
    pub fn call(&mut self, helper: i32) {
        self.emit(0x85, 0, 0, helper);
    }

    /// Calls a function of the kernel by its number among the kernel's types.
    pub fn call_kernel(&mut self, function: u32) {
        self.emit(0x85, KERNEL_FUNCTION << 4, 0, function.cast_signed());
    }

    /// Ends the program; its result is what is in R0.
    pub fn exit(&mut self) {
        self.emit(0x95, 0, 0, 0);
    }

    fn emit(&mut self, code: u8, registers: u8, offset: i16, number: i32) {
        let ([low, high], [a, b, c, d]) = (offset.to_ne_bytes(), number.to_ne_bytes());
        self.code.push([code, registers, low, high, a, b, c, d]);
    }

    /// The instructions, with every jump's way filled in.
    ///
    /// # Panics
    /// A jump leads to a label that was not placed, or not behind it: a mistake in the program's text.
    pub fn finish(mut self) -> Vec<Instruction> {
        for (from, label) in self.jumps {
            let to = self.labels[label.0].expect("each label is placed");
            let way = to.checked_sub(from + 1).expect("jumps go forward");
            let way = i16::try_from(way).expect("a short program");
            self.code[from][2..4].copy_from_slice(&way.to_ne_bytes());
        }
        self.code
    }
}

/// The bit that says of which kind the operand is, its register, its number.
fn split(operand: Operand) -> (u8, u8, i32) {
    match operand {
        Operand::Number(number) => (0, 0, number),
        Operand::Register(register) => (0x08, register as u8, 0),
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::Register::*;
    use super::*;

    /// As LLVM's assembler writes them.
    #[test]
    fn instructions_are_as_the_kernel_reads_them() {
        let mut asm = Assembler::default();
        let (near, end) = (asm.label(), asm.label());
        asm.set(R6, R1);
        asm.alu(Operation::Add, R3, -64);
        asm.alu(Operation::Subtract, R8, R2);
        asm.load(Size::Half, R0, R7, 0x1a);
        asm.load(Size::Byte, R0, R10, -8);
        asm.load(Size::Word, R2, R6, 16);
        asm.jump(Comparison::NotEqual, R0, 6, end);
        asm.jump(Comparison::Equal, R0, R9, near);
        asm.go(end);
        asm.place(near);
        asm.call(113);
        asm.call_kernel(0x0001_0203);
        asm.place(end);
        asm.exit();
        let wanted: [Instruction; 12] = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0x07, 0x03, 0, 0, 0xc0, 0xff, 0xff, 0xff],
            [0x1f, 0x28, 0, 0, 0, 0, 0, 0],
            [0x69, 0x70, 0x1a, 0, 0, 0, 0, 0],
            [0x71, 0xa0, 0xf8, 0xff, 0, 0, 0, 0],
            [0x61, 0x62, 0x10, 0, 0, 0, 0, 0],
            [0x55, 0x00, 4, 0, 6, 0, 0, 0],
            [0x1d, 0x90, 1, 0, 0, 0, 0, 0],
            [0x05, 0x00, 2, 0, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 113, 0, 0, 0],
            [0x85, 0x20, 0, 0, 3, 2, 1, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(asm.finish(), wanted);
    }
}
