//! What ranks send each other of one thing, such as a pair or a prompt, as bytes, and how the records of all ranks are put back in
//! the order of the things. Nothing here knows who sends them.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What ranks send each other of one thing. Numbers keep every bit.
pub trait RankRecord: Sized {
    /// The record as bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// The record that these bytes are; none if they are none.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl RankRecord for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl RankRecord for Vec<f64> {
    fn to_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks();
        rest.is_empty().then(|| numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }
}

impl<const N: usize> RankRecord for [f64; N] {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_vec().to_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Vec::from_bytes(bytes)?.try_into().ok()
    }
}

/// A record that is sent as JSON. It holds no number that is not finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned> RankRecord for Json<T> {
    fn to_bytes(&self) -> Vec<u8> {
        // What cannot be written is read as no record by every rank.
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self)
    }
}

/// Bytes of the length in front of a record.
const PREFIX: usize = size_of::<u64>();

/// Some records behind each other, each behind its length.
pub(super) fn join<T: RankRecord>(records: &[T]) -> Vec<u8> {
    let framed = |record: &T| {
        let bytes = record.to_bytes();
        [&(bytes.len() as u64).to_le_bytes(), bytes.as_slice()].concat()
    };
    records.iter().flat_map(framed).collect()
}

/// The records of the things at these places of a set in their order, given what each rank has joined of its own ones, in that
/// order too. None where there are more or fewer, or other ones.
pub(super) fn in_order<T: RankRecord>(places: &[usize], by_rank: &[Vec<u8>]) -> Option<Vec<T>> {
    let mut rest: Vec<&[u8]> = by_rank.iter().map(Vec::as_slice).collect();
    let record = |place: &usize| {
        let rest = &mut rest[owner(*place, by_rank.len())];
        let (len, behind) = rest.split_first_chunk::<PREFIX>()?;
        let (record, behind) = behind.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        *rest = behind;
        T::from_bytes(record)
    };
    let records = places.iter().map(record).collect::<Option<_>>()?;
    rest.iter().all(|rest| rest.is_empty()).then_some(records)
}

/// The rank that makes the record of the thing at this place of a set.
pub(super) fn owner(place: usize, ranks: usize) -> usize {
    place % ranks
}
