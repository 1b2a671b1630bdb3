//! Tests of `random`.

use super::*;

fn numbers(name: &str, shape: &[usize], dtype: DType) -> Vec<f32> {
    let tensor = tensor(MadeOn::Host(7), name, shape, dtype, &Device::Cpu).unwrap();
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_dtype_holds_the_same_numbers() {
    for (name, shape) in [("a.weight", vec![40, 64]), ("b.weight", vec![99]), ("c.bias", vec![99]), ("d.weight", vec![9, 4096])]
    {
        let wide = numbers(name, &shape, DType::F32);
        assert_eq!(numbers(name, &shape, DType::BF16), wide, "{name}");
        assert_eq!(numbers(name, &shape, DType::F16), wide, "{name}");
        assert!(wide.iter().any(|x| *x != wide[0]), "{name}");
    }
    assert_ne!(numbers("a.weight", &[8, 8], DType::F32), numbers("b.weight", &[8, 8], DType::F32));
}

#[test]
fn a_matrix_neither_grows_nor_shrinks_what_passes_through() {
    for inputs in [64, 576, 4096] {
        let numbers = numbers("x.weight", &[64, inputs], DType::F32);
        let mean_square = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / numbers.len() as f64;
        let gain = (mean_square * inputs as f64).sqrt();
        assert!((0.5..1.5).contains(&gain), "{inputs}: {gain}");
    }
}
