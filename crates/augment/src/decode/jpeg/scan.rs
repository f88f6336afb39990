//! The codes of a scan: bits, Huffman tables, blocks of coefficients.

use memchr::memchr;

/// The row-major place of the coefficient that is k-th in a file. A run may lead beyond the end: that is the last
/// place, as in libjpeg.
pub(super) const ZIGZAG: [u8; 256] = {
    let mut places = [63; 256];
    let (mut x, mut y) = (0_i32, 0_i32);
    let mut k = 0;
    while k < 64 {
        places[k] = (8 * y + x) as u8;
        let up = (x + y) % 2 == 0;
        let (dx, dy) = if up { (1, -1) } else { (-1, 1) };
        // At a border the path goes along it.
        if up && x == 7 || !up && y < 7 && x == 0 {
            y += 1;
        } else if up && y == 0 || !up && y == 7 {
            x += 1;
        } else {
            x += dx;
            y += dy;
        }
        k += 1;
    }
    places
};

/// Bits that are looked up at once.
const LOOK: u32 = 10;
const ENTRIES: usize = 1 << LOOK;

/// A Huffman table as it is in a file.
#[derive(Clone, Copy)]
pub(super) struct Codes<'a> {
    /// How many codes of each length there are.
    pub counts: [u8; 16],
    pub symbols: &'a [u8],
}

/// For the next [`LOOK`] bits: the code's length, 0 if it is longer, and its symbol.
type Short = [(u8, u8); ENTRIES];

/// The codes of any length.
struct Long {
    counts: [u8; 16],
    symbols: Vec<u8>,
    /// Per length, the first code that is not of that length, to the left in 16 bits.
    ends: [u32; 17],
    /// Per length, what to add to a code for its symbol's place.
    offsets: [i32; 17],
}

impl Long {
    /// `None` if there are more codes than there can be.
    fn new(codes: Codes<'_>) -> Option<(Box<Short>, Self)> {
        let mut short = Box::new([(0, 0); ENTRIES]);
        let (mut ends, mut offsets) = ([0; 17], [0; 17]);
        let (mut code, mut place) = (0_u32, 0);
        for length in 1..=16 {
            offsets[length] = place as i32 - code as i32;
            for _ in 0..codes.counts[length - 1] {
                if code >> length != 0 {
                    return None;
                }
                let symbol = *codes.symbols.get(place)?;
                if let Some(free) = LOOK.checked_sub(length as u32) {
                    let begin = (code << free) as usize;
                    short[begin..begin + (1 << free)].fill((length as u8, symbol));
                }
                code += 1;
                place += 1;
            }
            ends[length] = code << (16 - length);
            code <<= 1;
        }
        let long = Self {
            counts: codes.counts,
            symbols: codes.symbols.to_vec(),
            ends,
            offsets,
        };
        Some((short, long))
    }

    fn is_of(&self, codes: Codes<'_>) -> bool {
        self.counts == codes.counts && self.symbols == codes.symbols
    }

    /// The symbol of the next code, which is none of the short ones, and the code's length.
    #[cold]
    #[inline(never)]
    fn symbol(&self, bits: u64) -> Option<(u8, u8)> {
        let next = (bits >> 48) as u32;
        let length = (LOOK as usize + 1..=16).find(|&length| next < self.ends[length])?;
        let place = (next >> (16 - length)) as i32 + self.offsets[length];
        let symbol = *self.symbols.get(usize::try_from(place).ok()?)?;
        Some((symbol, length as u8))
    }
}

/// A table of the blocks' means: a symbol says how many bits of a difference follow.
pub(super) struct Means {
    short: Box<Short>,
    long: Long,
}

impl Means {
    pub fn new(codes: Codes<'_>) -> Option<Self> {
        let known = codes.symbols.iter().all(|&size| size <= 15);
        let (short, long) = Long::new(codes).filter(|_| known)?;
        Some(Self { short, long })
    }

    /// Whether it was made of these codes.
    pub fn is_of(&self, codes: Codes<'_>) -> bool {
        self.long.is_of(codes)
    }
}

