//! Tests of `memory`.

use bipo::model::shapes::Shape;

use super::*;

#[test]
fn a_device_that_is_too_small_is_told_with_the_choices_that_fit_it() {
    // 150 rows a pair, of which 4000 are 4.9 GB of bf16 residuals.
    let run = Run::training(&Shape::Mistral7b.config(), vec![150; 4000], 1, 18);
    let on_device = OnDevice { run, batch_size: 4, cache: CachePlace::Auto };
    let gb = |bytes: u64| DeviceMemory { free: Bytes(bytes * 1_000_000_000), total: Bytes(24_000_000_000) };
    assert_eq!(
        on_device.check(DType::BF16, gb(23)).unwrap(),
        "device memory: about 21.9 GB of 23.0 GB free (24.0 GB in all): weights 14.5 GB, activation cache 4.9 GB, \
         activations 929.0 MB, work space 1.6 GB"
    );
    assert_eq!(
        on_device.check(DType::BF16, gb(20)).unwrap(),
        "device memory: about 17.0 GB of 20.0 GB free (24.0 GB in all): weights 14.5 GB, activations 929.0 MB, work space \
         1.6 GB, activation cache in main memory"
    );
    let refused = |dtype, free| on_device.check(dtype, gb(free)).unwrap_err().to_string();
    assert_eq!(
        refused(DType::F32, 20),
        "not enough device memory: about 32.4 GB are needed (weights 29.0 GB, activations 1.9 GB, work space 1.6 GB), 20.0 GB \
         are free; what fits: --dtype bf16 (17.0 GB)"
    );
    assert!(refused(DType::BF16, 8).ends_with("8.0 GB are free; a smaller model or --device cpu"));
}

#[test]
fn what_is_too_large_is_said_with_its_parts_and_the_flag_that_helps() {
    let need = Need { weights: 14_000_000_000, cache: 1_000_000_000, activations: 500_000_000 };
    assert_eq!(
        need.problem(Bytes(8_000_000_000), Some("--dtype bf16")),
        "not enough memory: about 15.5 GB are needed (weights 14.0 GB, activation cache 1.0 GB, activations of a step \
         500.0 MB), 8.0 GB are free; --dtype bf16 leaves the weights in their file"
    );
    let need = Need { weights: 0, cache: 3_000_000_000, activations: 2_000_000_000 };
    assert!(
        need.problem(Bytes(0), Some("x"))
            .ends_with("; --cache-memory 0 puts the cache into a file; --max-length or --batch-size 1 makes a step smaller")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_need_beyond_every_machine_is_refused_and_none_is_not() {
    let need = Need { weights: u64::MAX, cache: u64::MAX, activations: 1 };
    let error = need.check(None).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(Need::default().check(None).is_ok());
}
