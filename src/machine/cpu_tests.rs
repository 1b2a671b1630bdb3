//! Tests of `cpu`.

use super::*;

#[test]
fn a_processor_is_named_where_the_system_names_it() {
    let x86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 106\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.60GHz\n";
    assert_eq!(named_in(x86).as_deref(), Some("Intel(R) Xeon(R) CPU @ 2.60GHz"));
    assert_eq!(named_in("processor\t: 0\nBogoMIPS\t: 243.75\nCPU part\t: 0xd4f\n"), None);
}

#[test]
fn a_command_takes_no_more_threads_than_cores_and_at_least_one() {
    assert!((1..=cores()).contains(&default_threads()));
}
