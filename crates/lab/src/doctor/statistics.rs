//! Whether running statistics are those of the training's batches.

use evenkeel_nn::Pass;
use evenkeel_record::{Finding, Line, Severity};
use evenkeel_statistics::Sample;

use super::{Outcome, finding};
use crate::Error;
use crate::evaluate::batch_size;
use crate::probe::Subject;
use crate::probe::layers::{channel_moments, observe};
use crate::probe::norm_statistics::{Channel, NormStatistics, norm_statistics};
use crate::probe::score::{Scores, mean};
use crate::probe::subject::Batch;

/// Batches that the statistics are measured over.
const MOST_BATCHES: usize = 48;
const EXAMPLES: usize = 4096;
/// The momentum of the nets' norms: the share of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

const RECALIBRATE: &str = "recompute the statistics over the training data by one Pass::recalibrate() \
                           (or recalibrate_exactly) and save the model again";

pub(super) fn check(subject: &Subject) -> Result<Outcome, Error> {
    let averaged = subject.recipe.train.averages_weights();
    let batches = conditions(subject, averaged)?;
    let norms = norm_statistics(&subject.model, &batches, |step| {
        if averaged {
            Pass::recalibrate()
        } else {
            subject.fresh_pass(step)
        }
    });
    if norms.is_empty() {
        return Outcome::skipped("the net has no batch norms");
    }
    let cost = Cost::measure(subject, &batches, averaged);
    let found = counted(subject, &norms, averaged)
        .or_else(|| left_from_start(&norms, &cost))
        .or_else(|| scattered(&norms, &cost, averaged, settled(subject)))
        .or_else(|| biased(&norms));
    Ok(found.into())
}

/// The batches that running statistics are averages over: augmented ones, or, where the weights are
/// averaged, clean ones.
fn conditions(subject: &Subject, averaged: bool) -> Result<Vec<Batch>, Error> {
    if averaged {
        return subject.batches(&subject.clean(&subject.data.train, EXAMPLES));
    }
    let most = MOST_BATCHES.max(EXAMPLES / subject.recipe.train.batch_size);
    subject.batches(&subject.as_trained(subject.recipe.train.epochs, most.min(256)))
}

/// What the running statistics cost, against the batches' own.
struct Cost {
    by_running: Scores,
    by_batch: Scores,
}

impl Cost {
    fn measure(subject: &Subject, batches: &[Batch], averaged: bool) -> Self {
        let model = subject.model.clone();
        let seed = subject.recipe.seed;
        let pool = if averaged {
            Pass::recalibrate()
        } else {
            Pass::train(seed, subject.steps() + 1).pool_statistics()
        };
        for batch in batches {
            model.forward(batch.x.clone(), &pool);
        }
        let score = |model| crate::probe::score::scores(model, batches, |_| Pass::test());
        Self {
            by_running: score(&subject.model),
            by_batch: score(&model),
        }
    }

    /// By how much the loss falls with recomputed statistics, if that is beyond chance and worth telling.
    fn is_high(&self) -> bool {
        let pairs = self.by_running.losses.iter().zip(&self.by_batch.losses);
        let differences: Vec<f64> = pairs.map(|(running, batch)| running - batch).collect();
        let Some(sample) = Sample::of(&differences) else {
            return true;
        };
        let error = sample.standard_error().unwrap_or(f64::INFINITY);
        sample.mean > 5.0 * error && sample.mean > 0.02 + 0.15 * self.by_batch.loss()
    }

    fn told(&self) -> String {
        format!(
            "loss on training images {:.4} by running statistics, {:.4} by recomputed ones (accuracy {:.1} \
             and {:.1} %)",
            self.by_running.loss(),
            self.by_batch.loss(),
            100.0 * self.by_running.accuracy(),
            100.0 * self.by_batch.accuracy()
        )
    }
}

/// Whether the weights hardly moved while the running statistics were made, the last 30 steps: by rates of at
/// most a tenth of the highest.
fn settled(subject: &Subject) -> bool {
    let rates = subject.metrics.iter().filter_map(|line| match line {
        Line::Step { learning_rate, .. } => Some(*learning_rate),
        Line::Epoch { .. } => None,
    });
    let rates: Vec<f64> = rates.collect();
    let highest = rates.iter().copied().fold(0.0, f64::max);
    rates.len() > 60
        && rates[rates.len() - 30..]
            .iter()
            .all(|rate| *rate <= 0.1 * highest)
}

