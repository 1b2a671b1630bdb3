//! Products on AVX2 against f64.

use super::super::all_threads;
use super::*;

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

/// A product, of matrices that lie transposed where `transposed` says so, and the same in f64.
fn product([m, n, k]: [usize; 3], transposed: [bool; 2], onto: Onto, parallelism: Parallelism) -> (Vec<f32>, Vec<f64>) {
    let Some(simd) = V3::try_new() else { panic!("a processor with AVX2 is needed to test its products") };
    let (gap, filled) = (5, 0.25f32);
    let (a, b) = (numbers((m + 3) * (k + 3), 1), numbers(k * n, 7));
    let left = if transposed[0] { Matrix::new(&a, k, m, m + 3).t() } else { Matrix::new(&a, m, k, k + 3) };
    let right = if transposed[1] { Matrix::new(&b, n, k, k).t() } else { Matrix::new(&b, k, n, n) };
    let (mut y, rows) = (vec![filled; m * (n + gap)], numbers(m * (n + gap), 3));
    let data = y.as_mut_ptr();
    let onto_address = match onto {
        Onto::Nothing => None,
        Onto::Itself => Some(data.cast_const()),
        Onto::Others => Some(rows.as_ptr()),
    };
    let destination = Destination { data, onto: onto_address, row_stride: n + gap };
    // SAFETY: y has m rows of n elements and a gap each.
    unsafe { multiply(simd, destination, left, right, parallelism) }
    let at = |matrix: Matrix, i: usize, j: usize| f64::from(matrix.data[i * matrix.row_stride + j * matrix.col_stride]);
    let expected = (0..m * (n + gap)).map(|i| {
        let (row, j) = (i / (n + gap), i % (n + gap));
        let before = match onto {
            _ if j >= n => filled,
            Onto::Nothing => 0.0,
            Onto::Itself => filled,
            Onto::Others => rows[i],
        };
        f64::from(before) + if j < n { (0..k).map(|l| at(left, row, l) * at(right, l, j)).sum() } else { 0.0 }
    });
    (y, expected.collect())
}

#[test]
fn products_are_those_of_f64_for_every_remainder_of_rows_columns_and_depth() {
    let mut shapes: Vec<[usize; 3]> = (1..=13).map(|m| [m, 16 + m, 40 - m]).collect();
    // Several bands, blocks, panels, tasks, depths and pieces of the left matrix.
    shapes.extend([[1, 1, 1], [130, 7, 9], [65, 200, 2100], [200, 33, 1025], [613, 48, 64], [12, 1030, 16]]);
    for shape in shapes {
        for case in 0..24 {
            let [left, right, alone] = [1, 2, 4].map(|bit| case & bit != 0);
            let onto = [Onto::Nothing, Onto::Itself, Onto::Others][case / 8];
            let parallelism = if alone { Parallelism::None } else { all_threads() };
            let (y, expected) = product(shape, [left, right], onto, parallelism);
            for (i, (y, expected)) in y.iter().zip(&expected).enumerate() {
                let bound = 4e-7 * shape[2] as f64 + 1e-6;
                assert!((f64::from(*y) - expected).abs() < bound, "{shape:?}, case {case}, at {i}: {y}, {expected}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_whatever_is_beside_it_and_however_many_threads_there_are() {
    let with_threads = |threads: usize, m: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| product([m, 100, 1500], [false, true], Onto::Nothing, all_threads()).0)
    };
    let many = with_threads(3, 90);
    assert_eq!(with_threads(1, 90), many);
    assert_eq!(with_threads(2, 90), many);
    assert_eq!(with_threads(2, 8), many[..8 * 105]);
}
