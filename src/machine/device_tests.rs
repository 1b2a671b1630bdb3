//! Tests of `device`.

use super::*;

#[test]
fn the_version_of_the_driver_is_the_number_behind_its_name() {
    let closed =
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc 12.2.0\n";
    let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)\n";
    assert_eq!(nvidia_version(closed).as_deref(), Some("535.183.01"));
    assert_eq!(nvidia_version(open).as_deref(), Some("580.65.06"));
    assert_eq!(nvidia_version("another driver\n"), None);
}

#[test]
fn each_process_of_a_machine_takes_a_gpu_of_its_own_as_long_as_there_are_enough() {
    let gpus = ["cuda:0", "cuda:1"].map(str::to_owned);
    assert_eq!([0, 1, 2].map(|rank| of_local_rank(rank, &gpus)), ["cuda:0", "cuda:1", "cuda:0"]);
    assert_eq!(of_local_rank(3, &gpus[..1]), "cuda:0");
    assert_eq!(of_local_rank(3, &[]), "auto");
}

#[test]
fn a_list_of_numbers_names_several_devices() {
    let of = |name: &str| names(name).map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    assert_eq!(of("cpu").unwrap(), "cpu:0");
    assert_eq!(of("cpu:0,1").unwrap(), "cpu:0 cpu:1");
    assert_eq!(of("cuda:1").unwrap(), "cuda:1");
    assert_eq!(of("cuda:0,0").unwrap(), "cuda:0 cuda:0");
    for (name, expected) in [
        ("cpu:0,x", "device cpu:0,x: expected cpu:N with a number N, or several such as cpu:0,1"),
        ("cuda:", "device cuda:: expected cuda:N with a number N, or several such as cuda:0,1"),
        ("cuda:0,", "device cuda:0,: expected cuda:N with a number N, or several such as cuda:0,1"),
        ("cpu:all", "device cpu:all: expected cpu:N with a number N, or several such as cpu:0,1"),
        ("auto:0", "device auto:0: expected auto, cpu, cuda[:N], cuda:N,N,..., cuda:all or metal"),
    ] {
        assert_eq!(of(name).unwrap_err().to_string(), expected);
    }
    assert_eq!(open_all("cpu:0,1").unwrap().len(), 2);
    assert_eq!(open("cpu:0,1").unwrap_err().to_string(), "device cpu:0,1: expected one device, found 2");
}
