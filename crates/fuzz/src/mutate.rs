//! Bytes that differ a little from good ones.

use evenkeel_random::Key;

/// Numbers that lie about lengths.
const EDGES: [u32; 8] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/// A change of one of these, a function of the seed and the number: bits flipped, numbers at their edges, parts
/// removed, doubled or taken of another, digits and letters put in.
pub fn mutate(corpus: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut draws = Key::from_seed(seed).child("mutate").at(number).draws();
    let mut below =
        |most: usize| draws.below(u32::try_from(most.max(1)).unwrap_or(u32::MAX)) as usize;
    let mut bytes = corpus[below(corpus.len())].clone();
    for _ in 0..1 + below(6) {
        let at = below(bytes.len());
        let length = 1 + below(64);
        let end = (at + length).min(bytes.len());
        match below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
            1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
            kind @ (2 | 3) if !bytes.is_empty() => {
                let edge = EDGES[below(EDGES.len())];
                let number = if kind == 2 {
                    edge.to_le_bytes()
                } else {
                    edge.to_be_bytes()
                };
                for (byte, edge) in bytes[at..].iter_mut().zip(number) {
                    *byte = edge;
                }
            }
            4 => drop(bytes.drain(at..end)),
            5 => bytes.truncate(at),
            6 => {
                let part = bytes[at..end].to_vec();
                let to = below(bytes.len());
                bytes.splice(to..to, part);
            }
            7 => {
                let other = &corpus[below(corpus.len())];
                let from = below(other.len());
                let part = other[from..].iter().take(length).copied();
                let part: Vec<u8> = part.collect();
                bytes.splice(at..end, part);
            }
            _ => bytes.insert(at.min(bytes.len()), b"0123456789-.eE\"{}[],:\n"[below(22)]),
        }
    }
    bytes
}
