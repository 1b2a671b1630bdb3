//! Tests of `session`.

use bipo::machine::bytes::Bytes;
use bipo::session::demand::Need;
use bipo::session::fit::MemoryOf;
use candle_core::DType;

use super::*;

#[test]
fn a_shortage_names_flags_where_the_library_names_settings() {
    let gb = |gb: u64| Bytes(gb * 1_000_000_000);
    let shortage = Shortage {
        of: MemoryOf::Device,
        need: Need { weights: gb(29), ..Need::default() },
        free: gb(20),
        helps: Vec::new(),
        fits: vec![
            (vec![Remedy::CacheOnHost], gb(19)),
            (vec![Remedy::DType(DType::BF16), Remedy::BatchSize(2)], gb(17)),
            (vec![Remedy::NewTokens(30)], gb(18)),
            (vec![Remedy::StoredWeights, Remedy::Branches(8)], gb(16)),
            (vec![Remedy::StoredWeights, Remedy::NewTokens(12)], gb(15)),
        ],
    };
    let told = short(shortage.clone());
    assert_eq!(
        told.to_string(),
        "not enough device memory: about 29.0 GB are needed (weights 29.0 GB), 20.0 GB are free; what fits: --cache host \
         (19.0 GB), or --dtype bf16 --batch-size 2 (17.0 GB), or --max-new-tokens 30 (18.0 GB), or --weights quantized and 8 \
         magnitudes (16.0 GB), or --weights quantized --max-new-tokens 12 (15.0 GB)"
    );
    assert_eq!(told.exit_code(), 1);
    assert!(!shortage.to_string().contains("--"), "{shortage}");

    let helps = vec![Remedy::StoredWeights, Remedy::CacheInFile, Remedy::SmallerStep];
    let on_host = Shortage { of: MemoryOf::Machine, helps, fits: Vec::new(), ..shortage };
    assert!(short(on_host).to_string().ends_with(
        "20.0 GB are free; --weights quantized; --cache-memory 0; --max-length or --batch-size 1 makes a step smaller"
    ));
}
