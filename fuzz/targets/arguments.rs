//! Parses values of the command line (magnitudes, layers, positions, spans, sizes, data sets, a judge's URL) and a judge's
//! reply.
#![no_main]

use bipo::machine::bytes::Bytes;
use bipo::data::Source;
use bipo::data::endpoint::{Endpoint, EndpointNames};
use bipo::eval::judge::parse_score;
use bipo::steering::layers::LayerList;
use bipo::steering::magnitudes::Magnitudes;
use bipo::steering::positions::Positions;
use bipo::text::spans::Spans;

const NAMES: EndpointNames = EndpointNames { url: "--judge", key_variables: ["JUDGE_KEY", "OTHER_KEY"] };

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
    if let Ok(endpoint) = Endpoint::parse(text, NAMES) {
        endpoint.takes_key();
    }
    assert!(parse_score(text, &(1..=4)).is_none_or(|score| (1..=4).contains(&score)));
    let _ = (text.parse::<Positions>(), text.parse::<Spans>(), Source::parse(text));
});
