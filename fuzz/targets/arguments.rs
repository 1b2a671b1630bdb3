//! Values of the command line: magnitudes, layers, positions, spans, sizes and data sets.
#![no_main]

use bipo::bytes::Bytes;
use bipo::data::Source;
use bipo::layers::LayerList;
use bipo::magnitudes::Magnitudes;
use bipo::positions::{Positions, Spans};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(magnitudes) = text.parse::<Magnitudes>() {
        let values = magnitudes.as_slice();
        assert!(!values.is_empty() && values.iter().all(|value| value.is_finite()), "{values:?}");
    }
    if let Ok(layers) = text.parse::<LayerList>().and_then(|list| list.of(32)) {
        assert!(layers.as_slice().is_sorted_by(|a, b| a < b) && layers.lowest() < 32, "{layers}");
    }
    if let Ok(bytes) = text.parse::<Bytes>() {
        assert!(!bytes.to_string().is_empty());
    }
    let _ = (text.parse::<Positions>(), text.parse::<Spans>(), Source::parse(text));
});
