//! Products against f64, whichever kernel is chosen for them.

use super::*;

#[test]
fn products_in_halves_have_every_element_once() {
    for (m, n, k) in [(1, 300, 5), (130, 7, 9), (200, 513, 33), (128, 256, 3), (129, 255, 1)] {
        let number = |i: usize| ((i * 37 % 23) as f32 - 11.0) / 8.0;
        let (a, b): (Vec<f32>, Vec<f32>) = ((0..m * k).map(number).collect(), (0..k * n).map(|i| number(i + 5)).collect());
        let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
        let expected: Vec<f64> =
            (0..m * n).map(|i| (0..k).map(|l| f64::from(a[i / n * k + l]) * f64::from(b[l * n + i % n])).sum()).collect();
        let a = Matrix::new(&a, m, k, k);
        for b in [Matrix::new(&b, k, n, n), Matrix::new(&transposed, n, k, k).t()] {
            let mut added = vec![1f32; m * (n + 3)];
            matmul(&mut added, n + 3, Write::Add, a, b, all_threads());
            for (i, (value, expected)) in product(None, a, b).iter().zip(&expected).enumerate() {
                assert!((f64::from(*value) - expected).abs() < 1e-4, "{m} {n} {k}: {value} is not {expected}");
                assert!((f64::from(added[i / n * (n + 3) + i % n]) - expected - 1.0).abs() < 1e-4);
            }
            assert!(added.chunks(n + 3).all(|row| row[n..] == [1.0; 3]), "written past a row's end");
        }
    }
}

#[test]
fn products_have_the_same_bits_with_one_thread_and_with_several() {
    let (m, n, k) = (200, 700, 600);
    let (a, b): (Vec<f32>, Vec<f32>) =
        ((0..m * k).map(|i| (i as f32).sin()).collect(), (0..k * n).map(|i| (i as f32).cos()).collect());
    let bits = |threads: usize, transposed: bool| -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let b = if transposed { Matrix::new(&b, n, k, k).t() } else { Matrix::new(&b, k, n, n) };
        pool.install(|| product(None, Matrix::new(&a, m, k, k), b)).into_iter().map(f32::to_bits).collect()
    };
    for transposed in [false, true] {
        for threads in [2, 3, 4, 8] {
            assert!(bits(1, transposed) == bits(threads, transposed), "{threads} threads");
        }
    }
}

/// What processors without kernels of our own read prompts with.
#[test]
fn a_row_of_gemm_has_the_same_bits_in_any_batch_and_in_front_of_zeros() {
    let number = |i: usize| (i as f32 * 0.7).sin();
    let (most, k) = (700, 1300);
    let a: Vec<f32> = (0..most * k).map(number).collect();
    for n in [2, 8, 64, 65, 300] {
        let b: Vec<f32> = (0..k * n).map(|i| number(i + 3)).collect();
        let bits = |m: usize, depth: usize, transposed: bool| {
            let a = Matrix::new(&a, m, depth, k);
            let turned: Vec<f32> = (0..n * depth).map(|i| b[i % depth * n + i / depth]).collect();
            let b = if transposed { Matrix::new(&turned, n, depth, depth).t() } else { Matrix::new(&b, depth, n, n) };
            let mut y = vec![0f32; m * n];
            let destination = Destination { data: y.as_mut_ptr(), onto: None, row_stride: n };
            // SAFETY: the destination has m rows of n elements.
            unsafe { ProductKernel::Gemm.multiply(destination, a, b.into(), all_threads()) };
            y
        };
        for (depth, transposed) in [(k, false), (k, true), (576, true), (513, false), (64, true), (64, false)] {
            let all = bits(most, depth, transposed);
            for m in [2, 5, 13, 40, 64, 65, 129, 300] {
                assert!(bits(m, depth, transposed) == all[..m * n], "{m} of {most} rows, {n} columns, {depth} deep");
            }
        }
        // Probabilities of tokens that a query does not see are zero.
        for seen in [5, 513, 900] {
            let hidden: Vec<f32> = (0..6 * k).map(|i| if i % k < seen { a[i] } else { 0.0 }).collect();
            let (hidden, b) = (Matrix::new(&hidden, 6, k, k), Matrix::new(&b, k, n, n));
            let mut y = vec![0f32; 6 * n];
            let destination = Destination { data: y.as_mut_ptr(), onto: None, row_stride: n };
            // SAFETY: the destination has 6 rows of n elements.
            unsafe { ProductKernel::Gemm.multiply(destination, hidden, b.into(), all_threads()) };
            assert!(bits(6, seen, false) == y, "{seen} of {k}, {n} columns");
        }
    }
}

/// What processors without kernels of our own decode with.
#[test]
fn products_by_rows_are_those_of_f64_and_a_row_has_the_same_bits_alone_and_in_a_batch() {
    let number = |i: usize| ((i * 37 % 23) as f32 - 11.0) / 8.0;
    for k in [5, 64, 301] {
        let n = 67;
        let (x, w): (Vec<f32>, Vec<f32>) = ((0..14 * k).map(number).collect(), (0..n * k).map(|i| number(i + 5)).collect());
        let onto: Vec<f32> = (0..14 * n).map(|i| number(i + 9)).collect();
        let alone: Vec<f32> =
            x.chunks(k).zip(onto.chunks(n)).flat_map(|(x, onto)| product_by_rows(Some(onto), x, &w, k)).collect();
        for (i, value) in alone.iter().enumerate() {
            let sum: f64 = (0..k).map(|l| f64::from(x[i / n * k + l]) * f64::from(w[i % n * k + l])).sum();
            let expected = sum + f64::from(onto[i]);
            assert!((f64::from(*value) - expected).abs() < 1e-4, "{k}, {i}: {value} is not {expected}");
        }
        for m in 1..=14 {
            assert_eq!(product_by_rows(Some(&onto), &x[..m * k], &w, k), alone[..m * n]);
            let plain = product_by_rows(None, &x[..m * k], &w, k);
            assert!(plain.iter().zip(&alone).zip(&onto).all(|((plain, alone), onto)| plain + onto == *alone));
        }
    }
}