/// A table of the other coefficients: a symbol says how many zeros come first (upper half), and how many bits of a
/// coefficient follow (lower half).
pub(super) struct Runs {
    /// What the next [`LOOK`] bits hold.
    entries: Box<[Entry; ENTRIES]>,
    long: Long,
}

/// A coefficient with the zeros before it, or two of them. Both are stored: where there is none, 0 is stored where 0 is.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// Of both together; 0 if the first one is not all among the bits that were looked up.
    bits: u8,
    /// Of the first; if `bits` is 0, of its code, or 0 if that is longer too.
    first_bits: u8,
    /// How far the first leads; if `bits` is 0, its symbol.
    first_way: u8,
    /// How far both lead.
    way: u8,
    values: [i16; 2],
}

impl Entry {
    /// What comes first in the next [`LOOK`] bits.
    fn single(next: usize, (length, symbol): (u8, u8)) -> Self {
        let size = symbol & 15;
        let bits = length + size;
        if length == 0 || u32::from(bits) > LOOK {
            return Self {
                first_bits: length,
                first_way: symbol,
                ..Self::default()
            };
        }
        // Behind a code that takes all of them there is nothing.
        let behind = (next as u64).checked_shl(64 - LOOK + u32::from(length));
        let value = signed(behind.unwrap_or(0), size);
        Self {
            bits,
            first_bits: bits,
            first_way: way(symbol),
            way: way(symbol),
            values: [value as i16, 0],
        }
    }
}

impl Runs {
    pub fn new(codes: Codes<'_>) -> Option<Self> {
        let (short, long) = Long::new(codes)?;
        let mut entries = Box::new([Entry::default(); ENTRIES]);
        for (next, (entry, &symbol)) in entries.iter_mut().zip(&*short).enumerate() {
            *entry = Entry::single(next, symbol);
        }
        let single = entries.clone();
        for (next, entry) in entries.iter_mut().enumerate() {
            let second = single[(next << entry.bits) % ENTRIES];
            let bits = entry.bits + second.bits;
            let more = entry.bits > 0 && entry.way < END_OF_BLOCK;
            if more && second.bits > 0 && u32::from(bits) <= LOOK {
                entry.bits = bits;
                entry.way += second.way;
                entry.values[1] = second.values[0];
            }
        }
        Some(Self { entries, long })
    }

    /// Whether it was made of these codes.
    pub fn is_of(&self, codes: Codes<'_>) -> bool {
        self.long.is_of(codes)
    }
}

/// The way of a symbol behind which a block holds nothing.
const END_OF_BLOCK: u8 = 64;

/// How far a symbol leads: behind its coefficient, over 16 zeros, or to the end.
#[inline(always)]
fn way(symbol: u8) -> u8 {
    match (symbol >> 4, symbol & 15) {
        (15, 0) => 16,
        (_, 0) => END_OF_BLOCK,
        (zeros, _) => zeros + 1,
    }
}

/// The number that the first `size` bits, 0 to 15, stand for: those that begin with 0 are negative.
#[inline(always)]
fn signed(bits: u64, size: u8) -> i32 {
    let number = (bits >> 1 >> (63 - size)) as i32;
    let negative = (bits >> 63) as i32 - 1;
    number + (negative & (1 - (1 << size)))
}

/// The codes of a scan.
pub(super) struct Scan<'a> {
    /// Bytes that were not taken over yet.
    rest: &'a [u8],
    /// Bytes without what is stuffed between them, then zeros.
    buffer: &'a mut Vec<u8>,
    /// How many they are.
    length: usize,
    /// Whether no more follow: `rest` begins with a marker or is empty.
    ended: bool,
    /// How far they were read.
    pub bits: Bits,
}

/// Bits that were taken from a scan's buffer; small enough to stay in registers.
#[derive(Clone, Copy, Default)]
pub(super) struct Bits {
    /// From the left; behind `count` of them, those that come next or zeros.
    bits: u64,
    count: u32,
    /// The byte of the buffer that comes behind them.
    at: usize,
}