/// The norms count their updates: as many as there were steps.
fn counted(subject: &Subject, norms: &[NormStatistics], averaged: bool) -> Option<Finding> {
    let untouched: Vec<_> = norms.iter().filter(|norm| norm.is_untouched()).collect();
    if let Some(first) = untouched.first() {
        return Some(finding(
            Severity::Error,
            "norm statistics",
            "running statistics were never updated",
            format!(
                "{} of {} batch norms, such as {}, have running means of exactly 0 and variances of 1",
                untouched.len(),
                norms.len(),
                first.path
            ),
            "training ran with frozen statistics, or updated a copy of the model",
            format!("train by Pass::train, which averages them in; {RECALIBRATE}"),
        ));
    }
    let steps = i64::try_from(subject.steps()).unwrap_or(i64::MAX);
    if averaged {
        return recalibrated(subject, norms);
    }
    let wrong = norms.iter().find(|norm| norm.tracked != steps)?;
    let (title, cause) = match wrong.tracked {
        tracked if tracked == 2 * steps => (
            "running statistics were updated twice a step",
            "a second forward of the same batch: checkpointing that recomputes activations, or a loss that \
             calls the net again",
        ),
        1 => (
            "running statistics come from one batch",
            "recalibration that saw one batch, or training passes that kept statistics after it",
        ),
        tracked if tracked > steps => (
            "running statistics were updated more often than there were steps",
            "evaluation or fine-tuning ran the norms in training mode, undoing what was frozen",
        ),
        _ => (
            "running statistics were updated less often than there were steps",
            "norms were frozen for a part of the training",
        ),
    };
    Some(finding(
        Severity::Error,
        "norm statistics",
        title,
        format!(
            "{} averaged {} batches in, the run took {steps} steps",
            wrong.path, wrong.tracked
        ),
        cause,
        format!(
            "use Pass::keep_statistics() or Pass::test() for every other forward; {RECALIBRATE}"
        ),
    ))
}

/// Averaged weights have statistics that were recomputed over the training data, in the batches of
/// evaluation.
fn recalibrated(subject: &Subject, norms: &[NormStatistics]) -> Option<Finding> {
    let examples = subject.data.train.len();
    let batches = examples.div_ceil(batch_size(examples)) as i64;
    let wrong = norms.iter().find(|norm| norm.tracked != batches)?;
    Some(finding(
        Severity::Error,
        "norm statistics",
        "averaged weights have statistics that are not theirs",
        format!(
            "{} averaged {} batches in; the training data, over which the statistics of averaged weights are \
             recomputed, are {batches}",
            wrong.path, wrong.tracked
        ),
        "statistics of the weights before averaging, or averages of such, were kept",
        RECALIBRATE,
    ))
}

/// Momentum too slow for the steps: a share of the start is left.
fn left_from_start(norms: &[NormStatistics], cost: &Cost) -> Option<Finding> {
    let shares: Vec<f64> = norms.iter().map(NormStatistics::share_of_start).collect();
    let share = mean(&shares);
    // In all norms alike, which chance does not do.
    let alike = shares.iter().all(|one| (one - share).abs() < 0.15);
    if share < 0.06 || !alike || !(cost.is_high() || share > 0.15) {
        return None;
    }
    Some(finding(
        if cost.is_high() {
            Severity::Error
        } else {
            Severity::Warning
        },
        "norm statistics",
        "running statistics still hold their start",
        format!(
            "{:.0} % of mean 0 and variance 1, which norms start with, are left in them ({}); {}",
            100.0 * share,
            listed(norms, &shares),
            cost.told()
        ),
        "too few steps for the norms' momentum",
        format!("train longer, let norms average faster, or {RECALIBRATE}"),
    ))
}

