//! The codes of a scan: bits, Huffman tables, blocks of coefficients.

/// The row-major place of the coefficient that is k-th in a file. A run may lead up to 15 beyond the end: those
/// are the last place, as in libjpeg.
pub(super) const ZIGZAG: [u8; 80] = {
    let mut places = [63; 80];
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

/// A Huffman table.
pub(super) struct Table {
    /// For the next [`LOOK`] bits: the bits to consume, in bits 0–7 (0: the code is longer), the symbol in bits
    /// 8–15, and in bits 16–31 the coefficient, if its bits are among those too (it is then not 0).
    fast: Box<[u32; 1 << LOOK]>,
    /// Per length, the first code that is not of that length, to the left in 16 bits.
    ends: [u32; 17],
    /// Per length, what to add to a code for its symbol's place.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// Of the number of codes of each length, and the symbols. With `coefficients` a symbol's lower half says how
    /// many bits of a coefficient follow.
    pub fn new(counts: &[u8; 16], symbols: &[u8], coefficients: bool) -> Option<Self> {
        if symbols.len() > 256 || (!coefficients && symbols.iter().any(|&size| size > 15)) {
            return None;
        }
        let mut fast = Box::new([0; 1 << LOOK]);
        let (mut ends, mut offsets) = ([0; 17], [0; 17]);
        let (mut code, mut place) = (0_u32, 0);
        for length in 1..=16 {
            offsets[length] = place as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                if code >> length != 0 {
                    return None; // more codes than there are
                }
                let symbol = symbols[place];
                if length as u32 <= LOOK {
                    let free = LOOK - length as u32;
                    for more in 0..1_u32 << free {
                        fast[((code << free) | more) as usize] =
                            entry(length as u32, symbol, more, free, coefficients);
                    }
                }
                code += 1;
                place += 1;
            }
            ends[length] = code << (16 - length);
            code <<= 1;
        }
        Some(Self {
            fast,
            ends,
            offsets,
            symbols: symbols.to_vec(),
        })
    }
}

/// `more` are the `free` bits after the code.
fn entry(length: u32, symbol: u8, more: u32, free: u32, coefficients: bool) -> u32 {
    let size = u32::from(symbol & 15);
    let with_value = coefficients && size > 0 && size <= free;
    let (bits, value) = if with_value {
        (length + size, signed(more >> (free - size), size))
    } else {
        (length, 0)
    };
    bits | u32::from(symbol) << 8 | (value as u32) << 16
}

/// The number that `size` bits stand for: those that begin with 0 are negative.
fn signed(bits: u32, size: u32) -> i32 {
    let bits = bits as i32;
    if bits < 1 << (size - 1) {
        bits - (1 << size) + 1
    } else {
        bits
    }
}

