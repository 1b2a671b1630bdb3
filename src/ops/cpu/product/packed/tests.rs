//! Products of each tiling: against f64, against plain loops to the bit, and those of the instructions that this machine lacks
//! with a tiling that sums a tile by plain loops.

use half::bf16;
use pulp::x86::V3;

use super::super::all_threads;
use super::super::matrix::bf16_bits;
use super::pack::{pack_left_band, pack_left_tiles, pack_right_pairs};
use super::*;

/// The order in which a tiling adds the products of a sum.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// One after the other.
    InTurn,
    /// Of each pair the second first: `vdpbf16ps`.
    Pairs,
    /// In groups of sixteen pairs, the first of the pairs and the second apart: `tdpbf16ps`.
    Tiles,
    /// That of the processor's own instruction for bf16, which may not be the manual's: not compared.
    Unseen,
}

/// A tiling that packs for vdpbf16ps, or for tdpbf16ps with TILES, and sums by plain loops.
#[derive(Clone, Copy)]
struct Emulated<const TILES: bool>(V3);

impl<const TILES: bool> Tiling for Emulated<TILES> {
    const ROWS: usize = if TILES { 32 } else { 12 };
    const COLS: usize = 32;
    const UNIT: usize = 2;
    const UNITS: usize = if TILES { 16 } else { 1 };
    const WHOLE_BANDS: bool = TILES;
    type Unit = u32;

    fn vectorize(self, body: impl NullaryFnOnce<Output = ()>) {
        self.0.vectorize(body);
    }

    fn pack_left(self, a: Matrix, row: usize, packed: &mut [u32]) {
        match TILES {
            true => pack_left_tiles(a, row, 32, packed),
            false => pack_left_band(self.0, a, row, packed),
        }
    }

    fn pack_right<E: Element>(self, b: Matrix<E>, units: Range<usize>, column: usize, packed: &mut [u32]) {
        pack_right_pairs::<32, E>(self.0, b, units, column, packed);
    }

    unsafe fn write_tile(self, a: &[u32], b: &[u32], tile: Tile) {
        let units = b.len() / 32;
        for row in 0..tile.rows {
            for column in 0..tile.cols {
                let a_at = |unit: usize| match TILES {
                    true => a[unit / 16 * 32 * 16 + row * 16 + unit % 16],
                    false => a[unit * tile.rows + row],
                };
                let pairs: Vec<(u32, u32)> = (0..units).map(|unit| (a_at(unit), b[unit * 32 + column])).collect();
                let order = if TILES { Order::Tiles } else { Order::Pairs };
                let Destination { data, onto, .. } = tile.destination.at(row, column);
                // SAFETY: the caller answers for the tile.
                unsafe { *data = onto.map_or(0.0, |onto| *onto) + sum_of_pairs(order, &pairs) }
            }
        }
    }
}

/// The sum of the products of pairs of bf16, as an instruction adds them.
fn sum_of_pairs(order: Order, pairs: &[(u32, u32)]) -> f32 {
    let halves = |pair: u32| [pair << 16, pair & 0xffff_0000].map(|bits| normal(f32::from_bits(bits)));
    let add = |a: f32, b: f32, sum: f32| normal(a.mul_add(b, sum));
    if order == Order::Pairs {
        return pairs.iter().fold(0.0, |sum, (a, b)| {
            let ([a0, a1], [b0, b1]) = (halves(*a), halves(*b));
            add(a0, b0, add(a1, b1, sum))
        });
    }
    pairs.chunks(16).fold(0.0, |sum, pairs| {
        let [even, odd] = pairs.iter().fold([0.0, 0.0], |[even, odd], (a, b)| {
            let ([a0, a1], [b0, b1]) = (halves(*a), halves(*b));
            [add(a0, b0, even), add(a1, b1, odd)]
        });
        normal(sum + normal(even + odd))
    })
}

/// Zero in place of what is too small for a normal f32, as those instructions have it.
fn normal(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

/// Small numbers without a pattern.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((((i + seed) * 2_654_435_761) >> 7) % 1009) as f32 / 504.0 - 1.0).collect()
}

/// What a product is added to.
#[derive(Clone, Copy)]
enum Onto {
    Nothing,
    Itself,
    Others,
}

/// A product to compute: of matrices that lie transposed where `transposed` says so.
#[derive(Clone, Copy)]
struct Case {
    shape: [usize; 3],
    transposed: [bool; 2],
    onto: Onto,
    parallelism: Parallelism,
}

const GAP: usize = 5;

/// A product by a tiling, with a gap after each row, and what it is, in f64 and by plain loops in some order.
struct Products {
    computed: Vec<f32>,
    exact: Vec<f64>,
    plain: Vec<f32>,
}

/// Elements of the right matrix, from numbers.
trait Made: Element {
    fn made(numbers: &[f32]) -> Vec<Self>;
}

impl Made for f32 {
    fn made(numbers: &[f32]) -> Vec<Self> {
        numbers.to_vec()
    }
}

