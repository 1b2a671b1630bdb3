//! Tests of `collective` without MPI: shares, the order of what is gathered, and how a job fails.

use super::*;

fn part(loss: f64, margins: &[f64], gradient: &[f32], rows: usize) -> GradientPart {
    GradientPart { loss, margins: margins.to_vec(), gradient: gradient.to_vec(), rows }
}

#[test]
fn a_single_part_is_the_whole_to_the_bit() {
    let whole = part(0.1 + 0.2, &[0.3, -0.7, 1e-9], &[0.1, -1e-30, f32::MAX], 17);
    assert_eq!(Collective::SingleProcess.sum(&[0, 1, 2], std::slice::from_ref(&whole)).unwrap(), whole);
}

#[test]
fn parts_weigh_what_they_hold_and_stay_in_order() {
    let parts = [part(1.0, &[1.0, 2.0, 3.0], &[4.0, 0.0], 10), part(5.0, &[4.0], &[0.0, 8.0], 3)];
    assert_eq!(
        Collective::SingleProcess.sum(&[0, 1, 2, 3], &parts).unwrap(),
        part(2.0, &[1.0, 2.0, 3.0, 4.0], &[3.0, 2.0], 13)
    );
}

#[test]
fn the_gradient_is_added_in_the_order_of_the_parts() {
    let parts = [1e8f32, -1e8, 1.0].map(|g| part(0.0, &[0.0], &[g], 0));
    let share = 1.0f64 / 3.0;
    let in_order = parts.iter().fold(0f32, |sum, part| sum + share as f32 * part.gradient[0]);
    assert_eq!(Collective::SingleProcess.sum(&[0, 1, 2], &parts).unwrap().gradient, [in_order]);
    assert_ne!(share as f32 * 1e8 + (share as f32 * -1e8 + share as f32), in_order);
}

/// What each rank sends of `places`, a record of each: its place in the set and that in the batch, so often that records have many
/// lengths.
fn sent(places: &[usize], ranks: usize) -> Vec<Vec<u8>> {
    let of_rank = |first: usize| {
        let share = Share::OneOfEvery { ranks, first };
        let own = places.iter().enumerate().filter(|(_, place)| share.owns(**place));
        join(&own.map(|(at, place)| record_of(*place, at)).collect::<Vec<_>>())
    };
    (0..ranks).map(of_rank).collect()
}

fn record_of(place: usize, at: usize) -> Vec<f64> {
    [place as f64, at as f64].repeat(at)
}

#[test]
fn records_come_in_the_order_of_the_batch_whatever_its_size_and_the_number_of_ranks() {
    let batches: [&[usize]; 6] = [&[], &[4], &[7, 1], &[0, 3, 6, 9], &[5, 2, 8, 1, 0, 9, 4], &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]];
    for batch in batches {
        let expected: Vec<Vec<f64>> = batch.iter().enumerate().map(|(at, place)| record_of(*place, at)).collect();
        for ranks in 1..=12 {
            assert_eq!(in_order(batch, &sent(batch, ranks)), Some(expected.clone()), "{batch:?} by {ranks} ranks");
        }
    }
}

#[test]
fn records_that_are_too_many_or_too_few_are_refused() {
    let batch = [5, 2, 8];
    let read = |by_rank: &[Vec<u8>]| in_order::<Vec<f64>>(&batch, by_rank);
    let whole = sent(&batch, 2);
    assert!(read(&whole).is_some());
    for len in 0..whole[0].len() {
        assert_eq!(read(&[whole[0][..len].to_vec(), whole[1].clone()]), None, "{len} bytes");
    }
    // As many records in all, but of other ranks.
    assert_eq!(read(&[whole[1].clone(), whole[0].clone()]), None);
    assert_eq!(in_order::<Vec<f64>>(&[], &whole), None);
    let endless = u64::MAX.to_le_bytes().to_vec();
    assert_eq!(read(&[endless, whole[1].clone()]), None);
}

#[test]
fn numbers_come_back_from_a_record_to_the_bit() {
    let numbers = vec![f64::NEG_INFINITY, -0.0, 0.1 + 0.2, f64::from_bits(0x7ff8_0000_0000_1234), f64::MIN_POSITIVE / 2.0];
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&Vec::from_bytes(&numbers.to_bytes()).unwrap()), bits(&numbers));
    assert_eq!(<[f64; 2]>::from_bytes(&numbers.to_bytes()), None);
    let text = Json((vec![1u32, u32::MAX], "a\nb".to_owned(), 0.1f32));
    assert_eq!(Json::from_bytes(&text.to_bytes()), Some(text));
    assert_eq!(Json::<f64>::from_bytes(b"{"), None);
}

#[test]
fn every_pair_is_one_rank_s_and_has_the_next_place_there() {
    for ranks in [1, 2, 3, 8] {
        let mut counts = vec![0; ranks];
        for pair in 0..20 {
            let owners: Vec<usize> = (0..ranks).filter(|first| Share::OneOfEvery { ranks, first: *first }.owns(pair)).collect();
            let [owner] = owners[..] else { panic!("pair {pair} of {ranks} ranks is {owners:?}'s") };
            assert_eq!(Share::OneOfEvery { ranks, first: owner }.place(pair), counts[owner]);
            counts[owner] += 1;
        }
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
}

#[test]
fn a_part_comes_back_from_its_record_to_the_bit() {
    let part = part(0.1 + 0.2, &[-1e-300], &[0.1, -1e-40, f32::MAX, -0.0], 17);
    let record = part.to_bytes();
    assert_eq!(record.len(), 3 * 8 + 4 * 4);
    assert_eq!(GradientPart::from_bytes(&record).unwrap(), part);
    assert_eq!(GradientPart::from_bytes(&record[..20]), None);
}

#[test]
fn a_failure_names_its_rank_unless_all_ranks_fail_alike() {
    let goes_on = vec![GOES_ON, 7, 7];
    let failed = |code: u8, line: &str| [&[FAILED, code], line.as_bytes()].concat();
    let of = |messages: &[Vec<u8>]| failure(messages).map(|failure| (failure.line, failure.exit_code));
    assert_eq!(of(&[goes_on.clone(), goes_on.clone()]), None);
    assert_eq!(of(&[goes_on.clone(), failed(1, "disk full")]), Some(("rank 1: disk full".into(), 1)));
    assert_eq!(of(&[failed(2, "no file"), failed(2, "no file")]), Some(("no file".into(), 2)));
    assert_eq!(of(&[goes_on, failed(130, "interrupted"), failed(1, "other")]), Some(("rank 1: interrupted".into(), 130)));
}