/// More than the bytes of an MCU: six blocks of 64 codes of up to 16 bits and coefficients of up to 15, and what is read
/// ahead.
const MCU: usize = 6 * 64 * 31 / 8 + 32;

/// Bytes that are taken over at once.
const STRETCH: usize = 8192;

impl<'a> Scan<'a> {
    /// Reads from these bytes on; `buffer` is memory to do it in.
    pub fn new(bytes: &'a [u8], buffer: &'a mut Vec<u8>) -> Self {
        buffer.resize(STRETCH + MCU, 0);
        Self {
            rest: bytes,
            buffer,
            length: 0,
            ended: false,
            bits: Bits::default(),
        }
    }

    /// Whether more was read than there is up to the next marker.
    pub fn ran_out(&self) -> bool {
        8 * self.bits.at > 8 * self.length + self.bits.count as usize
    }

    /// Makes the bytes of an MCU ready; `None` if there are none left.
    #[inline(always)]
    pub fn ready(&mut self) -> Option<()> {
        if self.bits.at + MCU <= self.length {
            return Some(());
        }
        if !self.ended {
            self.take_over();
        }
        (!self.ran_out()).then_some(())
    }

    /// The bytes that [`Bits`] are taken from.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.buffer
    }

    /// Fills the buffer with what comes behind what was read.
    #[cold]
    #[inline(never)]
    fn take_over(&mut self) {
        let read = self.bits.at.min(self.length);
        self.buffer.copy_within(read..self.length, 0);
        self.length -= read;
        self.bits.at -= read;
        let (buffer, zeros) = self.buffer.split_at_mut(STRETCH);
        while self.length < STRETCH {
            let room = self.rest.len().min(STRETCH - self.length);
            let plain = memchr(0xff, &self.rest[..room]).unwrap_or(room);
            let (bytes, rest) = self.rest.split_at(plain);
            buffer[self.length..][..plain].copy_from_slice(bytes);
            self.length += plain;
            self.rest = rest;
            match *rest {
                _ if self.length == STRETCH => break,
                // ff itself is followed by 0; by anything else it is a marker.
                [_, 0, ref rest @ ..] => {
                    buffer[self.length] = 0xff;
                    self.length += 1;
                    self.rest = rest;
                }
                _ => {
                    self.ended = true;
                    break;
                }
            }
        }
        if self.ended {
            buffer[self.length..].fill(0);
            zeros.fill(0);
        }
    }

    /// Goes on behind a restart marker, which is next but for some bits that fill a byte.
    pub fn restart(&mut self) -> Option<()> {
        let left = (8 * self.length + self.bits.count as usize).checked_sub(8 * self.bits.at)?;
        let [0xff, 0xd0..=0xd7, ref rest @ ..] = *self.rest else {
            return None;
        };
        // Whole bytes would be codes before the marker.
        if !self.ended || left >= 8 {
            return None;
        }
        (self.rest, self.length, self.ended) = (rest, 0, false);
        self.bits = Bits::default();
        self.ready()
    }
}

impl Bits {
    /// Makes at least 56 bits ready.
    #[inline(always)]
    fn refill(&mut self, bytes: &[u8]) -> Option<()> {
        let eight = bytes.get(self.at..)?.first_chunk::<8>()?;
        // What does not fit is taken once more the next time.
        self.bits |= u64::from_be_bytes(*eight) >> self.count;
        self.at += (63 - self.count as usize) / 8;
        self.count |= 56;
        Some(())
    }

    #[inline(always)]
    fn consume(&mut self, count: u8) {
        self.bits <<= count;
        self.count -= u32::from(count);
    }

    /// The next ones, as a place in a table.
    #[inline(always)]
    fn next(&self) -> usize {
        (self.bits >> (64 - LOOK)) as usize
    }

