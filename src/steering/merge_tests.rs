//! The sums of a bias, and directories that are refused.

use super::*;

#[test]
fn a_bias_is_the_old_one_plus_the_scaled_vector_rounded_once() {
    let f32s = |bytes: Vec<u8>| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
    let old = [1.0_f32, -2.0].map(f32::to_le_bytes).concat();
    assert_eq!(f32s(add(Dtype::F32, &old, &[0.5, 4.0], -1.5).ok().unwrap()), [0.25, -8.0]);
    // bf16 has 8 significant bits: 1 + 2^-8 is a tie and goes to even, 1 + 3·2^-9 goes up.
    let one = bf16::ONE.to_le_bytes();
    let bf16s = |v: f32| bf16::from_le_bytes(add(Dtype::BF16, &one, &[v], 1.0).ok().unwrap().try_into().unwrap()).to_f32();
    assert_eq!([bf16s(2f32.powi(-8)), bf16s(3.0 * 2f32.powi(-9))], [1.0, 1.0078125]);
    let zero = f16::ZERO.to_le_bytes();
    assert_eq!(add(Dtype::F16, &zero, &[0.5], 3.0).ok().unwrap(), f16::from_f32(1.5).to_le_bytes());
    assert!(matches!(add(Dtype::F16, &zero, &[70_000.0], 1.0), Err(BiasProblem::NotFinite)));
    assert!(matches!(add(Dtype::I32, &[0; 4], &[1.0], 1.0), Err(BiasProblem::Dtype)));
}

#[test]
fn only_a_directory_that_is_empty_or_new_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    assert!(check_target(dir.path()).is_ok());
    assert!(check_target(&dir.path().join("new")).is_ok());
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(check_target(dir.path()).unwrap_err().exit_code(), 2);
    assert_eq!(check_target(&dir.path().join("file")).unwrap_err().exit_code(), 2);
}

#[cfg(unix)]
#[test]
fn a_model_larger_than_the_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(check_room(dir.path(), dir.path(), 1).is_ok());
    let error = check_room(&dir.path().join("m"), dir.path(), 1 << 60).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("GB free, but the weights take"), "{error}");
}
