//! Tests of `pages`.

use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;

#[test]
fn the_pages_of_a_chunk_hold_what_its_footer_says_but_for_their_headers() {
    for name in ["none", "snappy", "zstd", "gzip"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/data/plain-{name}.parquet"));
        let mut file = File::open(&path).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let mut chunks = 0;
        for chunk in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            let (pages, stated) = (of_chunk(&mut file, chunk).unwrap(), chunk.uncompressed_size() as u64);
            assert!(pages.bytes > 0 && pages.bytes < stated && stated - pages.bytes < 200, "{name}: {pages:?}, {stated}");
            // The footer counts values alone; the headers of pages also count the entries of dictionaries.
            let values = chunk.num_values() as u64;
            assert!((values..=2 * values).contains(&pages.values), "{name}: {pages:?}, {values}");
            chunks += 1;
        }
        assert!(chunks > 3);
    }
}
