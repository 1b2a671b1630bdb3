//! When the state of a run is saved.

use super::*;

#[test]
fn the_state_is_saved_as_often_as_asked_or_by_epoch_and_clock_and_always_at_an_early_end() {
    let due = |every, moment, steps, seconds| is_checkpoint_due(every, moment, steps, Duration::from_secs(seconds));
    let by_step: Vec<usize> = (1..=9).filter(|steps| due(Some(3), Moment::Step, *steps, 999)).collect();
    assert_eq!(by_step, [3, 6, 9]);
    assert!(!due(Some(3), Moment::Epoch, 4, 999) && due(None, Moment::Epoch, 4, 0));
    assert!(!due(None, Moment::Step, 4, 299) && due(None, Moment::Step, 4, 300));
    assert!(due(Some(3), Moment::Stopped, 4, 0) && due(None, Moment::Stopped, 4, 0));
}
