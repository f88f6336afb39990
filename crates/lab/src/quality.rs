//! Accuracy, likelihood, Brier score and calibration of predictions, each with its interval.

use evenkeel_record::{Estimate, Quality, ReliabilityBin};
use evenkeel_statistics::{Bootstrap, Sample, bootstrap, wilson};

use crate::evaluate::{Measured, likelihood_loss, most_probable};

/// Bins of the calibration error: as many as in Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural
/// Networks" (2017).
const BINS: usize = 15;
const CONFIDENCE: f64 = 0.95;

/// One example: the probability of its most probable class, and whether that is the right one.
#[derive(Clone, Copy)]
struct Judged {
    confidence: f64,
    right: bool,
}

impl Judged {
    /// The bin of ](i)/15, (i + 1)/15] that the confidence is in.
    fn bin(self) -> usize {
        // A NaN is in the first.
        ((self.confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1
    }
}

/// Of what was measured.
pub(crate) fn quality(measured: &Measured) -> Quality {
    let Measured {
        probabilities,
        labels,
        confusion,
        ..
    } = measured;
    let classes = confusion.len().max(1);
    let rows = || probabilities.chunks_exact(classes).zip(labels);
    let judged: Vec<Judged> = rows()
        .map(|(row, &truth)| {
            let predicted = most_probable(row);
            Judged {
                confidence: row[predicted],
                right: predicted == truth as usize,
            }
        })
        .collect();
    let losses = rows().map(|(row, &truth)| likelihood_loss(row[truth as usize]));
    let briers = rows().map(|(row, &truth)| {
        let squares = row.iter().enumerate().map(|(class, p)| {
            let target = f64::from(u8::from(class == truth as usize));
            (p - target).powi(2)
        });
        squares.sum::<f64>()
    });
    let right = judged.iter().filter(|judged| judged.right).count() as u64;
    Quality {
        examples: judged.len() as u64,
        accuracy: share(right, judged.len() as u64),
        loss: mean(losses.collect()),
        brier: mean(briers.collect()),
        calibration_error: calibration_error(&judged),
        bins: bins(&judged),
    }
}

fn share(right: u64, all: u64) -> Estimate {
    let value = right as f64 / all.max(1) as f64;
    Estimate::new(value, (all > 0).then(|| wilson(right, all, CONFIDENCE)))
}

/// Of values of many examples.
pub(crate) fn mean(values: Vec<f64>) -> Estimate {
    match Sample::of(&values) {
        Some(sample) => Estimate::new(sample.mean, sample.interval(CONFIDENCE)),
        None => Estimate::new(f64::NAN, None),
    }
}

/// Σ over bins of n_b/n·|accuracy_b − confidence_b|, which is |Σ(right − confidence)| of each bin, over n.
fn calibration_error(judged: &[Judged]) -> Estimate {
    let gaps: Vec<(usize, f64)> = judged
        .iter()
        .map(|one| (one.bin(), f64::from(u8::from(one.right)) - one.confidence))
        .collect();
    let error = |indices: &[usize]| {
        let mut sums = [0.0; BINS];
        for &index in indices {
            let (bin, gap) = gaps[index];
            sums[bin] += gap;
        }
        sums.iter().map(|sum: &f64| sum.abs()).sum::<f64>() / indices.len() as f64
    };
    let all: Vec<usize> = (0..gaps.len()).collect();
    let options = Bootstrap {
        resamples: 1000,
        confidence: CONFIDENCE,
        ..Bootstrap::default()
    };
    Estimate::new(error(&all), bootstrap(gaps.len(), options, error))
}

fn bins(judged: &[Judged]) -> Vec<ReliabilityBin> {
    let bin = |index: usize| {
        let (low, high) = (index as f64 / BINS as f64, (index + 1) as f64 / BINS as f64);
        let inside: Vec<&Judged> = judged.iter().filter(|one| one.bin() == index).collect();
        let examples = inside.len() as u64;
        let right = inside.iter().filter(|one| one.right).count() as u64;
        let sum: f64 = inside.iter().map(|one| one.confidence).sum();
        ReliabilityBin {
            low,
            high,
            examples,
            confidence: match examples {
                0 => 0.5 * (low + high),
                n => sum / n as f64,
            },
            accuracy: share(right, examples),
        }
    };
    (0..BINS).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::measure;

    #[test]
    fn by_hand() {
        // Confidences 0.8 (right), 0.6 (wrong), 0.8 (wrong), 1 (right).
        let probabilities = vec![0.8, 0.2, 0.4, 0.6, 0.2, 0.8, 0.0, 1.0];
        let quality = quality(&measure(probabilities, vec![0, 0, 0, 1], 2));
        assert_eq!((quality.examples, quality.accuracy.value), (4, 0.5));
        let brier = (2.0 * 0.04 + 2.0 * 0.36 + 2.0 * 0.64 + 0.0) / 4.0;
        assert!((quality.brier.value - brier).abs() < 1e-12);
        let loss = -(0.8_f64.ln() + 0.4_f64.ln() + 0.2_f64.ln()) / 4.0;
        assert!((quality.loss.value - loss).abs() < 1e-12);
        // Of the bin of 0.8: |0.5 − 0.8|·2/4; of 0.6: 0.6/4; of 1: 0.
        let error = 0.3 * 2.0 / 4.0 + 0.6 / 4.0;
        assert!((quality.calibration_error.value - error).abs() < 1e-12);
        let filled: Vec<_> = quality.bins.iter().filter(|bin| bin.examples > 0).collect();
        // 12/15 is the upper end of the bin that holds it, whatever rounding says of 0.8·15.
        let examples: Vec<u64> = filled.iter().map(|bin| bin.examples).collect();
        assert_eq!(examples, [1, 2, 1]);
        assert_eq!((filled[2].low, filled[2].high), (14.0 / 15.0, 1.0));
        assert!(filled[1].accuracy.interval.unwrap().contains(0.5));
        assert_eq!(quality.bins.len(), BINS);
        assert_eq!(quality.bins[0].accuracy.interval, None);
    }

    #[test]
    fn a_calibrated_model_has_a_small_error_and_an_overconfident_one_has_not() {
        use evenkeel_random::Key;
        let mut draws = Key::from_seed(3).draws();
        let mut of = |sharpened: f64| {
            let (mut probabilities, mut labels) = (Vec::new(), Vec::new());
            for _ in 0..4000 {
                let p = draws.uniform();
                labels.push(u32::from(!draws.chance(p)));
                let (a, b) = (p.powf(sharpened), (1.0 - p).powf(sharpened));
                probabilities.extend([a / (a + b), b / (a + b)]);
            }
            quality(&measure(probabilities, labels, 2)).calibration_error
        };
        let (calibrated, sharpened) = (of(1.0), of(3.0));
        assert!(calibrated.value < 0.03, "{calibrated:?}");
        assert!(sharpened.interval.unwrap().low > 0.08, "{sharpened:?}");
    }

    #[test]
    fn nothing_and_no_numbers_are_no_panic() {
        let empty = quality(&measure(Vec::new(), Vec::new(), 2));
        assert_eq!((empty.examples, empty.accuracy.interval), (0, None));
        let nan = quality(&measure(vec![f64::NAN; 4], vec![0, 1], 2));
        assert!(nan.loss.value.is_nan() && nan.calibration_error.interval.is_none());
    }
}
