//! The speed of each op, a training step and decoding, compared with what the machine can do: FLOP/s as a share of the best
//! matrix product, GB/s as a share of copying memory. Both are measured first, in the same process. Everything is f32 on all
//! threads.
//!
//! `cargo bench --bench speed` runs all benchmarks (a few minutes, 3 GB of memory, 1.4 GB of temporary files). `cargo bench
//! --bench speed -- decode` runs those whose name contains a word. Weights are random, so no model is needed.

mod ceilings;
mod model;
mod ops;
mod passes;

use std::time::Duration;

use ceilings::{Ceilings, ShareOfCeiling};
use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Criterion that shows throughputs as shares of a ceiling.
type Bench = Criterion<ShareOfCeiling>;

#[expect(clippy::print_stdout, reason = "criterion prints the rest there")]
fn main() -> bipo::Result<()> {
    let ceilings = Ceilings::measure()?;
    println!("{ceilings}");
    let mut bench = Criterion::default()
        .with_measurement(ShareOfCeiling(ceilings))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    ops::bench(&mut bench)?;
    passes::bench(&mut bench);
    bench.final_summary();
    Ok(())
}
