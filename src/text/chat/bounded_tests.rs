//! Tests of `bounded`.

use super::*;

#[test]
fn results_and_panics_come_back() {
    assert_eq!(run(|| 3), Ok(3));
    assert_eq!(run(|| -> usize { panic!("as a filter does") }), Err(RenderFailure::Panicked));
}

#[test]
fn work_without_end_is_left_behind() {
    let (_kept, never) = mpsc::channel::<()>();
    let failure = run(move || never.recv().is_ok()).unwrap_err();
    // Other tests of the same process can take memory at the same time.
    assert!(matches!(failure, RenderFailure::Exhausted(_)), "{failure:?}");
}
