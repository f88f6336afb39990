//! Verses as numbers.

use std::collections::HashMap;

/// By genre, in an order that tells nothing of it: see `data/make.py`.
const VERSES: &str = include_str!("../data/verses.tsv");
/// The others are tested on.
const TRAIN: usize = 4500;
/// Rarer words are one.
const LEAST: usize = 2;

/// What fills a verse up to the length of the longest, and what hides a word: it adds nothing to the mean.
pub const NOTHING: u32 = 0;
const RARE: u32 = 1;

/// A verse.
#[derive(Clone)]
pub struct Verse {
    /// Its words.
    pub words: Vec<u32>,
    /// Its genre.
    pub genre: u32,
}

/// All of them.
pub struct Text {
    pub train: Vec<Verse>,
    pub test: Vec<Verse>,
    /// How many words there are, with the two that are none.
    pub words: usize,
    pub genres: usize,
}

/// Reads the verses; words are numbered as the training verses have them.
pub fn read() -> Text {
    let lines: Vec<(&str, Vec<String>)> = VERSES
        .lines()
        .map(|line| {
            let (genre, verse) = line.split_once('\t').expect("a genre and a verse");
            let words = verse.split(|c: char| !c.is_ascii_alphabetic() && c != '\'');
            let words = words.filter(|word| !word.is_empty());
            (genre, words.map(str::to_ascii_lowercase).collect())
        })
        .collect();
    let mut genres: Vec<&str> = lines.iter().map(|(genre, _)| *genre).collect();
    genres.sort_unstable();
    genres.dedup();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in lines[..TRAIN].iter().flat_map(|(_, words)| words) {
        *counts.entry(word).or_default() += 1;
    }
    let mut known: Vec<&str> = counts
        .into_iter()
        .filter(|(_, count)| *count >= LEAST)
        .map(|(word, _)| word)
        .collect();
    known.sort_unstable();
    let numbers: HashMap<&str, u32> = known.into_iter().zip(RARE + 1..).collect();
    let verses: Vec<Verse> = lines
        .iter()
        .map(|(genre, words)| Verse {
            words: words
                .iter()
                .map(|word| numbers.get(&**word).copied().unwrap_or(RARE))
                .collect(),
            genre: genres.binary_search(genre).expect("a genre") as u32,
        })
        .collect();
    Text {
        train: verses[..TRAIN].to_vec(),
        test: verses[TRAIN..].to_vec(),
        words: numbers.len() + 2,
        genres: genres.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verses_are_divided_and_numbered_by_the_training_part() {
        let text = read();
        assert_eq!((text.train.len(), text.test.len()), (TRAIN, 1500));
        assert_eq!(text.genres, 6);
        for verse in text.train.iter().chain(&text.test) {
            assert!(verse.words.len() >= 8 && (verse.genre as usize) < text.genres);
            assert!(
                verse
                    .words
                    .iter()
                    .all(|&word| word >= RARE && (word as usize) < text.words)
            );
        }
        // Every known word comes twice and more in training; some of the test's are not known.
        let mut counts = vec![0; text.words];
        for &word in text.train.iter().flat_map(|verse| &verse.words) {
            counts[word as usize] += 1;
        }
        assert!(counts[NOTHING as usize] == 0 && counts[2..].iter().all(|count| *count >= LEAST));
        assert!(text.test.iter().any(|verse| verse.words.contains(&RARE)));
    }
}
