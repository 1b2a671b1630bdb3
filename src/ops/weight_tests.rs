//! Tests of `weight`.

use super::*;

#[test]
fn interleaved_rows_come_half_split() {
    // Two heads of width four: the file has the pairs (0, 2), (1, 3) of each head side by side.
    let order = RowOrder::Interleaved { heads: 2 };
    let stored: Vec<usize> = (0..8).map(|row| order.stored(row, 8)).collect();
    assert_eq!(stored, [0, 2, 1, 3, 4, 6, 5, 7]);
}

#[test]
fn rows_of_stacked_parts_are_those_of_each() {
    let floats: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let bytes = |range: Range<usize>| WeightBytes::Owned(floats[range].iter().flat_map(|x| x.to_le_bytes()).collect());
    let encoded = |range| Weight::Host(HostWeight::encoded(bytes(range), Encoding::F32, 4, RowOrder::Plain).unwrap());
    let stacked = Weight::stack(vec![encoded(0..4), encoded(4..12)]).unwrap();
    assert_eq!(stacked.dims().unwrap(), (3, 4));
    let rows = stacked.rows(&[2, 0], DType::F32, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(rows, [[8.0, 9.0, 10.0, 11.0], [0.0, 1.0, 2.0, 3.0]]);
    let beyond = stacked.rows(&[3], DType::F32, &Device::Cpu).unwrap_err();
    assert!(beyond.to_string().contains("token 3 out of range: model has 3 tokens"), "{beyond}");
    assert!(HostWeight::encoded(bytes(0..6), Encoding::F32, 4, RowOrder::Plain).is_err());
}
