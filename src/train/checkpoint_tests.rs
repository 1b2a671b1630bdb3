//! Checkpoints: to the bit and back, and refused when anything is not as it was written.

use serde_json::json;

use super::*;

/// A state in which every field is told from its neighbours, and some numbers are none.
fn state() -> TrainState {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    rng.set_word_pos(12345);
    let heldout =
        Heldout { positive_margin: 0.1, negative_margin: -1.0 / 3.0, positive_right: 0.5, negative_right: 1.0, loss: 0.6 };
    let unmeasured = Heldout { loss: f64::NAN, negative_margin: f64::NEG_INFINITY, ..heldout };
    TrainState {
        v: vec![1.0, -0.0, f32::MIN_POSITIVE, f32::INFINITY],
        optimiser: AdamW::with_moments(vec![0.1; 4], vec![0.2; 4], 9, 0.0),
        factor: Some(LearnedFactor { value: 7.5, optimiser: AdamW::with_moments(vec![0.3], vec![0.4], 9, 0.0) }),
        steps: 9,
        epoch: 3,
        order: vec![2, 0, 1, 4, 3],
        done: 2,
        rng,
        last_loss: 0.1 + 0.2,
        last_margin: f64::NAN,
        epochs: vec![
            EpochRecord { epoch: 1, step: 3, heldout: Some(heldout), best: true },
            EpochRecord { epoch: 2, step: 6, heldout: Some(unmeasured), best: false },
        ],
        best_v: Some(vec![4.0, 3.0, 2.0, 1.0]),
        timings: Timings { forward_s: 0.1 + 0.2, tokens: 77, ..Timings::default() },
    }
}

/// Everything in it; NaN too is written out.
fn shown(checkpoint: &TrainingCheckpoint) -> String {
    format!("{checkpoint:?} {:?}", checkpoint.state.rng.get_word_pos())
}

fn settings() -> Value {
    json!({"lr": 0.1, "system": "é \"quoted\"", "dataset": {"name": "a.csv", "sha256": "0"}})
}

#[test]
fn a_state_comes_back_to_the_bit() {
    let bytes = to_bytes(&settings(), &state()).unwrap();
    let back = from_bytes(Path::new("c"), &bytes).unwrap();
    assert_eq!(shown(&back), shown(&TrainingCheckpoint { settings: settings(), state: state() }));
}

#[test]
fn a_changed_byte_or_a_missing_end_is_refused() {
    let bytes = to_bytes(&settings(), &state()).unwrap();
    let path = Path::new("c");
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        let error = from_bytes(path, &changed).err().unwrap_or_else(|| panic!("byte {index} may be anything"));
        assert_eq!(error.exit_code(), 2);
        assert!(from_bytes(path, &bytes[..index]).is_err(), "{index} bytes are enough");
    }
}

#[test]
fn a_checkpoint_of_right_hash_and_wrong_content_is_refused() {
    let changes: [fn(&mut TrainState); 8] = [
        |state| state.order[0] = 1,
        |state| state.order[0] = usize::MAX,
        |state| state.order.clear(),
        |state| state.done = 6,
        |state| state.epoch = 9,
        |state| state.steps = 1 << 40,
        |state| state.best_v = None,
        |state| state.best_v = Some(vec![1.0]),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut changed = state();
        change(&mut changed);
        let bytes = to_bytes(&settings(), &changed).unwrap();
        assert!(from_bytes(Path::new("c"), &bytes).is_err(), "change {index}");
    }
}

#[test]
fn the_one_before_stands_in_for_a_broken_newest_and_survives_it() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read(dir.path()).unwrap().checkpoint.is_none() && !exists(dir.path()));
    let later = TrainState { steps: 10, ..state() };
    write(dir.path(), &settings(), &state()).unwrap();
    write(dir.path(), &settings(), &later).unwrap();
    let steps = || {
        let found = read(dir.path()).unwrap();
        (found.checkpoint.unwrap().state.steps, found.broken.is_some())
    };
    assert_eq!(steps(), (10, false));
    std::fs::write(dir.path().join(NEWEST), b"").unwrap();
    assert_eq!(steps(), (9, true));
    remove_newest(dir.path()).unwrap();
    assert_eq!(steps(), (9, false));
    write(dir.path(), &settings(), &later).unwrap();
    std::fs::remove_file(dir.path().join(NEWEST)).unwrap();
    assert_eq!(steps(), (9, false));
    std::fs::write(dir.path().join(PREVIOUS), b"{}").unwrap();
    assert_eq!(read(dir.path()).unwrap_err().exit_code(), 2);
    remove(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    // It takes no room: it is one hole.
    File::create(dir.path().join(NEWEST)).unwrap().set_len(1 << 40).unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("256 MiB"));
}

#[test]
fn differences_name_every_setting_that_changed() {
    let old = json!({"lr": 0.1, "beta": 1, "dataset": {"name": "a", "sha256": "x".repeat(64)}, "gone": 1});
    let new = json!({"lr": 0.2, "beta": 1, "dataset": {"name": "a", "sha256": "y".repeat(64)}, "system": "s"});
    let shown: Vec<String> = differences(&old, &new).iter().map(ToString::to_string).collect();
    let (x, y) = ("x".repeat(15), "y".repeat(15));
    let hashes = format!("dataset.sha256 was \"{x}…, is \"{y}…");
    assert_eq!(shown, ["lr was 0.1, is 0.2".to_owned(), hashes, "system was none, is \"s\"".to_owned()]);
    assert_eq!(differences(&old, &old), []);
}