    /// By how much a block's mean differs from the last one's.
    #[inline(always)]
    pub fn difference(&mut self, bytes: &[u8], means: &Means) -> Option<i32> {
        self.refill(bytes)?;
        let (size, length) = match means.short[self.next()] {
            (0, _) => means.long.symbol(self.bits)?,
            (length, symbol) => (symbol, length),
        };
        self.consume(length);
        let difference = signed(self.bits, size);
        self.consume(size);
        Some(difference)
    }

    /// Stores the other coefficients of a block, which are 0 so far.
    #[inline(always)]
    pub fn block(
        &mut self,
        bytes: &[u8],
        runs: &Runs,
        mut store: impl FnMut(usize, i16),
    ) -> Option<()> {
        let mut store = |behind: usize, value| {
            store(usize::from(ZIGZAG[(behind - 1) % ZIGZAG.len()]), value);
        };
        let mut k = 1;
        while k < 64 {
            self.refill(bytes)?;
            // What is ready is enough for three entries, or two and any symbol.
            for _ in 0..3 {
                let entry = &runs.entries[self.next()];
                if entry.bits == 0 {
                    let (symbol, length) = match entry.first_bits {
                        0 => runs.long.symbol(self.bits)?,
                        length => (entry.first_way, length),
                    };
                    self.consume(length);
                    let size = symbol & 15;
                    k += usize::from(way(symbol));
                    store(k, signed(self.bits, size) as i16);
                    self.consume(size);
                    break;
                }
                let first = k + usize::from(entry.first_way);
                k += usize::from(entry.way);
                store(k, entry.values[1]);
                store(first, entry.values[0]);
                // If the first is the block's last, the second is no coefficient.
                self.consume(if first < 64 {
                    entry.bits
                } else {
                    entry.first_bits
                });
                if k >= 64 {
                    break;
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_the_standard() {
        assert_eq!(ZIGZAG[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        assert_eq!(ZIGZAG[60..66], [47, 55, 62, 63, 63, 63]);
        let mut places = ZIGZAG[..64].to_vec();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..64));
    }

    /// Bytes of these bits, ones to the next byte, stuffed.
    fn stuffed(bits: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for byte in bits.as_bytes().chunks(8) {
            let byte = format!("{:1<8}", std::str::from_utf8(byte).unwrap());
            let byte = u8::from_str_radix(&byte, 2).unwrap();
            bytes.push(byte);
            if byte == 0xff {
                bytes.push(0);
            }
        }
        bytes
    }

    fn difference(scan: &mut Scan<'_>, means: &Means) -> Option<i32> {
        scan.ready()?;
        let mut bits = scan.bits;
        let difference = bits.difference(scan.bytes(), means);
        scan.bits = bits;
        difference
    }

    #[test]
    fn codes_are_read_across_stuffed_bytes_and_markers_end_them() {
        // Codes 0, 10, 110 and one of 12 bits, for 0, 2, 1 and 3 bits of a value.
        let mut counts = [0; 16];
        counts[..3].copy_from_slice(&[1, 1, 1]);
        counts[11] = 1;
        let symbols = &[0, 2, 1, 3];
        let means = Means::new(Codes { counts, symbols }).unwrap();
        // 10 11 | 110 0 | 0 | 111000000000 101 | 10 00, then ones to the next byte.
        let mut bytes = stuffed("1011110001110000000001011000");
        bytes.extend([0xff, 0xd0, 0xff, 0, 0xff, 0xd9]);
        let mut buffer = vec![0xee; 3];
        let mut scan = Scan::new(&bytes, &mut buffer);
        assert!(scan.restart().is_none(), "codes come first");
        let found: Vec<_> = (0..5)
            .map(|_| difference(&mut scan, &means).unwrap())
            .collect();
        assert_eq!(found, [3, -1, 0, 5, -3]);
        assert!(!scan.ran_out());
        scan.restart().unwrap();
        assert!(
            difference(&mut scan, &means).is_none(),
            "no code is all ones"
        );
        let mut end = Scan::new(&[0xff, 0xd9], &mut buffer);
        assert_eq!(difference(&mut end, &means), Some(0));
        assert!(end.ran_out());
    }

    /// The definition: one code after another.
    struct Naive<'a> {
        codes: Vec<(String, u8)>,
        bits: &'a str,
    }

    impl Naive<'_> {
        fn block(&mut self) -> [i16; 64] {
            let mut block = [0; 64];
            let mut k = 1;
            while k < 64 {
                let known = |(code, _): &&(String, u8)| self.bits.starts_with(code.as_str());
                let (code, symbol) = self.codes.iter().find(known).unwrap();
                let (run, size) = (usize::from(symbol >> 4), usize::from(symbol & 15));
                let (value, rest) = self.bits[code.len()..].split_at(size);
                self.bits = rest;
                match (run, size) {
                    (15, 0) => k += 16,
                    (_, 0) => break,
                    _ => {
                        k += run;
                        let number = i32::from_str_radix(value, 2).unwrap();
                        let negative = value.starts_with('0');
                        let value = number - i32::from(negative) * ((1 << size) - 1);
                        block[usize::from(ZIGZAG[k])] = value as i16;
                        k += 1;
                    }
                }
            }
            block
        }
    }

    #[test]
    fn blocks_are_those_of_one_code_after_another() {
        let mut draws = evenkeel_random::Key::from_seed(4).draws();
        for _ in 0..30 {
            // Lengths of codes such that all bits are codes; symbols of any kind, the end of block among them.
            let (mut counts, mut open) = ([0_u8; 16], 1_u32);
            for length in 0..16 {
                open *= 2;
                let taken = match length {
                    15 => open.min(200),
                    _ => draws.below(open.div_ceil(2) + 1).min(open - 1).min(9),
                };
                counts[length] = taken as u8;
                open -= taken;
            }
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let mut symbols: Vec<u8> = (0..count)
                .map(|_| draws.below(256) as u8)
                .map(|symbol| {
                    if symbol % 3 == 0 {
                        symbol & 0x33
                    } else {
                        symbol
                    }
                })
                .collect();
            symbols[draws.below(count.min(4) as u32) as usize] = 0;
            let codes = Codes {
                counts,
                symbols: &symbols,
            };
            let (mut code, mut place, mut all) = (0_u32, 0, Vec::new());
            for (length, &count) in (1..).zip(&counts) {
                for _ in 0..count {
                    all.push((format!("{code:0length$b}"), symbols[place]));
                    code += 1;
                    place += 1;
                }
                code *= 2;
            }
            let mut bits = String::new();
            while bits.len() < 8 * 3 * STRETCH {
                // Codes from the table, of short ones more; values of many ones, so that bytes are stuffed.
                let most = if draws.below(3) > 0 {
                    count.min(5)
                } else {
                    count
                };
                let (code, symbol) = &all[draws.below(most as u32) as usize];
                bits += code;
                let ones = draws.below(4);
                for _ in 0..symbol & 15 {
                    bits.push(if draws.below(4) < ones { '1' } else { '0' });
                }
            }
            let bytes = stuffed(&bits);
            let runs = Runs::new(codes).unwrap();
            assert!(runs.is_of(codes));
            let mut naive = Naive {
                codes: all,
                bits: &bits,
            };
            let mut buffer = Vec::new();
            let mut scan = Scan::new(&bytes, &mut buffer);
            let mut blocks = 0;
            while naive.bits.len() > 64 * 31 {
                let expected = naive.block();
                let mut found = [0; 64];
                scan.ready().unwrap();
                let mut bits = scan.bits;
                bits.block(scan.bytes(), &runs, |place, value| found[place] = value)
                    .unwrap();
                scan.bits = bits;
                assert_eq!(found, expected);
                blocks += 1;
            }
            assert!(blocks > 100, "{blocks}");
        }
    }

    #[test]
    fn tables_of_too_many_codes_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        let symbols = &[0, 1, 2];
        assert!(Runs::new(Codes { counts, symbols }).is_none());
        counts[0] = 1;
        let symbols = &[16];
        assert!(Means::new(Codes { counts, symbols }).is_none());
        assert!(Runs::new(Codes { counts, symbols }).is_some());
    }
}
