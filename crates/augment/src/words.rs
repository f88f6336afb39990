//! Words of a sequence are masked, and asked for: what BERT is trained on.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

/// What is chosen together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MaskUnit {
    /// Single tokens. Source: Devlin, Chang, Lee, Toutanova, "BERT" (2019).
    #[default]
    Token,
    /// All tokens of a word; where words start is the caller's to say. Source: the whole-word models of
    /// BERT's authors (2019).
    Word,
    /// Spans of whole words, where word starts are given, and of tokens otherwise. Their lengths are
    /// geometric with this probability of ending, given that they are at most `longest`: for 0.2 and
    /// 10 the mean is 3.8. Source: Joshi and others, "SpanBERT" (2020).
    Span {
        /// The probability that a span ends after each of its words.
        #[serde(default = "spanbert_end")]
        end: f64,
        /// In words.
        #[serde(default = "spanbert_longest")]
        longest: usize,
    },
}

fn spanbert_end() -> f64 {
    0.2
}

fn spanbert_longest() -> usize {
    10
}

/// Chooses tokens of a sequence for a model to predict, and hides most of them.
///
/// Of the tokens that are not special a share `share` is chosen, ⌊share·count⌋ or one more, at random
/// so that the mean is exact; with words and spans the last one chosen may exceed that. A chosen token
/// becomes `mask_token` with probability `masked`, a token uniform over `vocabulary` with probability
/// `random`, and stays what it is otherwise: BERT's 80, 10 and 10 %. Words and spans are of one kind,
/// all their tokens masked, random, or kept, as in SpanBERT. Special tokens (`special`, such as
/// `[CLS]`, `[SEP]` and padding) are never chosen, no span crosses one, and no token becomes one.
///
/// Draws are those of a stream, such as `Stream::new(seed, sample).operation(0)`: the result is a
/// function of (seed, epoch, sample), so that an epoch masks other words than the one before
/// (RoBERTa's "dynamic masking") and a resumed training the same ones.
///
/// ```
/// use evenkeel_augment::{Sample, Stream, WordMasking};
///
/// let masking: WordMasking = serde_json::from_str(
///     r#"{"mask_token": 103, "special": [0, 101, 102], "vocabulary": {"start": 999, "end": 30522}}"#,
/// )?;
/// let mut draws = Stream::new(42, Sample { epoch: 0, index: 7 }).operation(0);
/// let masked = masking.apply(&[101, 2054, 2003, 2023, 102, 0, 0], None, &mut draws)?;
/// assert_eq!(masked.tokens[0], 101);
/// assert_eq!(masked.targets[0], masking.ignore);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordMasking {
    /// The share of tokens that is to be predicted.
    #[serde(default = "bert_share")]
    pub share: f64,
    /// What is chosen together.
    #[serde(default)]
    pub unit: MaskUnit,
    /// The share of the chosen that is hidden.
    #[serde(default = "bert_masked")]
    pub masked: f64,
    /// The share of the chosen that becomes a random token.
    #[serde(default = "bert_random")]
    pub random: f64,
    /// What hides a token.
    pub mask_token: u32,
    /// Tokens that are never chosen.
    pub special: Vec<u32>,
    /// The tokens that a random one is of. Special ones among them are not drawn.
    pub vocabulary: std::ops::Range<u32>,
    /// The target where nothing is to be predicted: PyTorch's `ignore_index`.
    #[serde(default = "pytorch_ignore")]
    pub ignore: i64,
}

fn bert_share() -> f64 {
    0.15
}

fn bert_masked() -> f64 {
    0.8
}

fn bert_random() -> f64 {
    0.1
}

fn pytorch_ignore() -> i64 {
    -100
}

/// A sequence to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedWords {
    /// What the model is shown.
    pub tokens: Vec<u32>,
    /// What it is to predict: the token that was there, or `ignore`.
    pub targets: Vec<i64>,
}

/// Tokens chosen together, as a range of positions.
type Unit = std::ops::Range<usize>;

