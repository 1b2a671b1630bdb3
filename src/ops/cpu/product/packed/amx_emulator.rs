//! The instructions of AMX on processors that lack them: they are illegal there, and the handler of that signal does their work, as
//! the processors' manual describes it. It knows the six instructions that the kernel uses, and ends the program at any other.

use std::cell::RefCell;
use std::sync::Once;

use half::bf16;

/// A register: sixteen rows of 64 bytes.
type Register = [[u8; 64]; 16];

struct State {
    /// Rows, and bytes of a row, of each register; 0 where none are configured.
    shapes: [(usize, usize); 8],
    registers: [Register; 8],
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State { shapes: [(0, 0); 8], registers: [[[0; 64]; 16]; 8] }) };
}

/// From here on, the instructions work in every thread of this process.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler touches its thread's state and the memory that the instruction names, and returns behind it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
        }
    });
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system gives the context of the interrupted thread, whose next bytes are an instruction.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const u8;
        let code: [u8; 11] = std::array::from_fn(|i| at.add(i).read());
        let length = STATE.with_borrow_mut(|state| state.run(code, registers));
        let Some(length) = length else { libc::abort() };
        registers[libc::REG_RIP as usize] += length as i64;
    }
}

impl State {
    /// Does the work of the instruction that `code` begins with. → its length; `None` if it is another.
    ///
    /// # Safety
    /// The memory that the instruction names must be valid for it.
    unsafe fn run(&mut self, code: [u8; 11], registers: &[i64; 23]) -> Option<usize> {
        // A prefix of three bytes, with the registers' fourth bits inverted; map 0F 38, no W, 128 bits.
        let [0xc4, first, second, opcode, mod_rm, ..] = code else { return None };
        let (map, prefix, is_w, is_256) = (first & 0x1f, second & 3, second & 0x80 != 0, second & 4 != 0);
        if map != 2 || is_w || is_256 {
            return None;
        }
        let (mode, reg, rm) = (mod_rm >> 6, usize::from(mod_rm >> 3 & 7), usize::from(mod_rm & 7));
        let third = usize::from(!(second >> 3) & 15);
        match (opcode, prefix, mode) {
            (0x49, 0, 3) if mod_rm == 0xc0 => {
                self.shapes = [(0, 0); 8];
                Some(5)
            }
            (0x49, 0, _) if reg == 0 => {
                let (address, _, length) = address(first, &code[4..], registers)?;
                // SAFETY: the caller answers for the 64 bytes.
                self.configure(unsafe { (address as *const [u8; 64]).read() })?;
                Some(4 + length)
            }
            (0x49, 3, 3) if rm == 0 => {
                self.shape(reg)?;
                self.registers[reg] = [[0; 64]; 16];
                Some(5)
            }
            (0x4b, 2 | 3, 0..=2) if rm == 4 => {
                let (address, stride, length) = address(first, &code[4..], registers)?;
                let (rows, bytes) = self.shape(reg)?;
                for row in 0..rows {
                    let memory = (address + row as i64 * stride) as *mut u8;
                    let register = self.registers[reg][row].as_mut_ptr();
                    // SAFETY: the caller answers for the rows.
                    unsafe {
                        match prefix {
                            3 => std::ptr::copy_nonoverlapping(memory, register, bytes),
                            _ => std::ptr::copy_nonoverlapping(register, memory, bytes),
                        }
                    }
                }
                Some(4 + length)
            }
            (0x5c, 2, 3) => {
                self.multiply(reg, rm, third)?;
                Some(5)
            }
            _ => None,
        }
    }

    fn configure(&mut self, configuration: [u8; 64]) -> Option<()> {
        let reserved = [&configuration[1..16], &configuration[32..48], &configuration[56..]].concat();
        if configuration[0] != 1 || reserved.iter().any(|byte| *byte != 0) {
            return None;
        }
        for (i, shape) in self.shapes.iter_mut().enumerate() {
            let bytes = u16::from_le_bytes([configuration[16 + 2 * i], configuration[17 + 2 * i]]);
            *shape = (usize::from(configuration[48 + i]), usize::from(bytes));
            if shape.0 > 16 || shape.1 > 64 {
                return None;
            }
        }
        self.registers = [[[0; 64]; 16]; 8];
        Some(())
    }

    fn shape(&self, register: usize) -> Option<(usize, usize)> {
        self.shapes.get(register).copied().filter(|(rows, bytes)| rows * bytes > 0)
    }

    /// sums (m, n) += a (m, pairs) · b (pairs, n), of pairs of bf16.
    fn multiply(&mut self, sums: usize, a: usize, b: usize) -> Option<()> {
        let ((rows, bytes), (a_rows, a_bytes), (b_rows, b_bytes)) = (self.shape(sums)?, self.shape(a)?, self.shape(b)?);
        if a_rows != rows || b_bytes != bytes || a_bytes != 4 * b_rows || sums == a || sums == b || a == b {
            return None;
        }
        let half = |register: &Register, row: usize, i: usize| {
            normal(bf16::from_le_bytes([register[row][2 * i], register[row][2 * i + 1]]).to_f32())
        };
        for row in 0..rows {
            for column in 0..bytes / 4 {
                let mut parts = [0f32; 2];
                for pair in 0..b_rows {
                    for (i, part) in parts.iter_mut().enumerate() {
                        let (x, y) =
                            (half(&self.registers[a], row, 2 * pair + i), half(&self.registers[b], pair, 2 * column + i));
                        *part = normal(x.mul_add(y, *part));
                    }
                }
                let sum = self.registers[sums][row][4 * column..].first_chunk_mut::<4>()?;
                *sum = normal(normal(f32::from_le_bytes(*sum)) + normal(parts[0] + parts[1])).to_le_bytes();
            }
        }
        Some(())
    }
}

/// Zero in place of what is too small for a normal f32.
fn normal(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

/// The address of an operand in memory, the index that it is counted up by, and the length of what says so.
fn address(first: u8, code: &[u8], registers: &[i64; 23]) -> Option<(i64, i64, usize)> {
    use libc::{
        REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI,
        REG_RDX, REG_RSI, REG_RSP,
    };
    let order = [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12,
        REG_R13, REG_R14, REG_R15,
    ];
    let value = |low: u8, inverted: u8| {
        let number = usize::from(low & 7) + if first & inverted == 0 { 8 } else { 0 };
        registers[order[number] as usize]
    };
    const INVERTED_X: u8 = 0x40;
    const INVERTED_B: u8 = 0x20;
    let (mode, rm) = (code[0] >> 6, code[0] & 7);
    let (base, index, mut length) = match rm {
        4 => {
            let sib = code[1];
            if mode == 0 && sib & 7 == 5 {
                return None;
            }
            let is_none = sib >> 3 & 7 == 4 && first & INVERTED_X != 0;
            let index = if is_none { 0 } else { value(sib >> 3, INVERTED_X) << (sib >> 6) };
            (value(sib, INVERTED_B), index, 2)
        }
        5 if mode == 0 => return None,
        _ => (value(rm, INVERTED_B), 0, 1),
    };
    let displacement = match mode {
        0 => 0,
        1 => {
            length += 1;
            i64::from(code[length - 1] as i8)
        }
        _ => {
            length += 4;
            i64::from(i32::from_le_bytes(*code[length - 4..].first_chunk()?))
        }
    };
    Some((base + displacement, index, length))
}