/// Statistics that are not the batches': stale, of other data, of a few examples.
fn scattered(
    norms: &[NormStatistics],
    cost: &Cost,
    averaged: bool,
    settled: bool,
) -> Option<Finding> {
    let scatter: Vec<f64> = norms.iter().map(NormStatistics::scatter).collect();
    let worst = norms
        .iter()
        .zip(&scatter)
        .max_by(|a, b| a.1.total_cmp(b.1))?;
    // As those of one batch do, where one batch's are far off.
    let few = settled && mean(&scatter) > 0.5 && worst.0.shift() > 0.1;
    if !(cost.is_high() || few) {
        return None;
    }
    let cause = if averaged {
        "statistics of other weights: averaged weights need statistics of their own"
    } else if (0.5..2.0).contains(&mean(&scatter)) {
        "they scatter as those of one batch do"
    } else {
        "they are of other weights, other data or other noise than the training's"
    };
    Some(finding(
        if cost.is_high() {
            Severity::Error
        } else {
            Severity::Warning
        },
        "norm statistics",
        "running statistics are not those of the training's batches",
        format!(
            "{}; worst in {}: means off by {:.2} deviations, variances by a factor of {:.2}; running means \
             scatter by {:.2} of a batch's variance, where {:.3} is expected",
            cost.told(),
            worst.0.path,
            worst.0.shift(),
            worst.0.log_ratio().exp(),
            worst.1,
            MOMENTUM / (2.0 - MOMENTUM),
        ),
        cause,
        RECALIBRATE,
    ))
}

/// Variances that are too small by (n − 1)/n, n the values of a channel in a batch.
fn biased(norms: &[NormStatistics]) -> Option<Finding> {
    let mut ratios = Vec::new();
    let mut expected = Vec::new();
    for norm in norms {
        if norm.values < 2.0 {
            continue;
        }
        let bias = ((norm.values - 1.0) / norm.values).ln();
        // Below that it costs nothing.
        if bias > -0.02 {
            continue;
        }
        ratios.extend(norm.of_channels(Channel::log_ratio));
        expected.push(bias);
    }
    let sample = Sample::of(&ratios)?;
    let expected = mean(&expected);
    let error = sample.standard_error()?;
    let near = (0.5..1.6).contains(&(sample.mean / expected));
    if !near || sample.mean.abs() < 4.0 * error {
        return None;
    }
    Some(finding(
        Severity::Warning,
        "norm statistics",
        "running variances are biased",
        format!(
            "over {} channels they are {:.3} of the batches' unbiased variances (standard error {:.3}); \
             (n − 1)/n is {:.3}",
            sample.count,
            sample.mean.exp(),
            error,
            expected.exp()
        ),
        "the biased variance was averaged in",
        format!("average the unbiased variance, as PyTorch does; {RECALIBRATE}"),
    ))
}

fn listed(norms: &[NormStatistics], values: &[f64]) -> String {
    let pairs = norms.iter().zip(values).take(6);
    let told = pairs.map(|(norm, value)| format!("{} {value:.2}", norm.path));
    told.collect::<Vec<_>>().join(", ")
}

/// Noise in front of a norm makes the variance that it sees in training another than at test.
pub(super) fn check_shift(subject: &Subject) -> Result<Outcome, Error> {
    if subject.recipe.model.dropout() == 0.0 {
        return Outcome::skipped("the net has no noise layers");
    }
    let batches = subject.batches(&subject.clean(&subject.data.train, 512))?;
    let mut worst: Option<(String, f64)> = None;
    for batch in batches.iter().take(1) {
        let see = |pass| observe(pass, |pass| subject.model.forward(batch.x.clone(), pass)).1;
        let quiet = see(Pass::test());
        let noisy = see(Pass::monte_carlo(subject.recipe.seed, 0));
        for (quiet, noisy) in quiet
            .iter()
            .zip(&noisy)
            .filter(|(q, _)| q.kind == "batch_norm")
        {
            let variances =
                |seen: &crate::probe::layers::Seen| channel_moments(&seen.input, &seen.shape);
            let pairs = variances(quiet).into_iter().zip(variances(noisy));
            let ratios: Vec<f64> = pairs
                .map(|((_, quiet), (_, noisy))| (noisy / quiet).ln())
                .filter(|ratio| ratio.is_finite())
                .collect();
            let ratio = mean(&ratios);
            if worst
                .as_ref()
                .is_none_or(|(_, most)| ratio.abs() > most.abs())
            {
                worst = Some((quiet.name.clone(), ratio));
            }
        }
    }
    let found = worst.filter(|(_, ratio)| ratio.abs() > 0.08).map(|(name, ratio)| {
        finding(
            Severity::Warning,
            "mode gap",
            "dropout stands before a batch norm",
            format!(
                "at {name} the variance is {:.2} times as large under noise as at test (geometric mean over \
                 the channels)",
                ratio.exp()
            ),
            "running statistics are collected under noise and used without it (Li and others, 2019)",
            "move dropout behind the last batch norm, use a norm without running statistics, or recalibrate \
             without noise (Pass::recalibrate())",
        )
    });
    Ok(found.into())
}
