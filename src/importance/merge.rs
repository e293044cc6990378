//! Which profiles add up to what, and in which order.

use super::Origin;
use super::shard::{Shard, span};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why profiles cannot be added up.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error(
        "{}: {what} is {in_b}, but {in_a} in {}; such profiles do not add up", b.display(), a.display()
    )]
    Different { a: PathBuf, b: PathBuf, what: &'static str, in_a: String, in_b: String },
    #[error("{} holds shard {shard}, which is in {} already; name each shard once", b.display(), a.display())]
    ShardTwice { a: PathBuf, b: PathBuf, shard: Shard },
    #[error("{} is of the same data as {}; each data set counts once", b.display(), a.display())]
    DataTwice { a: PathBuf, b: PathBuf },
    #[error(
        "shards {missing} of {of} are missing beside {}: shards are added in their order, so that the bits of the sums are the same whoever computed them; make them with 'importance --shard I/{of}' first", path.display()
    )]
    Missing { path: PathBuf, missing: String, of: u32 },
}

/// In which order to add profiles, and what their sum comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Positions in the list that was given.
    pub order: Vec<usize>,
    pub origin: Origin,
}

type Named<'a> = (usize, &'a Path, &'a Origin);

/// Orders profiles by data set and shard, whichever order they are given in. Shards of one data set add up
/// from the first one without a gap, so that it makes no difference whether some were added up before.
///
/// # Errors
/// Different models or settings, the same shard or data twice, gaps.
pub fn plan(profiles: &[(PathBuf, Origin)]) -> Result<Option<Plan>, MergeError> {
    let Some((first_path, first)) = profiles.first() else { return Ok(None) };
    let mut sets: BTreeMap<&str, Vec<Named>> = BTreeMap::new();
    for (index, (path, origin)) in profiles.iter().enumerate() {
        if let Some((what, in_a, in_b)) = first.difference(origin) {
            return Err(MergeError::Different { a: first_path.clone(), b: path.clone(), what, in_a, in_b });
        }
        sets.entry(&origin.data_sha256).or_default().push((index, path, origin));
    }
    let mut shards = Vec::new();
    for set in sets.values_mut() {
        set.sort_by_key(|(_, _, origin)| (origin.shard.first(), origin.shard.last()));
        shards.push(together(set)?);
    }
    if sets.len() > 1
        && let Some((set, shard)) = sets.values().zip(&shards).find(|(_, shard)| !shard.is_whole())
    {
        let (missing, of) = (shard.others(), shard.of());
        return Err(MergeError::Missing { path: set[0].1.into(), missing, of });
    }
    let all = || sets.values().flatten();
    let origin = Origin {
        batch_size: all().map(|(_, _, origin)| origin.batch_size).max().unwrap_or(first.batch_size),
        outputs: all().find_map(|(_, _, origin)| origin.outputs.clone()),
        data_sha256: digests(&sets)?,
        shard: if let [shard] = shards[..] { shard } else { Shard::WHOLE },
        ..first.clone()
    };
    Ok(Some(Plan { order: all().map(|(index, ..)| *index).collect(), origin }))
}

/// What shards of one data set, in their order, come to.
fn together(set: &[Named]) -> Result<Shard, MergeError> {
    let (_, first_path, first) = set[0];
    let mut last = 0;
    let mut missing = Vec::new();
    for (position, (_, path, origin)) in set.iter().enumerate() {
        let different = |what, in_a: String, in_b: String| {
            Err(MergeError::Different { a: first_path.into(), b: path.to_path_buf(), what, in_a, in_b })
        };
        let (shard, of) = (origin.shard, first.shard.of());
        if shard.of() != of {
            return different("the number of shards", of.to_string(), shard.of().to_string());
        }
        // Shards are cut between batches.
        if origin.batch_size != first.batch_size {
            return different("the batch size", first.batch_size.to_string(), origin.batch_size.to_string());
        }
        if shard.first() <= last {
            let (a, b) = (set[position - 1].1.into(), path.to_path_buf());
            return Err(match shard.is_whole() {
                true => MergeError::DataTwice { a, b },
                false => MergeError::ShardTwice { a, b, shard },
            });
        }
        missing.extend(span(last + 1, shard.first() - 1));
        last = shard.last();
    }
    let of = first.shard.of();
    match Shard::new(1, last, of) {
        Some(shard) if missing.is_empty() => Ok(shard),
        _ => Err(MergeError::Missing { path: first_path.into(), missing: missing.join(", "), of }),
    }
}

/// The digests of all data sets, each of which may come once.
fn digests(sets: &BTreeMap<&str, Vec<Named>>) -> Result<String, MergeError> {
    let mut seen: BTreeMap<&str, &Path> = BTreeMap::new();
    for (list, set) in sets {
        for digest in list.split(',') {
            if let Some(a) = seen.insert(digest, set[0].1) {
                return Err(MergeError::DataTwice { a: a.into(), b: set[0].1.into() });
            }
        }
    }
    Ok(seen.into_keys().collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(data: &str, shard: &str) -> Origin {
        Origin {
            objective: "sq-l2".into(),
            reduction: "sample".into(),
            batch_size: 4,
            outputs: None,
            model_sha256: "m".into(),
            data_sha256: data.into(),
            shard: shard.parse().unwrap(),
        }
    }

    fn planned(list: &[(&str, &str)]) -> Result<Plan, String> {
        let named = list.iter().enumerate().map(|(i, (data, shard))| (format!("p{i}").into(), origin(data, shard)));
        plan(&named.collect::<Vec<_>>()).map(Option::unwrap).map_err(|e| e.to_string())
    }

    #[test]
    fn shards_are_added_in_their_order() {
        let found = planned(&[("a", "3/4"), ("a", "1/4"), ("a", "2/4")]).unwrap();
        assert_eq!((found.order, found.origin.shard.to_string().as_str()), (vec![1, 2, 0], "1-3/4"));
        let found = planned(&[("a", "4/4"), ("a", "1-3/4")]).unwrap();
        assert_eq!((found.order, found.origin), (vec![1, 0], origin("a", "1/1")));
    }

    #[test]
    fn data_sets_are_added_in_the_order_of_their_digests() {
        let found = planned(&[("c", "1/1"), ("b,d", "1/1"), ("a", "2/2"), ("a", "1/2")]).unwrap();
        assert_eq!((found.order, found.origin), (vec![3, 2, 1, 0], origin("a,b,c,d", "1/1")));
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("a", "1/4"), ("a", "4/4")], "shards 2-3 of 4 are missing"),
            (&[("a", "2/4")], "shards 1 of 4 are missing"),
            (&[("a", "1/4"), ("b", "1/1")], "shards 2-4 of 4 are missing"),
            (&[("a", "1/4"), ("a", "1/4")], "p1 holds shard 1/4, which is in p0 already"),
            (&[("a", "1-3/4"), ("a", "2/4")], "p1 holds shard 2/4, which is in p0 already"),
            (&[("a", "1/4"), ("a", "2/3")], "the number of shards is 3, but 4"),
            (&[("a", "1/1"), ("a", "1/1")], "p1 is of the same data as p0"),
            (&[("a,b", "1/1"), ("b", "1/1")], "p1 is of the same data as p0"),
        ];
        for (list, part) in cases {
            let found = planned(list).unwrap_err();
            assert!(found.contains(part), "{list:?}: {found}");
        }
    }
}
