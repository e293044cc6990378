//! What a pass takes of memory, estimated before it begins.

use super::ImportanceError;
use crate::autograd::Backward;
use crate::graph::Name;
use std::collections::BTreeMap;

/// Bytes that a runtime takes for each byte of a graph's constants: as they are, and packed for its kernels.
const CONSTANTS: f64 = 2.4;
/// Bytes that a runtime takes for each byte of values that are alive at the same time.
const VALUES: f64 = 1.4;
/// Bytes of the runtime itself, and of what the kernels pack.
const BESIDES: f64 = 64e6;
/// The share of the room beside the model that a batch chosen by itself is meant to fill.
const ROOM: f64 = 0.85;
/// Of what is free, the share that is taken where no limit is given.
const SHARE: f64 = 0.8;

/// Bytes that a pass takes in the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// What does not depend on the batch size.
    fixed: f64,
    sample: f64,
}

impl Need {
    /// Of a backward graph that is not yet a session, whose sums are kept for so many passes, beside what the process
    /// had before.
    pub fn of(backward: &Backward, passes: usize, before: u64) -> Need {
        let constants: usize = backward.graph.constants.values().map(|t| t.len() * t.dtype().size()).sum();
        let weights: usize = backward.weights.iter().map(|w| w.shape.iter().product::<usize>()).sum();
        let sums = 8.0 * (weights * passes) as f64;
        let fixed = before as f64 + BESIDES + CONSTANTS * constants as f64 + sums;
        Need { fixed, sample: VALUES * alive(backward) as f64 / backward.batch as f64 }
    }

    pub fn bytes(&self, batch: usize) -> u64 {
        (self.fixed + self.sample * batch as f64) as u64
    }

    /// The largest batch that fits, with some room for what one sample does not tell; at least one.
    pub fn batch(&self, limit: Option<u64>) -> usize {
        let room = limit.map_or(f64::INFINITY, |limit| limit as f64 - self.fixed);
        (ROOM * room / self.sample.max(1.0)).max(1.0) as usize
    }

    /// # Errors
    /// A batch needs more than `limit`, by more than the tenth to which this is an estimate.
    pub fn check(&self, batch: usize, limit: Option<u64>) -> Result<(), ImportanceError> {
        match (limit, self.bytes(batch)) {
            (Some(limit), need) if need > limit.saturating_add(limit / 10) => {
                Err(ImportanceError::Memory { need, limit, batch })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes of values that are alive at the same time at most; outputs are to the end.
fn alive(backward: &Backward) -> usize {
    let graph = &backward.graph;
    let size =
        |name: &Name| backward.kinds.get(name).map_or(0, |(t, shape)| t.size() * shape.iter().product::<usize>());
    let mut last: BTreeMap<&Name, usize> = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|input| _ = last.insert(input, index));
    }
    graph.outputs.iter().for_each(|output| _ = last.insert(output, usize::MAX));
    let mut now: usize = graph.inputs.iter().map(|input| size(&input.name)).sum();
    let mut most = now;
    for (index, node) in graph.nodes.iter().enumerate() {
        now += node.outputs.iter().flatten().map(size).sum::<usize>();
        most = most.max(now);
        let mut read: Vec<&Name> = node.inputs.iter().flatten().filter(|i| !graph.constants.contains_key(*i)).collect();
        read.sort();
        read.dedup();
        let unread = node.outputs.iter().flatten().filter(|output| !last.contains_key(output));
        let done = read.into_iter().filter(|input| last.get(input) == Some(&index));
        now = now.saturating_sub(done.chain(unread).map(size).sum());
    }
    most
}

/// The limit on this process: the one that was asked for, or a share of what is free beside what it has.
pub(super) fn limit(asked: Option<u64>) -> Option<u64> {
    asked.or_else(|| Some(resident() + (SHARE * available()? as f64) as u64))
}

/// Bytes that this process has in memory; 0 where the system does not tell.
pub(super) fn resident() -> u64 {
    status("/proc/self/status", "VmRSS:").unwrap_or(0)
}

/// Bytes that processes can have without others being swapped out.
fn available() -> Option<u64> {
    status("/proc/meminfo", "MemAvailable:")
}

fn status(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need { fixed: 1000.0, sample: 10.0 };

    #[test]
    fn the_batch_follows_the_limit() {
        assert_eq!(NEED.batch(Some(1100)), 8);
        assert_eq!(NEED.batch(Some(900)), 1);
        assert_eq!(NEED.bytes(10), 1100);
        assert!(NEED.check(10, Some(1100)).is_ok() && NEED.check(10, None).is_ok());
        assert!(NEED.check(21, Some(1100)).is_ok());
        let refused = NEED.check(22, Some(1100));
        assert!(matches!(refused, Err(ImportanceError::Memory { need: 1220, limit: 1100, batch: 22 })));
    }
}