impl Made for bf16 {
    fn made(numbers: &[f32]) -> Vec<Self> {
        numbers.iter().copied().map(bf16::from_f32).collect()
    }
}

fn product<T: Tiling, E: Made>(tiling: T, order: Order, case: Case, (a, b): (&[f32], &[E])) -> Products {
    let Case { shape: [m, n, k], transposed, onto, parallelism } = case;
    let filled = 0.25f32;
    let left = if transposed[0] { Matrix::new(a, k, m, m + 3).t() } else { Matrix::new(a, m, k, k + 3) };
    let right = if transposed[1] { Matrix::new(b, n, k, k).t() } else { Matrix::new(b, k, n, n) };
    let (mut y, rows) = (vec![filled; m * (n + GAP)], numbers(m * (n + GAP), 3));
    let data = y.as_mut_ptr();
    let onto_address = match onto {
        Onto::Nothing => None,
        Onto::Itself => Some(data.cast_const()),
        Onto::Others => Some(rows.as_ptr()),
    };
    let destination = Destination { data, onto: onto_address, row_stride: n + GAP };
    // SAFETY: y has m rows of n elements and a gap each.
    unsafe { multiply(tiling, destination, left, right, parallelism) }
    let is_bf16 = size_of::<E>() == 2;
    let left_at = |i: usize, l: usize| {
        let x = left.data[i * left.row_stride + l * left.col_stride];
        if is_bf16 { f32::from_bits(bf16_bits(x) << 16) } else { x }
    };
    let right_at = |l: usize, j: usize| right.data[l * right.row_stride + j * right.col_stride].to_f32();
    let units = k.div_ceil(T::UNIT).next_multiple_of(T::UNITS);
    let depth = depth(units, T::UNITS) * T::UNIT;
    let (mut exact, mut plain) = (Vec::new(), Vec::new());
    for (i, added) in rows.iter().enumerate() {
        let (row, j) = (i / (n + GAP), i % (n + GAP));
        let before = match onto {
            _ if j >= n => Some(filled),
            Onto::Nothing => None,
            Onto::Itself => Some(filled),
            Onto::Others => Some(*added),
        };
        let (mut sum, mut in_order) = (f64::from(before.unwrap_or(0.0)), before);
        for start in (0..if j < n { k } else { 0 }).step_by(depth) {
            let terms: Vec<(f32, f32)> = (start..k.min(start + depth)).map(|l| (left_at(row, l), right_at(l, j))).collect();
            sum += terms.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let of_depth = sum_in(order, &terms);
            in_order = Some(in_order.map_or(of_depth, |before| before + of_depth));
        }
        exact.push(sum);
        plain.push(in_order.unwrap_or(0.0));
    }
    Products { computed: y, exact, plain }
}

fn sum_in(order: Order, terms: &[(f32, f32)]) -> f32 {
    if matches!(order, Order::InTurn | Order::Unseen) {
        return terms.iter().fold(0.0, |sum, (a, b)| a.mul_add(*b, sum));
    }
    let pair = |[low, high]: [f32; 2]| low.to_bits() >> 16 | high.to_bits() & 0xffff_0000;
    let pairs: Vec<(u32, u32)> = terms
        .chunks(2)
        .map(|terms| {
            let (a0, b0) = terms[0];
            let (a1, b1) = terms.get(1).copied().unwrap_or((0.0, 0.0));
            (pair([a0, a1]), pair([b0, b1]))
        })
        .collect();
    sum_of_pairs(order, &pairs)
}

/// What is asked of every tiling.
fn check<T: Tiling, E: Made>(tiling: T, order: Order) {
    is_exact_for_every_remainder_of_rows_columns_and_depth::<T, E>(tiling, order);
    keeps_what_is_tiny_or_not_finite::<T, E>(tiling, order);
    gives_a_row_the_same_bits_whatever_is_beside_it_and_however_many_threads_there_are::<T, E>(tiling, order);
}

fn is_exact_for_every_remainder_of_rows_columns_and_depth<T: Tiling, E: Made>(tiling: T, order: Order) {
    let mut shapes: Vec<[usize; 3]> = (1..=13).map(|m| [m, 16 + m, 40 - m]).collect();
    // Few rows: several depths, and tasks whose last columns are not eight.
    shapes.extend([[1, 9, 1030], [3, 150, 1100], [8, 60, 1060]]);
    // Several bands, blocks, panels, tasks, depths and pieces of the left matrix.
    shapes.extend([[1, 1, 1], [130, 7, 9], [14, 70, 2100], [70, 33, 1025], [330, 48, 64], [12, 1030, 16]]);
    for shape @ [m, n, k] in shapes {
        let (a, b) = (numbers((m + 3) * (k + 3), 1), E::made(&numbers(k * n, 7)));
        for case in 0..24 {
            let [left, right, alone] = [1, 2, 4].map(|bit| case & bit != 0);
            if m * n * k > 1 << 19 && case % 5 != 1 {
                continue;
            }
            let onto = [Onto::Nothing, Onto::Itself, Onto::Others][case / 8];
            let parallelism = if alone { Parallelism::None } else { all_threads() };
            let case = Case { shape, transposed: [left, right], onto, parallelism };
            let products = product(tiling, order, case, (&a, &b));
            for (i, (y, exact)) in products.computed.iter().zip(&products.exact).enumerate() {
                let bound = 2e-6 * k as f64 + 1e-6;
                assert!((f64::from(*y) - exact).abs() < bound, "{shape:?} at {i}: {y}, {exact}");
            }
            for (i, (y, plain)) in products.computed.iter().zip(&products.plain).enumerate() {
                assert!(order == Order::Unseen || y.to_bits() == plain.to_bits(), "{shape:?} at {i}: {y}, {plain}");
            }
        }
    }
}