impl WordMasking {
    /// Whether these settings can be applied.
    ///
    /// # Errors
    /// The setting, what was found and what was expected.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("share", self.share),
            ("masked", self.masked),
            ("random", self.random),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{name}: expected 0 to 1, found {value}"));
            }
        }
        if self.masked + self.random > 1.0 {
            return Err(format!(
                "masked + random: expected at most 1, found {} + {}",
                self.masked, self.random
            ));
        }
        if let MaskUnit::Span { end, longest } = self.unit {
            if !(end > 0.0 && end <= 1.0) {
                return Err(format!("unit.end: expected above 0, up to 1, found {end}"));
            }
            if longest == 0 {
                return Err("unit.longest: expected at least 1, found 0".into());
            }
        }
        if self.random > 0.0 && !self.vocabulary.clone().any(|token| !self.is_special(token)) {
            return Err(format!(
                "vocabulary: expected a token that is not special to draw from, found {:?}",
                self.vocabulary
            ));
        }
        Ok(())
    }

    fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }

    /// Masks a sequence. `starts[i]` says whether token i begins a word: for whole words it must be
    /// given, for spans it may be.
    ///
    /// # Errors
    /// If [`check`](Self::check) says so, or the word starts are missing or of another length.
    pub fn apply(
        &self,
        tokens: &[u32],
        starts: Option<&[bool]>,
        draws: &mut Draws,
    ) -> Result<MaskedWords, String> {
        self.check()?;
        match (starts, self.unit) {
            (None, MaskUnit::Word) => {
                return Err(
                    "word starts: expected one for each token to choose whole words, \
                     found none"
                        .into(),
                );
            }
            (Some(starts), _) if starts.len() != tokens.len() => {
                return Err(format!(
                    "word starts: expected one for each of {} tokens, found {}",
                    tokens.len(),
                    starts.len()
                ));
            }
            _ => {}
        }
        let starts = starts.filter(|_| self.unit != MaskUnit::Token);
        let words = self.words(tokens, starts);
        let mut masked = MaskedWords {
            tokens: tokens.to_vec(),
            targets: vec![self.ignore; tokens.len()],
        };
        let mut chosen = vec![false; tokens.len()];
        let count: usize = words.iter().map(Unit::len).sum();
        let wanted = self.share * count as f64;
        let mut budget = wanted as usize + usize::from(draws.chance(wanted.fract()));
        // In a random order; of spans, where they begin.
        let mut order: Vec<usize> = (0..words.len()).collect();
        draws.shuffle(&mut order);
        for first in order {
            if budget == 0 {
                break;
            }
            if chosen[words[first].start] {
                continue;
            }
            let unit = self.unit_from(&words[first..], budget, &chosen, draws);
            chosen[unit.clone()].fill(true);
            budget = budget.saturating_sub(unit.len());
            self.hide(unit, &mut masked, draws);
        }
        Ok(masked)
    }

    /// The words between special tokens; without `starts` each token is one.
    fn words(&self, tokens: &[u32], starts: Option<&[bool]>) -> Vec<Unit> {
        let mut words: Vec<Unit> = Vec::new();
        for (at, &token) in tokens.iter().enumerate() {
            if self.is_special(token) {
                continue;
            }
            let begins = starts.is_none_or(|starts| starts[at]);
            match words.last_mut() {
                Some(word) if !begins && word.end == at => word.end += 1,
                _ => words.push(at..at + 1),
            }
        }
        words
    }

    /// What is chosen together from the first of these words on: it ends before what is chosen already,
    /// at a special token, and where the budget does.
    fn unit_from(&self, words: &[Unit], budget: usize, chosen: &[bool], draws: &mut Draws) -> Unit {
        let mut unit = words[0].clone();
        if let MaskUnit::Span { end, longest } = self.unit {
            for word in &words[1..length(end, longest, draws).min(words.len())] {
                if word.start != unit.end || chosen[word.start] || unit.len() >= budget {
                    break;
                }
                unit.end = word.end;
            }
        }
        unit
    }

    fn hide(&self, unit: Unit, masked: &mut MaskedWords, draws: &mut Draws) {
        let draw = draws.uniform();
        for at in unit {
            let token = &mut masked.tokens[at];
            masked.targets[at] = i64::from(*token);
            if draw < self.masked {
                *token = self.mask_token;
            } else if draw < self.masked + self.random {
                *token = self.any_token(draws);
            }
        }
    }

    /// Uniform over the vocabulary without special tokens; `check` has found one.
    fn any_token(&self, draws: &mut Draws) -> u32 {
        let size = self.vocabulary.end - self.vocabulary.start;
        loop {
            let token = self.vocabulary.start + draws.below(size);
            if !self.is_special(token) {
                return token;
            }
        }
    }
}

