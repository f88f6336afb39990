//! The geometry of norms with statistics per channel.

/// A contiguous `[n, c, s]`: n examples, c channels, s positions; statistics per c over n·s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Examples.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Positions of one channel in one example; 1 for dense nets.
    pub s: usize,
}

/// Below this many positions, a channel's values are too scattered to be read channel by channel.
const LEAST_SLAB: usize = 16;
/// With at least this many parts, threads are kept busy.
const ENOUGH_PARTS: usize = 16;
/// Values of the channels that a thread takes at a time: 512 KB of f32, for two such inputs to fit
/// a cache of second level.
const GROUP: usize = 1 << 17;

/// How the work on a shape is divided. It depends on the shape alone, so that results are the same
/// bits for any number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A thread takes all of this many neighbouring channels: its second read finds them in cache.
    Groups(usize),
    /// Few channels: each is split over the examples into this many blocks.
    Blocks(usize),
    /// Few positions: rows of c·s columns are read in order, with statistics per column.
    Columns,
}

impl Channels {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.n * self.c * self.s
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values per channel.
    pub fn count(&self) -> usize {
        self.n * self.s
    }

    pub(crate) fn plan(&self) -> Plan {
        if self.s < LEAST_SLAB {
            Plan::Columns
        } else if self.c >= ENOUGH_PARTS {
            let most = self.c / ENOUGH_PARTS;
            Plan::Groups((GROUP / self.count().max(1)).clamp(1, most))
        } else {
            Plan::Blocks(ENOUGH_PARTS.div_ceil(self.c.max(1)).min(self.n.max(1)))
        }
    }

    /// # Panics
    /// If a slice of `found` elements is not of this shape.
    pub(crate) fn check(&self, argument: &str, found: usize) {
        let Self { n, c, s } = self;
        let expected = n.checked_mul(*c).and_then(|count| count.checked_mul(*s));
        assert_eq!(
            Some(found),
            expected,
            "{argument}: expected [{n}, {c}, {s}] values"
        );
    }

    /// # Panics
    /// If a slice of `found` elements is not one value per channel.
    pub(crate) fn check_per_channel(&self, argument: &str, found: usize) {
        assert_eq!(
            found, self.c,
            "{argument}: expected one value for each of {} channels",
            self.c
        );
    }
}
