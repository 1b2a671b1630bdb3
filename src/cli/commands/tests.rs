//! Tests of what all commands go through.

use super::check_gpus;

#[test]
fn ranks_of_one_machine_do_not_each_take_all_gpus() {
    let refused = check_gpus("cuda:all", 2).unwrap_err().to_string();
    assert!(refused.contains("2 ranks of this machine"), "{refused}");
    for (device, ranks) in [("cuda:all", 1), ("cuda:0,1", 2), ("auto", 8)] {
        assert!(check_gpus(device, ranks).is_ok(), "{device}, {ranks}");
    }
}