/// Geometric from 1 on, given that it is at most `longest`: the distribution of drawing again where it
/// is longer, by inversion, so that one draw is enough.
fn length(end: f64, longest: usize, draws: &mut Draws) -> usize {
    let goes_on = 1.0 - end;
    let within = 1.0 - goes_on.powf(longest as f64);
    // P(length > l) = (1 − end)^l: the smallest l with 1 − (1 − end)^l > u·within.
    let target = draws.uniform() * within;
    let mut length = 1;
    let mut longer = goes_on;
    while 1.0 - longer <= target && length < longest {
        longer *= goes_on;
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Stream};
    use proptest::prelude::*;

    const SPECIAL: [u32; 3] = [0, 1, 2];
    const MASK: u32 = 3;

    fn masking(unit: MaskUnit) -> WordMasking {
        WordMasking {
            share: 0.15,
            unit,
            masked: 0.8,
            random: 0.1,
            mask_token: MASK,
            special: SPECIAL.into(),
            vocabulary: 0..20,
            ignore: -100,
        }
    }

    fn spans() -> MaskUnit {
        MaskUnit::Span {
            end: 0.2,
            longest: 10,
        }
    }

    fn draws(index: usize) -> Draws {
        Stream::new(1, Sample { epoch: 0, index }).operation(0)
    }

    fn chi_squared(counts: &[u32], expected: &[f64]) -> f64 {
        let terms = counts.iter().zip(expected);
        terms
            .map(|(&count, expected)| (f64::from(count) - expected).powi(2) / expected)
            .sum()
    }

    /// Tokens of 100 and more, so that random ones, below 20, are told from kept ones.
    fn sentence(len: u32) -> Vec<u32> {
        let mut tokens = vec![1];
        tokens.extend(100..100 + len);
        tokens.extend([2, 0, 0]);
        tokens
    }

    #[test]
    fn shares_of_chosen_masked_random_and_kept_are_berts() {
        let tokens = sentence(37);
        let (mut chosen, mut fate, mut randoms) = ([0_u32; 37], [0_u32; 3], [0_u32; 17]);
        let rounds = 8000;
        for index in 0..rounds {
            let masked = masking(MaskUnit::Token)
                .apply(&tokens, None, &mut draws(index))
                .unwrap();
            let mut count = 0;
            for at in 1..38 {
                if masked.targets[at] == -100 {
                    assert_eq!(masked.tokens[at], tokens[at]);
                    continue;
                }
                count += 1;
                assert_eq!(masked.targets[at], i64::from(tokens[at]));
                chosen[at - 1] += 1;
                match masked.tokens[at] {
                    token if token == tokens[at] => fate[2] += 1,
                    token => {
                        // The mask is also of the vocabulary.
                        fate[usize::from(token != MASK)] += 1;
                        randoms[token as usize - 3] += 1;
                    }
                }
            }
            // 0.15·37 = 5.55.
            assert!(count == 5 || count == 6, "{count}");
        }
        let total = f64::from(chosen.iter().sum::<u32>());
        let expected = 0.15 * 37.0 * rounds as f64;
        assert!(
            (total - expected).abs() < 4.0 * (0.25 * rounds as f64).sqrt(),
            "{total}"
        );
        // Once in a thousand: 36 degrees of freedom exceed 68.0, 2 exceed 13.8, 15 exceed 37.7. (What is
        // chosen without replacement varies less than the distribution has it.)
        assert!(
            chi_squared(&chosen, &[total / 37.0; 37]) < 68.0,
            "{chosen:?}"
        );
        let to_mask = 0.8 + 0.1 / 17.0;
        let shares = [to_mask, 0.1 * 16.0 / 17.0, 0.1].map(|share| share * total);
        assert!(chi_squared(&fate, &shares) < 13.8, "{fate:?}");
        let others = &randoms[1..];
        let mean = f64::from(others.iter().sum::<u32>()) / 16.0;
        assert!(chi_squared(others, &[mean; 16]) < 37.7, "{randoms:?}");
    }

    #[test]
    fn lengths_of_spans_are_geometric() {
        let mut counts = [0_u32; 10];
        let mut draws = draws(0);
        for _ in 0..50_000 {
            counts[length(0.2, 10, &mut draws) - 1] += 1;
        }
        let within = 1.0 - 0.8_f64.powi(10);
        let expected: Vec<f64> = (0..10)
            .map(|l| 50_000.0 * 0.2 * 0.8_f64.powi(l) / within)
            .collect();
        // 9 degrees of freedom exceed 27.9 once in a thousand.
        assert!(chi_squared(&counts, &expected) < 27.9, "{counts:?}");
        assert!((0..100).all(|_| length(1.0, 10, &mut draws) == 1));
    }

    /// The positions asked for, as runs.
    fn runs(masked: &MaskedWords) -> Vec<Unit> {
        let mut runs: Vec<Unit> = Vec::new();
        for at in (0..masked.targets.len()).filter(|&at| masked.targets[at] != -100) {
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                _ => runs.push(at..at + 1),
            }
        }
        runs
    }

    #[test]
    fn spans_are_longer_than_single_tokens_and_of_one_kind() {
        let tokens = sentence(200);
        let mean = |unit: MaskUnit| {
            let all: Vec<_> = (0..200)
                .flat_map(|index| {
                    runs(
                        &masking(unit)
                            .apply(&tokens, None, &mut draws(index))
                            .unwrap(),
                    )
                })
                .collect();
            all.iter().map(Unit::len).sum::<usize>() as f64 / all.len() as f64
        };
        let (single, span) = (mean(MaskUnit::Token), mean(spans()));
        // A neighbour is chosen too with probability 0.15; spans are of 3.8, cut short or joined at times.
        assert!((1.1..1.25).contains(&single), "{single}");
        assert!((3.2..4.6).contains(&span), "{span}");
        let (mut kinds, mut draws) = ([0; 3], draws(0));
        for _ in 0..300 {
            let mut masked = MaskedWords {
                tokens: tokens.clone(),
                targets: vec![-100; tokens.len()],
            };
            masking(spans()).hide(10..20, &mut masked, &mut draws);
            assert!(runs(&masked).into_iter().eq(std::iter::once(10..20)));
            // All masked, all random (each for itself), or all kept.
            let hidden = &masked.tokens[10..20];
            let kind = match hidden[0] {
                token if token >= 100 => 2,
                _ if hidden.iter().all(|&token| token == MASK) => 0,
                _ => 1,
            };
            assert!(hidden.iter().all(|&token| (token >= 100) == (kind == 2)));
            kinds[kind] += 1;
        }
        // 2 degrees of freedom exceed 13.8 once in a thousand.
        assert!(
            chi_squared(&kinds, &[240.0, 30.0, 30.0]) < 13.8,
            "{kinds:?}"
        );
    }

    #[test]
    fn words_are_chosen_whole() {
        let tokens = sentence(60);
        // Words of 1, 2, 3, 1, 2, 3 ... tokens.
        let starts: Vec<bool> = (0..tokens.len())
            .map(|at| matches!((at + 5) % 6, 0 | 1 | 3))
            .collect();
        let word_of = |at: usize| (0..=at).rev().find(|&at| starts[at]).unwrap();
        for unit in [MaskUnit::Word, spans()] {
            let masking = masking(unit);
            for index in 0..300 {
                let masked = masking
                    .apply(&tokens, Some(&starts), &mut draws(index))
                    .unwrap();
                for at in 2..=60 {
                    if word_of(at) == word_of(at - 1) {
                        let asked = |at: usize| masked.targets[at] != -100;
                        assert_eq!(asked(at), asked(at - 1), "{unit:?} {at}");
                    }
                }
                // 0.15·60 = 9; a word more than 3 tokens is none.
                let count = runs(&masked).iter().map(Unit::len).sum::<usize>();
                assert!((9..=11).contains(&count), "{count}");
            }
        }
        let told = masking(MaskUnit::Word)
            .apply(&tokens, None, &mut draws(0))
            .unwrap_err();
        assert!(told.contains("to choose whole words, found none"), "{told}");
        let told = masking(spans())
            .apply(&tokens, Some(&[true]), &mut draws(0))
            .unwrap_err();
        assert!(
            told.contains("expected one for each of 64 tokens, found 1"),
            "{told}"
        );
    }

    /// Pins the draws: a change here changes every training.
    #[test]
    fn is_a_function_of_seed_epoch_and_sample() {
        let tokens = sentence(30);
        let of = |seed, epoch, index| {
            let mut draws = Stream::new(seed, Sample { epoch, index }).operation(0);
            masking(MaskUnit::Token)
                .apply(&tokens, None, &mut draws)
                .unwrap()
        };
        let first = of(1, 0, 0);
        assert_eq!(first, of(1, 0, 0));
        for other in [of(2, 0, 0), of(1, 1, 0), of(1, 0, 1)] {
            assert_ne!(first, other);
        }
        let asked: Vec<usize> = (0..34).filter(|&at| first.targets[at] != -100).collect();
        assert_eq!(asked, PINNED);
    }

    const PINNED: [usize; 4] = [14, 18, 24, 30];

    proptest! {
        #[test]
        fn special_tokens_are_left_alone(
            tokens in prop::collection::vec(0..8_u32, 0..60),
            share in 0.0..=1.0_f64,
            kind in 0..3,
            index: u16,
        ) {
            let unit = [MaskUnit::Token, MaskUnit::Word, spans()][kind as usize];
            let masking = WordMasking { share, masked: 0.3, random: 0.5, ..masking(unit) };
            let starts: Vec<bool> = tokens.iter().map(|token| token % 2 == 0).collect();
            let masked = masking.apply(&tokens, Some(&starts), &mut draws(index.into())).unwrap();
            let mut count = 0;
            for (at, &token) in tokens.iter().enumerate() {
                if SPECIAL.contains(&token) {
                    prop_assert_eq!((masked.tokens[at], masked.targets[at]), (token, -100));
                } else {
                    prop_assert!(!SPECIAL.contains(&masked.tokens[at]));
                    count += 1;
                }
                if masked.targets[at] == -100 {
                    prop_assert_eq!(masked.tokens[at], token);
                } else {
                    prop_assert_eq!(masked.targets[at], i64::from(token));
                }
            }
            let asked = masked.targets.iter().filter(|&&target| target != -100).count();
            prop_assert!(asked >= (share * f64::from(count)) as usize);
        }
    }

    #[test]
    fn nothing_and_everything() {
        let tokens = sentence(10);
        let of = |share| WordMasking {
            share,
            masked: 1.0,
            random: 0.0,
            ..masking(MaskUnit::Token)
        };
        let none = of(0.0).apply(&tokens, None, &mut draws(0)).unwrap();
        assert_eq!(
            (none.tokens, none.targets),
            (tokens.clone(), vec![-100; 14])
        );
        let all = of(1.0).apply(&tokens, None, &mut draws(0)).unwrap();
        assert_eq!(all.tokens[1..11], [MASK; 10]);
        assert_eq!(all.tokens[11..], [2, 0, 0]);
        let empty = of(1.0).apply(&[], None, &mut draws(0)).unwrap();
        assert!(empty.tokens.is_empty() && empty.targets.is_empty());
    }

    #[test]
    fn impossible_settings_are_refused() {
        let good = masking(MaskUnit::Token);
        let bad_spans = |end, longest| masking(MaskUnit::Span { end, longest });
        let refusals = [
            (
                WordMasking {
                    share: 1.5,
                    ..good.clone()
                },
                "share: expected 0 to 1, found 1.5",
            ),
            (
                WordMasking {
                    masked: f64::NAN,
                    ..good.clone()
                },
                "masked: expected 0 to 1, found NaN",
            ),
            (
                WordMasking {
                    random: 0.3,
                    ..good.clone()
                },
                "masked + random: expected at most 1, found 0.8 + 0.3",
            ),
            (
                bad_spans(0.0, 3),
                "unit.end: expected above 0, up to 1, found 0",
            ),
            (
                bad_spans(0.2, 0),
                "unit.longest: expected at least 1, found 0",
            ),
            (
                WordMasking {
                    vocabulary: 0..3,
                    ..good.clone()
                },
                "vocabulary: expected a token that is not special",
            ),
            (
                WordMasking {
                    vocabulary: 7..7,
                    ..good
                },
                "found 7..7",
            ),
        ];
        for (masking, problem) in refusals {
            let told = masking.apply(&[5], None, &mut draws(0)).unwrap_err();
            assert!(told.contains(problem), "{told}");
        }
    }

    #[test]
    fn settings_are_read_with_berts_defaults() {
        let text = "mask_token = 3\nspecial = [0, 1, 2]\nvocabulary = { start = 0, end = 20 }\n";
        assert_eq!(
            toml::from_str::<WordMasking>(text).unwrap(),
            masking(MaskUnit::Token)
        );
        let spans_text = format!("{text}unit = {{ kind = \"span\" }}\n");
        assert_eq!(
            toml::from_str::<WordMasking>(&spans_text).unwrap(),
            masking(spans())
        );
        let masking = masking(MaskUnit::Word);
        let written = toml::to_string(&masking).unwrap();
        assert_eq!(toml::from_str::<WordMasking>(&written).unwrap(), masking);
        assert!(toml::from_str::<WordMasking>(&format!("{text}shares = 1")).is_err());
    }
}
