//! Profiles of parts of the data added up.

use super::{Error, Observer};
use crate::importance::{ImportanceError, Profile, Sums, plan};
use crate::write::{check_output, write_streamed};
use std::path::{Path, PathBuf};

/// Adds profiles up and writes the sum. The bits do not depend on the order in which they are given. Two
/// profiles are held in memory at a time.
///
/// # Errors
/// Profiles that cannot be read or do not add up, an output that cannot be written.
pub fn merge(profiles: &[PathBuf], output: &Path, observer: &mut dyn Observer) -> Result<Profile, Error> {
    check_output(output, profiles)?;
    observer.stage("adding up", 0);
    let mut named = Vec::new();
    for path in profiles {
        named.push((path.clone(), Profile::read(path)?.0.origin));
    }
    let plan = plan(&named).map_err(ImportanceError::from)?;
    let plan = plan.ok_or_else(|| Error::Usage("no profile to merge".into()))?;
    let mut total: Option<Sums> = None;
    for path in plan.order.iter().filter_map(|&index| profiles.get(index)) {
        let sums = Profile::read(path)?.0.sums;
        match &mut total {
            None => total = Some(sums),
            Some(total) => {
                total.add(&sums).map_err(|e| Error::Profile { path: path.clone(), reason: e.to_string() })?
            }
        }
    }
    let merged = Profile { sums: total.unwrap_or_default(), origin: plan.origin };
    write_streamed(output, &|out| merged.write(out))?;
    let shard = merged.origin.shard;
    if !shard.is_whole() {
        let (path, of) = (output.display(), shard.of());
        let missing = shard.others();
        observer.warning(&format!("{path} is not whole: shards {missing} of {of} are missing; merge it with them"));
    }
    Ok(merged)
}
