//! Amounts of memory as users write and read them (`2GB`, `500MiB`, `0`), and how much of it the machine and this process have.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || Error::Argument(format!("size {text:?}: expected a number and a unit, as 2GB or 500MiB"));
        let text = text.trim();
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.trim().parse().map_err(|_| expected())?;
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, bytes)| *bytes);
        let bytes = match (known, unit) {
            (Some(bytes), _) => number * bytes as f64,
            (None, "") => number,
            _ => return Err(expected()),
        };
        if (0.0..=u64::MAX as f64 / 2.0).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(expected()) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (name, bytes) = UNITS[1..5].iter().rev().find(|(_, bytes)| self.0 >= *bytes).unwrap_or(&UNITS[0]);
        let decimals = if *bytes == 1 { 0 } else { 1 };
        write!(f, "{:.decimals$} {name}", self.0 as f64 / *bytes as f64)
    }
}

/// Returns the memory of this machine, or the limit of its container if that is less; `None` if the system is not Linux.
pub fn total_memory() -> Option<Bytes> {
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let total = machine_memory()?;
    Some(Bytes(limit.map_or(total, |limit: u64| limit.min(total))))
}

#[cfg(target_os = "linux")]
fn machine_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some(info.totalram as u64 * u64::from(info.mem_unit))
}

#[cfg(not(target_os = "linux"))]
fn machine_memory() -> Option<u64> {
    None
}

/// Returns the memory that this process can still take: what the machine can make available, within the limits of the container
/// and of the process; `None` if the system is not Linux.
pub fn available_memory() -> Option<Bytes> {
    let machine = kib(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let limit = |text: String| text.trim().parse::<u64>().ok();
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let container = || -> Option<u64> {
        let stat = read("memory.stat")?;
        let held: u64 = stat.lines().find_map(|line| line.strip_prefix("anon "))?.trim().parse().ok()?;
        Some(limit(read("memory.max")?)?.saturating_sub(held))
    };
    // The allocator rounds large pieces up and leaves gaps: of limited addresses it cannot fill a quarter. Prompts are rendered
    // between passes.
    let own = || Some(address_space_limit()?.0.saturating_sub(own_memory("VmSize:")? + RENDERING_BYTES) / 4 * 3);
    [Some(machine), container(), own()].into_iter().flatten().min().map(Bytes)
}

/// Addresses that a chat template takes while it is rendered, most of them for its stack.
pub(crate) const RENDERING_BYTES: u64 = 256 << 20;

/// Returns the most addresses that this process may use, as `ulimit -v` sets it; `None` if there is no limit, or the system is not
/// Linux.
pub fn address_space_limit() -> Option<Bytes> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let most = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    most.split_whitespace().next()?.parse().ok().map(Bytes)
}

/// Addresses that a thread takes: its stack of 2 MiB, that of its signals, and the first pages of its own in the allocator.
const THREAD_BYTES: u64 = 8 << 20;

/// Addresses that a command takes beside its threads and its model.
const COMMAND_BYTES: u64 = 32 << 20;

/// Refuses to start threads where addresses are limited (`ulimit -v`) to less than they take: the standard library aborts the
/// process where a thread finds no memory for the stack of its signals.
///
/// # Errors
/// The limit leaves too little.
pub fn check_addresses(threads: usize) -> Result<()> {
    let Some((limit, used)) = address_space_limit().zip(own_memory("VmSize:")) else { return Ok(()) };
    let need = used + COMMAND_BYTES + THREAD_BYTES * threads as u64;
    if need <= limit.0 {
        return Ok(());
    }
    Err(Error::Memory(format!(
        "not enough memory: {threads} threads without a model take about {} of addresses, and the limit is {limit}: raise it \
         (ulimit -v)",
        Bytes(need)
    )))
}

/// Returns the entry `name` of one of the system's tables, in bytes.
fn kib(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Returns the peak resident memory of this process, mapped files included; `None` if the system is not Linux.
pub fn peak_memory() -> Option<Bytes> {
    own_memory("VmHWM:").map(Bytes)
}

/// Returns the entry `name` of `/proc/self/status`, in bytes; `None` if the system is not Linux.
pub(crate) fn own_memory(name: &str) -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/self/status").ok()?, name)
}

#[cfg(test)]
#[path = "bytes_tests.rs"]
mod tests;
