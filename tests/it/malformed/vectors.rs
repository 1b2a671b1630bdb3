//! Rows: vector files of every format, cut, swollen, of another model, or made to run code.

use super::Case;
use crate::bytes::{archive, gguf, npy, safetensors, tensor, tensor_pickle, text_key, vector};

pub fn cases() -> Vec<Case> {
    [own(), torch(), numpy(), json(), control_vectors()].into_iter().flatten().collect()
}

fn with(name: &str, bytes: impl Into<Vec<u8>>, says: &'static str) -> Case {
    Case::steer(&format!("--vector {name}"), says).file(name, bytes)
}

fn own() -> Vec<Case> {
    let one = |entry: &str, data: &[u8]| safetensors(&format!("{{\"layer.1\":{entry}}}"), data);
    let vector_file = |bytes: Vec<u8>, says| with("b.safetensors", bytes, says);
    let own = |strings: &str| {
        let header = format!(
            "{{\"__metadata__\":{{\"format\":\"bipo\",{strings}}},\"layer.1\":{{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]}}}}"
        );
        safetensors(&header, &[0; 128])
    };
    vec![
        vector_file(Vec::new(), "not a steering vector"),
        vector_file(vector(32)[..100].to_vec(), "truncated"),
        vector_file([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "not a steering vector"),
        vector_file(safetensors("{}", &[]), "0 tensors"),
        vector_file(vector(31), "hidden size 31, but the model has 32"),
        vector_file(one(r#"{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#, &[]), "holds no vector"),
        vector_file(one(r#"{"dtype":"I64","shape":[4],"data_offsets":[0,32]}"#, &[0; 32]), "I64"),
        vector_file(one(r#"{"dtype":"F32","shape":[2,16],"data_offsets":[0,128]}"#, &[0; 128]), "shape"),
        vector_file(one(r#"{"dtype":"F32","shape":[32],"data_offsets":[0,128]}"#, &[0xff; 128]), "not finite"),
        vector_file(one(r#"{"dtype":"F32","shape":[4611686018427387904,16],"data_offsets":[0,0]}"#, &[]), "not a safetensors"),
        vector_file(vec![b' '; 65 << 20], "more than 64 MiB"),
        vector_file(own("\"format_version\":\"1\""), "metadata key"),
        vector_file(own("\"format_version\":\"99\",\"hidden_size\":\"32\",\"layers\":\"[1]\""), "99"),
        vector_file(own("\"format_version\":\"1\",\"positions\":\"all\",\"hidden_size\":\"32\",\"layers\":\"[1,9]\""), "layer"),
        vector_file(
            own("\"format_version\":\"1\",\"positions\":\"all\",\"hidden_size\":\"-1\",\"layers\":\"[1]\""),
            "hidden_size",
        ),
        vector_file(
            safetensors(r#"{"layer.18446744073709551615":{"dtype":"F32","shape":[32],"data_offsets":[0,128]}}"#, &[0; 128]),
            "out of range",
        ),
        vector_file(
            safetensors(r#"{"layers.3.mlp.down_proj":{"dtype":"F32","shape":[32],"data_offsets":[0,128]}}"#, &[0; 128]),
            "output of a module inside a block",
        ),
    ]
}

fn torch() -> Vec<Case> {
    let pt = |entries: &[(&str, &[u8])], says| with("b.pt", archive(entries), says);
    let data = [0; 128];
    let good = tensor_pickle(32, 1, "0");
    let mut deflated = archive(&[("b/data.pkl", &good), ("b/data/0", &data)]);
    // Says that its entries are compressed: local header and directory.
    let places: Vec<usize> = (0..deflated.len() - 12)
        .filter(|at| deflated[*at..].starts_with(b"PK\x03\x04") || deflated[*at..].starts_with(b"PK\x01\x02"))
        .collect();
    for at in places {
        let method = if deflated[at + 2] == 3 { 8 } else { 10 };
        deflated[at + method] = 8;
    }
    let mut swollen = archive(&[("b/data.pkl", &good), ("b/data/0", &data)]);
    let directories: Vec<usize> = (0..swollen.len() - 4).filter(|at| swollen[*at..].starts_with(b"PK\x01\x02")).collect();
    for at in directories {
        swollen[at + 20..at + 24].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    }
    vec![
        with("b.pt", b"PK\x03\x04".to_vec(), "b.pt"),
        with("b.pt", b"\x80\x02}q\x00.".to_vec(), "legacy format"),
        with("b.pt", archive(&[])[..].to_vec(), "b.pt"),
        pt(&[("b/other", b"x")], "no data.pkl inside"),
        pt(&[("b/data.pkl", b"")], "b.pt"),
        pt(&[("b/data.pkl", b"\x80\x02cos\nsystem\n(X\x05\x00\x00\x00touchtR.")], "expected one tensor"),
        pt(&[("b/data.pkl", b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00id > a\x85R.")], "expected one tensor"),
        pt(&[("b/data.pkl", &b"(".repeat(8000))], "b.pt"),
        pt(&[("b/data.pkl", &b"]".repeat(20_000))], "more than a steering vector"),
        pt(&[("b/data.pkl", b"X\xff\xff\xff\xffa.")], "longer than its file"),
        pt(&[("b/data.pkl", &good)], "data/0"),
        pt(&[("b/data.pkl", &tensor_pickle(33, 1, "0")), ("b/data/0", &data)], "reaches past its storage"),
        pt(&[("b/data.pkl", &tensor_pickle(32, 2, "0")), ("b/data/0", &data)], "reaches past its storage"),
        pt(&[("b/data.pkl", &tensor_pickle(i32::MAX as u32, 0, "0")), ("b/data/0", &data)], "reaches past its storage"),
        pt(&[("b/data.pkl", &tensor_pickle(32, 1, "../../../v.safetensors"))], "b.pt"),
        pt(&[("../../data.pkl", &tensor_pickle(31, 1, "0")), ("../../data/0", &data)], "hidden size 31"),
        pt(&[("b/data.pkl", &good), ("b/data/0", &data), ("b/byteorder", b"big")], "big endian"),
        with("b.pt", deflated, "b.pt"),
        with("b.pt", swollen, "b.pt"),
    ]
    .into_iter()
    .map(|case| case.also("--layer 1"))
    .collect()
}

fn numpy() -> Vec<Case> {
    let array = |header: &str, data: &[u8], says| with("b.npy", npy(header, data), says).also("--layer 1");
    vec![
        array("", &[], ".npy"),
        array("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 4), }\n", &[0; 16], ".npy"),
        array("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }\n", &[0; 16], "does not fit"),
        array("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }\n", &[0; 16], "never loads"),
        array("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }\n", &[0; 16], ".npy"),
        array("{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }\n", &[], "holds no vector"),
        array(&"(".repeat(60_000), &[], ".npy"),
        with("b.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "ends early").also("--layer 1"),
        with("b.npy", b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version 9").also("--layer 1"),
    ]
}

fn json() -> Vec<Case> {
    let json = |text: &str, says| with("b.json", text, says).also("--layer 1");
    vec![
        json("[", "b.json"),
        json("[]", "b.json"),
        json("[1, \"two\"]", "b.json"),
        json("[1e999]", "b.json"),
        json("[NaN]", "b.json"),
        json(&"[".repeat(1 << 20), "b.json"),
        json(&"{\"layers\":".repeat(1 << 18), "b.json"),
        json(r#"{"directions":{"-1":[1.0]}}"#, "b.json"),
        json(r#"{"model_type":"x","directions":{"99999999999999999999":[1.0]}}"#, "expected a layer's number"),
        json(r#"{"format":"bipo","format_version":2,"layers":{"1":[1.0]}}"#, "version"),
        json("\u{feff}[1.0]", "b.json"),
    ]
}

fn control_vectors() -> Vec<Case> {
    let architecture = text_key("general.architecture", "controlvector");
    let file = |rest: Vec<u8>, says| with("b.gguf", gguf(1, 1, &[architecture.clone(), rest].concat()), says);
    vec![
        with("b.gguf", gguf(0, 1, &text_key("general.architecture", "llama")), "expected \"controlvector\""),
        with("b.gguf", gguf(0, 1, &architecture), "holds no vector"),
        file(tensor("direction.0", &[32], 0), "b.gguf"),
        file([tensor("direction.1", &[u64::MAX / 4], 0), vec![0; 64]].concat(), "b.gguf"),
        file([tensor("weights", &[4], 0), vec![0; 64]].concat(), "expected direction.N alone"),
        file([tensor("direction.1", &[2, 2], 0), vec![0; 64]].concat(), "expected [hidden]"),
        file(Vec::new(), "b.gguf"),
    ]
}