/// Reads codes. What is rare takes and returns it by value, so that the rest can stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// From the left.
    bits: u64,
    count: u32,
    /// How many of the bits are zeros that stand for what is missing at a marker.
    missing: u32,
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            bits: 0,
            count: 0,
            missing: 0,
        }
    }

    /// Whether more was read than there is up to the next marker.
    pub fn ran_out(&self) -> bool {
        self.count < self.missing
    }

    /// Goes on behind a restart marker, which is next but for some bits that fill a byte.
    pub fn restart(&mut self) -> Option<()> {
        if self.ran_out() {
            return None;
        }
        let whole = (self.count - self.missing) / 8;
        // Bytes that were read ahead would be codes before the marker.
        let marker = self.bytes.get(self.at..self.at + 2)?;
        if whole > 0 || marker[0] != 0xff || !(0xd0..=0xd7).contains(&marker[1]) {
            return None;
        }
        *self = Self {
            at: self.at + 2,
            ..Self::new(self.bytes)
        };
        Some(())
    }

    /// Makes at least 32 bits ready.
    #[inline(always)]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(four) = self.bytes[self.at..].first_chunk::<4>() {
            let word = u32::from_be_bytes(*four);
            // No byte is ff: none of the inverse is 0.
            if (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.bits |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        *self = self.refilled_slowly();
    }

    #[cold]
    #[inline(never)]
    fn refilled_slowly(mut self) -> Self {
        while self.count <= 56 {
            let byte = match self.bytes[self.at..] {
                // ff itself is followed by 0; by anything else it is a marker.
                [0xff, 0, ..] => {
                    self.at += 2;
                    0xff
                }
                [0xff, ..] | [] => {
                    self.missing += 8;
                    0
                }
                [byte, ..] => {
                    self.at += 1;
                    byte
                }
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    #[inline(always)]
    fn consume(&mut self, count: u32) {
        self.bits <<= count;
        self.count -= count;
    }

    /// The symbol of a code that is longer than is looked up, and the code's length.
    #[cold]
    #[inline(never)]
    fn long(bits: u64, table: &Table) -> Option<(u8, u32)> {
        let next = (bits >> 48) as u32;
        let length = (LOOK as usize + 1..=16).find(|&length| next < table.ends[length])?;
        let place = (next >> (16 - length)) as i32 + table.offsets[length];
        let symbol = *table.symbols.get(usize::try_from(place).ok()?)?;
        Some((symbol, length as u32))
    }

    /// The symbol of a code whose entry holds no coefficient.
    #[inline(always)]
    fn symbol(&mut self, entry: u32, table: &Table) -> Option<u8> {
        let (symbol, length) = match entry & 0xff {
            0 => Self::long(self.bits, table)?,
            length => ((entry >> 8) as u8, length),
        };
        self.consume(length);
        Some(symbol)
    }

    /// The number in the next `size` bits, 1 to 15.
    #[inline(always)]
    fn value(&mut self, size: u32) -> i32 {
        let bits = (self.bits >> (64 - size)) as u32;
        self.consume(size);
        signed(bits, size)
    }

    /// By how much a block's mean differs from the last one's.
    #[inline(always)]
    pub fn difference(&mut self, dc: &Table) -> Option<i32> {
        self.refill();
        let entry = dc.fast[(self.bits >> (64 - LOOK)) as usize];
        let size = self.symbol(entry, dc)?;
        Some(if size == 0 {
            0
        } else {
            self.value(u32::from(size))
        })
    }

    /// The other coefficients of a block, which are 0 so far.
    #[inline(always)]
    pub fn block(&mut self, ac: &Table, block: &mut [i16; 64]) -> Option<()> {
        self.coefficients(ac, |k, value| {
            block[usize::from(ZIGZAG[k] & 63)] = value;
        })
    }

    /// Passes over the other coefficients of a block.
    #[inline(always)]
    pub fn skip(&mut self, ac: &Table) -> Option<()> {
        self.coefficients(ac, |_, _| {})
    }

    #[inline(always)]
    fn coefficients(&mut self, ac: &Table, mut found: impl FnMut(usize, i16)) -> Option<()> {
        let mut k = 1;
        while k < 64 {
            self.refill();
            let entry = ac.fast[(self.bits >> (64 - LOOK)) as usize];
            if entry >> 16 != 0 {
                self.consume(entry & 0xff);
                k += (entry >> 12 & 15) as usize;
                found(k, (entry >> 16) as i16);
                k += 1;
                continue;
            }
            let symbol = self.symbol(entry, ac)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size > 0 {
                k += run;
                let value = self.value(size);
                found(k, value as i16);
                k += 1;
            } else if run == 15 {
                k += 16;
            } else {
                break;
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

    #[test]
    fn codes_are_read_across_stuffed_bytes_and_markers_end_them() {
        // Codes 0, 10, 110 and one of 12 bits, for 0, 2, 1 and 3 bits of a value.
        let mut counts = [0; 16];
        counts[..3].copy_from_slice(&[1, 1, 1]);
        counts[11] = 1;
        let table = Table::new(&counts, &[0, 2, 1, 3], false).unwrap();
        // 10 11 | 110 0 | 0 | 111000000000 101 | 10 00, then ones to the next byte.
        let bits = "1011110001110000000001011000";
        let mut bytes: Vec<u8> = Vec::new();
        let padded = format!("{bits:1<32}");
        for at in (0..padded.len()).step_by(8) {
            let byte = u8::from_str_radix(&padded[at..at + 8], 2).unwrap();
            bytes.push(byte);
            if byte == 0xff {
                bytes.push(0);
            }
        }
        bytes.extend([0xff, 0xd0, 0xff, 0, 0xff, 0xd9]);
        let mut scan = Scan::new(&bytes);
        let found: Vec<_> = (0..5).map(|_| scan.difference(&table).unwrap()).collect();
        assert_eq!(found, [3, -1, 0, 5, -3]);
        assert!(!scan.ran_out());
        scan.restart().unwrap();
        assert!(scan.difference(&table).is_none(), "no code is all ones");
        assert!(Scan::new(&bytes).restart().is_none(), "codes come first");
        let mut end = Scan::new(&[0xff, 0xd9]);
        assert_eq!(end.difference(&table), Some(0));
        assert!(end.ran_out());
    }

    #[test]
    fn tables_of_too_many_codes_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[0, 1, 2], true).is_none());
        counts[0] = 1;
        assert!(Table::new(&counts, &[16], false).is_none());
    }
}
