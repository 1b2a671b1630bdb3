//! Tests of `gguf_parts`.

use super::*;

#[test]
fn a_part_is_known_by_its_name_and_names_the_others() {
    let part = GgufPart::of(Path::new("d/m-x-00002-of-00003.gguf")).unwrap();
    assert_eq!((part.number, part.count), (2, 3));
    let names = ["d/m-x-00001-of-00003.gguf", "d/m-x-00002-of-00003.gguf", "d/m-x-00003-of-00003.gguf"];
    assert_eq!(part.all().collect::<Vec<_>>(), names.map(PathBuf::from));
    assert_eq!(part.first(), PathBuf::from(names[0]));
    for other in
        ["m.gguf", "m-00001.gguf", "m-1-of-2.gguf", "m-00003-of-00002.gguf", "m-00000-of-00002.gguf", "m-00001-of-00002.bin"]
    {
        assert_eq!(GgufPart::of(Path::new(other)), None, "{other}");
    }
}
