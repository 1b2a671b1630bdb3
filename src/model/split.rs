//! How the blocks of a model are divided between devices: so many consecutive blocks on each. Embeddings lie with the first
//! blocks, the last norm and the head with the last ones. Nothing is read or moved here.

use std::ops::Range;

use candle_core::Device;

use super::config::Config;
use crate::machine::device;
use crate::{Error, Result};

/// The blocks that each of some devices holds.
#[derive(Debug, Clone)]
pub struct Split(Vec<StageBlocks>);

/// Consecutive blocks on one device.
#[derive(Debug, Clone)]
pub struct StageBlocks {
    /// Device that holds the blocks.
    pub device: Device,
    /// The blocks, at least one.
    pub blocks: Range<usize>,
}

impl Split {
    /// All blocks of a model on one device.
    pub(crate) fn one(device: Device, config: &Config) -> Self {
        Self(vec![StageBlocks { device, blocks: 0..config.num_hidden_layers }])
    }

    /// Divides the blocks of a model of this shape between devices: `by_hand`, or else in proportion to the memory that is free on
    /// each, and evenly where the devices have no memory of their own.
    ///
    /// # Errors
    /// There are more devices than blocks, or the numbers given by hand do not fit the devices or the model.
    pub fn new(devices: Vec<Device>, by_hand: Option<&[usize]>, config: &Config) -> Result<Self> {
        let (count, blocks) = (devices.len(), config.num_hidden_layers);
        let counts = match by_hand {
            Some(counts) if count < 2 => {
                return Err(Error::Argument(format!(
                    "split {} needs several devices, such as cpu:0,1 or cuda:0,1",
                    listed(counts)
                )));
            }
            Some(counts) => {
                check(counts, blocks)?;
                if counts.len() != count {
                    let (listed, numbers) = (listed(counts), counts.len());
                    return Err(Error::Argument(format!(
                        "split {listed} has {numbers} numbers, but there are {count} devices"
                    )));
                }
                counts.to_vec()
            }
            None if count > blocks => {
                return Err(Error::Argument(format!(
                    "{count} devices are more than the model's {blocks} blocks: name at most {blocks}"
                )));
            }
            None => {
                let free: Option<Vec<u64>> =
                    devices.iter().map(|device| device::memory(device).map(|memory| memory.free.0)).collect();
                free.map_or_else(|| even(blocks, count), |free| in_proportion(config, &free))
            }
        };
        let mut end = 0;
        let stage = |(device, count): (Device, usize)| {
            end += count;
            StageBlocks { device, blocks: end - count..end }
        };
        Ok(Self(devices.into_iter().zip(counts).map(stage).collect()))
    }

    /// The stages in the order of their blocks; at least one.
    pub fn stages(&self) -> &[StageBlocks] {
        &self.0
    }

    /// Device of the embeddings.
    pub(crate) fn first(&self) -> &Device {
        &self.0[0].device
    }

    /// Device of the last norm and the head.
    pub fn last(&self) -> &Device {
        &self.0[self.0.len() - 1].device
    }
}

/// Whether so many blocks for each device are all blocks of a model.
///
/// # Errors
/// The numbers do not add up to the blocks, or a device would have none.
pub fn check(counts: &[usize], blocks: usize) -> Result<()> {
    let sum: usize = counts.iter().sum();
    if sum != blocks {
        return Err(Error::Argument(format!(
            "split {} adds up to {sum} blocks, but the model has {blocks}: the numbers must add up to {blocks}",
            listed(counts)
        )));
    }
    match counts.iter().all(|count| *count > 0) {
        true => Ok(()),
        false => Err(Error::Argument(format!("split {}: each device needs at least one block", listed(counts)))),
    }
}

/// Divides `blocks` evenly between `devices`; the first of them have one more where it does not come out even.
fn even(blocks: usize, devices: usize) -> Vec<usize> {
    (0..devices).map(|device| blocks / devices + usize::from(device < blocks % devices)).collect()
}

/// Numbers of blocks for which the weights of each device are in proportion to its `room`, as far as whole blocks can be; at least
/// one each. There are no more devices than blocks.
fn in_proportion(config: &Config, room: &[u64]) -> Vec<usize> {
    let (blocks, last) = (config.num_hidden_layers, room.len() - 1);
    let weights = u128::from(config.stage_elements(0..blocks));
    let all_room: u128 = room.iter().map(|room| u128::from(*room)).sum::<u128>().max(1);
    let mut counts = vec![0; room.len()];
    for block in 0..blocks {
        // Embeddings come before the first block. A block belongs where its middle lies.
        let middle = u128::from(config.stage_elements(0..block)) + u128::from(config.block_elements(block)) / 2;
        let mut before = 0;
        let is_within = |room: &u64| {
            before += u128::from(*room);
            middle * all_room < before * weights
        };
        counts[room.iter().position(is_within).unwrap_or(last)] += 1;
    }
    while let Some(without) = counts.iter().position(|count| *count == 0) {
        let most = (0..counts.len()).max_by_key(|device| counts[*device]).unwrap_or(last);
        counts[most] -= 1;
        counts[without] += 1;
    }
    counts
}

fn listed(counts: &[usize]) -> String {
    counts.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
