//! Tests of `split`.

use super::*;
use crate::model::shapes::Shape;

fn blocks(split: &Split) -> Vec<Range<usize>> {
    split.stages().iter().map(|stage| stage.blocks.clone()).collect()
}

fn divided(devices: usize, by_hand: Option<&[usize]>) -> Result<Split> {
    Split::new(vec![Device::Cpu; devices], by_hand, &Shape::Tiny.config())
}

#[test]
fn devices_without_memory_of_their_own_get_as_many_blocks_each_as_whole_blocks_allow() {
    assert_eq!(blocks(&divided(1, None).unwrap()), vec![0..4]);
    assert_eq!(blocks(&divided(2, None).unwrap()), [0..2, 2..4]);
    assert_eq!(blocks(&divided(3, None).unwrap()), [0..2, 2..3, 3..4]);
    assert_eq!(blocks(&divided(4, None).unwrap()), [0..1, 1..2, 2..3, 3..4]);
    assert_eq!(even(80, 3), [27, 27, 26]);
}

#[test]
fn a_split_by_hand_is_taken_as_it_is_or_refused_with_its_numbers() {
    assert_eq!(blocks(&divided(2, Some(&[1, 3])).unwrap()), [0..1, 1..4]);
    let refused = |devices, counts: &[usize]| divided(devices, Some(counts)).unwrap_err().to_string();
    assert_eq!(refused(2, &[2, 1]), "split 2,1 adds up to 3 blocks, but the model has 4: the numbers must add up to 4");
    assert_eq!(refused(2, &[4, 0]), "split 4,0: each device needs at least one block");
    assert_eq!(refused(2, &[1, 1, 2]), "split 1,1,2 has 3 numbers, but there are 2 devices");
    assert_eq!(refused(1, &[1, 3]), "split 1,3 needs several devices, such as cpu:0,1 or cuda:0,1");
    assert_eq!(divided(5, None).unwrap_err().to_string(), "5 devices are more than the model's 4 blocks: name at most 4");
}

/// Of Llama-2-7B, embeddings and head weigh 0.65 blocks each.
#[test]
fn devices_get_blocks_in_proportion_to_their_free_memory() {
    let config = Shape::Llama2_7b.config();
    assert_eq!(in_proportion(&config, &[24, 24]), [16, 16]);
    assert_eq!(in_proportion(&config, &[80, 80, 80, 80]), [8, 8, 8, 8]);
    // A third of 33.3 blocks are 11.1, less the embeddings.
    assert_eq!(in_proportion(&config, &[8, 16]), [10, 22]);
    assert_eq!(in_proportion(&config, &[16, 8]), [22, 10]);
    // No device goes without a block, whatever it has.
    assert_eq!(in_proportion(&config, &[0, 24]), [1, 31]);
    assert_eq!(in_proportion(&config, &[24, 0, 0]), [30, 1, 1]);
}
