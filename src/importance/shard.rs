//! Fixed parts of a data set, which any number of workers can share among them.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Parts `first` to `last`, counted from 1, of `of` parts of a data set. Written `i/n`, or `i-j/n` for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    first: u32,
    last: u32,
    of: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("'{}' is no part of a data set: I/N with I from 1 to N, such as 3/8", crate::error::printable(.0))]
pub struct NoShard(String);

impl Shard {
    /// All of a data set.
    pub const WHOLE: Shard = Shard { first: 1, last: 1, of: 1 };

    /// None where these are no parts of `of`. All of them are the whole.
    pub fn new(first: u32, last: u32, of: u32) -> Option<Shard> {
        let inside = 1 <= first && first <= last && last <= of;
        inside.then_some(if (first, last) == (1, of) { Shard::WHOLE } else { Shard { first, last, of } })
    }

    pub fn is_whole(self) -> bool {
        self == Shard::WHOLE
    }

    pub fn first(self) -> u32 {
        self.first
    }

    pub fn last(self) -> u32 {
        self.last
    }

    /// Into how many parts the data set is cut.
    pub fn of(self) -> u32 {
        self.of
    }

    /// The parts that are not among these, for a message.
    pub fn others(self) -> String {
        let (before, after) = (span(1, self.first - 1), span(self.last.saturating_add(1), self.of));
        before.into_iter().chain(after).collect::<Vec<_>>().join(", ")
    }

    /// Which of so many batches these are. Parts differ in size by one batch at most.
    pub fn batches(self, all: usize) -> Range<usize> {
        let end = |parts: u32| (all as u128 * u128::from(parts) / u128::from(self.of)) as usize;
        end(self.first - 1)..end(self.last)
    }
}

/// The numbers from one to another, for a message; none where there are none.
pub(super) fn span(first: u32, last: u32) -> Option<String> {
    (first <= last).then(|| if first == last { first.to_string() } else { format!("{first}-{last}") })
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}/{}", self.first, self.of),
            false => write!(f, "{}-{}/{}", self.first, self.last, self.of),
        }
    }
}

impl FromStr for Shard {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Shard, NoShard> {
        let parse = || {
            let (parts, of) = text.split_once('/')?;
            let (first, last) = parts.split_once('-').unwrap_or((parts, parts));
            Shard::new(first.parse().ok()?, last.parse().ok()?, of.parse().ok()?)
        };
        parse().ok_or_else(|| NoShard(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another_and_leave_nothing_out() {
        for all in [1, 7, 8, 9, 1000, usize::MAX] {
            for of in [1, 2, 3, 7] {
                let parts: Vec<_> = (1..=of).map(|i| Shard::new(i, i, of).unwrap().batches(all)).collect();
                assert_eq!((parts[0].start, parts[of as usize - 1].end), (0, all));
                assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
                let sizes = || parts.iter().map(|p| p.len());
                assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn text_and_back() {
        for text in ["1/1", "3/8", "2-5/8"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        assert!("1-8/8".parse::<Shard>().unwrap().is_whole());
        for text in ["", "3", "0/8", "9/8", "5-2/8", "1/0", "a/b", "1/2/3", "-1/2"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert_eq!("2-3/6".parse::<Shard>().unwrap().others(), "1, 4-6");
        assert_eq!(Shard::WHOLE.others(), "");
    }
}
