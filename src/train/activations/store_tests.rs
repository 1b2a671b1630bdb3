//! Tests of `store`.

use super::*;

#[test]
fn spilled_tensors_come_back_bit_by_bit_in_every_dtype() {
    let dir = tempfile::tempdir().unwrap();
    let values = [1.0f32, -0.0, f32::MIN_POSITIVE, 3.5e7, -1.0 / 3.0, 65504.0];
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let tensor = |rows: usize| {
            let data: Vec<f32> = values.iter().cycle().take(rows * 3).copied().collect();
            Tensor::from_vec(data, (rows, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
        };
        let mut writer = StoreWriter::new((6 * dtype.size_in_bytes()) as u64, Some(Device::Cpu), dir.path());
        let stored: Vec<CachedTensor> = [2, 3, 1].map(|rows| writer.put(tensor(rows)).unwrap()).into();
        assert!(matches!(stored[..], [CachedTensor::Memory(_), CachedTensor::Spilled { .. }, CachedTensor::Spilled { .. }]));
        let store = writer.finish().unwrap();
        for (stored, rows) in stored.iter().zip([2, 3, 1]) {
            let (back, expected) = (store.get(stored).unwrap(), tensor(rows));
            assert_eq!(back.dtype(), dtype);
            let bits = |t: &Tensor| t.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap().concat();
            let (back, expected) = (bits(&back), bits(&expected));
            assert!(back.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
}

#[test]
fn a_directory_that_cannot_be_written_to_is_one_clear_error() {
    let nowhere = Path::new("/nowhere/at/all");
    let mut writer = StoreWriter::new(0, None, nowhere);
    let error = writer.put(Tensor::new(&[1f32], &Device::Cpu).unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().starts_with("cannot write /nowhere/at/all: the activation cache's"), "{error}");
    assert!(error.to_string().contains("let the cache take more memory"));
    assert_eq!(free_space(nowhere), None);
}