fn keeps_what_is_tiny_or_not_finite<T: Tiling, E: Made>(tiling: T, order: Order) {
    let (m, n, k) = (3, 35, 70);
    let mut a: Vec<f32> = numbers((m + 3) * (k + 3), 1).iter().map(|x| x * 1e-30).collect();
    let b = E::made(&numbers(k * n, 7).iter().map(|x| x * 1e-9).collect::<Vec<_>>());
    a[0] = f32::NAN;
    a[k + 3] = f32::INFINITY;
    let case = Case { shape: [m, n, k], transposed: [false, false], onto: Onto::Nothing, parallelism: Parallelism::None };
    let products = product(tiling, order, case, (&a, &b));
    for (i, (y, plain)) in products.computed.iter().zip(&products.plain).enumerate() {
        let same = y == plain || y.is_nan() && plain.is_nan();
        assert!(order == Order::Unseen || same, "at {i}: {y:e}, {plain:e}");
    }
    assert!(products.computed[..n].iter().all(|y| y.is_nan()));
}

fn gives_a_row_the_same_bits_whatever_is_beside_it_and_however_many_threads_there_are<T: Tiling, E: Made>(
    tiling: T,
    order: Order,
) {
    let (n, k) = (100, 700);
    let with_threads = |threads: usize, m: usize| {
        let (a, b) = (numbers((m + 3) * (k + 3), 1), E::made(&numbers(k * n, 7)));
        let case = Case { shape: [m, n, k], transposed: [false, true], onto: Onto::Nothing, parallelism: all_threads() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| product(tiling, order, case, (&a, &b)).computed)
    };
    let many = with_threads(3, 40);
    assert!(with_threads(1, 40) == many);
    assert!(with_threads(2, 8) == many[..8 * (n + GAP)]);
}

/// Twelve rows of sums in the registers of AVX2, of which there are too few: slow, but the code of AVX-512's tiles.
type TwelveRows<const ROUNDED: bool> = vectors::Vectors<V3, 12, 16, ROUNDED>;

fn with_avx2() -> V3 {
    V3::try_new().unwrap_or_else(|| panic!("a processor with AVX2 is needed to test its products"))
}

#[test]
fn avx2_multiplies_as_plain_loops_do() {
    check::<_, f32>(Avx2::<false>::new(with_avx2()), Order::InTurn);
    check::<_, bf16>(Avx2::<true>::new(with_avx2()), Order::InTurn);
}

/// Where the processor lacks AVX-512, its tiles' code runs with AVX2's vectors.
#[test]
fn avx512_multiplies_as_plain_loops_do() {
    match pulp::x86::V4::try_new() {
        Some(simd) => {
            check::<_, f32>(Avx512::<false>::new(simd), Order::InTurn);
            check::<_, bf16>(Avx512::<true>::new(simd), Order::InTurn);
        }
        None => {
            check::<_, f32>(TwelveRows::<false>::new(with_avx2()), Order::InTurn);
            check::<_, bf16>(TwelveRows::<true>::new(with_avx2()), Order::InTurn);
        }
    }
}

/// Where the processor lacks the instruction, plain loops multiply what is packed for it.
#[test]
fn pairs_of_bf16_are_multiplied_as_by_plain_loops() {
    match Avx512Bf16::try_new() {
        Some(tiling) => check::<_, bf16>(tiling, Order::Unseen),
        None => check::<_, bf16>(Emulated::<false>(with_avx2()), Order::Pairs),
    }
}

/// Where the processor lacks them, the kernel's own instructions are run, and the handler of illegal ones does their work.
#[cfg(target_os = "linux")]
#[test]
fn tiles_of_bf16_are_multiplied_as_by_plain_loops() {
    check::<_, bf16>(Emulated::<true>(with_avx2()), Order::Tiles);
    match Amx::try_new() {
        Some(tiling) => check::<_, bf16>(tiling, Order::Unseen),
        None => {
            super::amx_emulator::install();
            check::<_, bf16>(Amx::emulated(with_avx2()), Order::Tiles);
        }
    }
}

#[test]
fn numbers_are_rounded_to_bf16_as_half_rounds_them() {
    let bits = (0..=u16::MAX).flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| u32::from(high) << 16 | low));
    for x in bits.map(f32::from_bits) {
        assert_eq!(bf16_bits(x), u32::from(bf16::from_f32(x).to_bits()), "{x:e}, {:x}", x.to_bits());
    }
}
