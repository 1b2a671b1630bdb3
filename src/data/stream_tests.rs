//! Tests of `stream`.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn text(bytes: &[u8]) -> Result<String> {
    let path = PathBuf::from("a.csv");
    let stream = ByteStream::open(&Input::Bytes(path.clone(), bytes.to_vec()))?;
    let mut text = String::new();
    stream.into_text(&path)?.read_to_string(&mut text).map_err(|error| read_error(&path, error))?;
    Ok(text)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_encoding_gives_the_same_text() {
    let right = "question,ü€𝄞\n1,2\n";
    let utf16 =
        |bytes: fn(u16) -> [u8; 2], mark: &str| format!("{mark}{right}").encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let marked = format!("\u{feff}{right}").into_bytes();
    for bytes in [
        right.as_bytes().to_vec(),
        marked.clone(),
        utf16(u16::to_le_bytes, "\u{feff}"),
        utf16(u16::to_be_bytes, "\u{feff}"),
        utf16(u16::to_le_bytes, ""),
        utf16(u16::to_be_bytes, ""),
    ] {
        assert_eq!(text(&bytes).unwrap(), right);
        assert_eq!(text(&gzip(&bytes)).unwrap(), right);
    }
    // Several gzip members in a row are one file.
    assert_eq!(text(&[gzip(b"a"), gzip(b"b")].concat()).unwrap(), "ab");
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    let error = |bytes: &[u8]| text(bytes).unwrap_err().to_string();
    assert_eq!(error(b"\xff\xfe\x00\xd8"), "a.csv: not valid UTF-16: save the file as UTF-8");
    let whole = gzip(&b"question".repeat(100_000));
    assert!(error(&whole[..whole.len() / 2]).starts_with("a.csv: broken gzip data, "));
    assert!(error(b"\x1f\x8b\x08\0\0\0\0\0").starts_with("a.csv: broken gzip data, "));
}

#[test]
fn small_file_that_unpacks_to_a_very_large_one_is_refused() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let chunk = vec![b'a'; 1 << 20];
    (0..UNPACKED >> 20).for_each(|_| encoder.write_all(&chunk).unwrap());
    encoder.write_all(b"a").unwrap();
    let bomb = encoder.finish().unwrap();
    assert!((bomb.len() as u64) < UNPACKED / UNPACKED_TIMES);
    let path = PathBuf::from("a.csv");
    let mut text = ByteStream::open(&Input::Bytes(path.clone(), bomb)).unwrap().into_text(&path).unwrap();
    let error = std::io::copy(&mut text, &mut std::io::sink()).unwrap_err();
    assert!(read_error(&path, error).to_string().starts_with("a.csv: unpacks to more than 256 MiB"));
}
