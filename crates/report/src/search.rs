//! A search as a page: what it says, the score over the candidates, the operations as pictures, the comparison.

use std::fmt::Write;

use evenkeel_record::{Estimate, FoundOperation, Search, p_in_words};

use crate::canvas::Role;
use crate::comparison::{sections, signed};
use crate::html::{document, duration, escape, grouped, percent};
use crate::picture::image;
use crate::plot::{Plot, Series};

/// The whole file.
pub fn render(search: &Search) -> String {
    let mut body = String::new();
    let _ = write!(
        body,
        "<header><h1>Search: {}</h1><p>{}, scored on {} · seed {} · Evenkeel {}</p></header>",
        escape(&search.source),
        escape(&search.method),
        match &search.validation {
            Some(validation) => escape(validation),
            None => "held-out training images".into(),
        },
        search.seed,
        escape(&search.version),
    );
    verdict(&mut body, search);
    scores(&mut body, search);
    operations(&mut body, search);
    harms(&mut body, search);
    match &search.comparison {
        Some(comparison) => sections(&mut body, comparison),
        None => body.push_str(
            "<h2>Comparison</h2><p class=\"quiet\">The policy was not trained with from scratch yet.</p>\
             <footer>Made by Evenkeel. Train with noise; test with its average.</footer>",
        ),
    }
    document(&format!("Evenkeel search: {}", search.source), &body)
}

fn verdict(body: &mut String, search: &Search) {
    let mut facts = vec![
        ("use", escape(&search.recommended)),
        ("candidates", grouped(search.candidates.len() as u64)),
        ("trials", grouped(search.trials)),
        (
            "time of the search",
            format!(
                "{} of {}",
                duration(search.seconds),
                duration(search.budget_seconds as f64)
            ),
        ),
    ];
    if let (Some(scoring), Some(training)) = (search.scoring_seconds, search.training_seconds)
        && search.lower_is_better
    {
        facts.push((
            "scoring against training",
            format!("{:.0}× cheaper", training / scoring),
        ));
    }
    let facts: String = facts
        .into_iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"))
        .collect();
    let _ = write!(
        body,
        "<p class=\"note\" role=\"status\">{}</p><div class=\"card\"><dl class=\"facts\">{facts}</dl></div>",
        escape(&search.verdict)
    );
    if !search.differences.is_empty() {
        body.push_str(
            "<h2>The policy found against each</h2><p>Accuracy of the policy found less that of the other, over pairs of \
             runs of one seed.</p><div class=\"card scroll\"><table class=\"figures\"><thead><tr><th \
             scope=\"col\">against</th><th scope=\"col\">difference, points</th><th scope=\"col\">95\u{a0}% \
             interval</th><th scope=\"col\">p</th></tr></thead><tbody>",
        );
        for difference in &search.differences {
            let _ = write!(
                body,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&difference.baseline),
                signed(100.0 * difference.accuracy.value),
                range(difference.accuracy, 100.0),
                difference.p_value.map_or_else(|| "–".into(), p_in_words),
            );
        }
        body.push_str("</tbody></table></div>");
    }
}

fn range(estimate: Estimate, unit: f64) -> String {
    estimate.interval.map_or_else(String::new, |interval| {
        format!(
            "{} to {}",
            signed(unit * interval.low),
            signed(unit * interval.high)
        )
    })
}

/// Each candidate's score, and the best so far.
fn scores(body: &mut String, search: &Search) {
    let (what, unit) = match (search.lower_is_better, &search.validation) {
        (true, None) => (
            "Loss of held-out images under a candidate, of each image its best view, less that without: below 0 is \
             better. Losses far above are cut off",
            (1.0, ""),
        ),
        (true, Some(_)) => (
            "The loss that a candidate takes from the validation images, by the worse of two judgments: of each image \
             its best view, by nets trained without the candidate; and what training with each of its operations alone \
             did. Below 0 is better; losses far above are cut off",
            (1.0, ""),
        ),
        (false, _) => (
            "Accuracy on held-out images of a training with a candidate",
            (100.0, " %"),
        ),
    };
    let points: Vec<(f64, f64)> = (1..)
        .map(f64::from)
        .zip(search.candidates.iter().map(|candidate| candidate.score))
        .collect();
    let better = |a: f64, b: f64| match search.lower_is_better {
        true => a.min(b),
        false => a.max(b),
    };
    let mut so_far = f64::NAN;
    let best: Vec<(f64, f64)> = points
        .iter()
        .map(|&(place, score)| {
            so_far = better(score, so_far);
            (place, so_far)
        })
        .collect();
    let without = match search.lower_is_better {
        true => 0.0,
        false => search.plain,
    };
    // What hurts, hurts without end; how much says nothing more.
    let worst = without - 3.0 * (best.last().map_or(0.0, |(_, best)| best - without));
    let shown: Vec<(f64, f64)> = points
        .iter()
        .map(|&(place, score)| match search.lower_is_better {
            true => (place, score.min(worst)),
            false => (place, score),
        })
        .collect();
    let ends = [points.first(), points.last()];
    let plain = ends
        .into_iter()
        .flatten()
        .map(|(place, _)| (*place, without));
    let plot = Plot {
        title: "Score over the candidates",
        x: "candidate",
        unit,
        series: vec![
            Series {
                name: "each",
                role: Role::Faint,
                points: shown,
            },
            Series {
                name: "best so far",
                role: Role::Test,
                points: best,
            },
            Series {
                name: "without",
                role: Role::Train,
                points: plain.collect(),
            },
        ],
        gap: false,
    };
    let _ = write!(
        body,
        "<h2>The search</h2><p>{what}.</p><div class=\"plots\">{}</div>",
        plot.render()
    );
    let mut order: Vec<_> = search.candidates.iter().collect();
    order.sort_by(|a, b| match search.lower_is_better {
        true => a.score.total_cmp(&b.score),
        false => b.score.total_cmp(&a.score),
    });
    body.push_str("<h3>The best candidates</h3><ol>");
    for candidate in order.into_iter().take(BEST) {
        let score = match search.lower_is_better {
            true => format!("{:+.4}", candidate.score).replace('-', "−"),
            false => percent(candidate.score),
        };
        let _ = write!(body, "<li><b>{score}</b> {}</li>", escape(&candidate.name));
    }
    body.push_str("</ol>");
}

const BEST: usize = 8;

fn operations(body: &mut String, search: &Search) {
    body.push_str("<h2>What was found</h2>");
    if search.operations.is_empty() && search.settings.is_empty() {
        body.push_str("<p>No policy that is better than none on held-out images.</p>");
        return;
    }
    if !search.settings.is_empty() {
        let codes = search
            .settings
            .iter()
            .map(|setting| format!("<code>{}</code>", escape(setting)));
        let _ = write!(
            body,
            "<p>Together with {}.</p>",
            codes.collect::<Vec<_>>().join(", ")
        );
    }
    if search.operations.is_empty() {
        return;
    }
    body.push_str(
        "<p>How often each operation is done to an image, at which mean strength, and what the candidates with it \
         scored less those without. First the image, then views under the operation alone.</p><div class=\"card\"><div \
         class=\"sheet\">",
    );
    for operation in &search.operations {
        let pictures = operation.original.iter().chain(&operation.views);
        let pictures: String = pictures
            .enumerate()
            .map(|(index, picture)| match index {
                0 => image(picture, "a training image"),
                _ => image(picture, &format!("the same under {}", operation.name)),
            })
            .collect();
        let _ = write!(
            body,
            "<div class=\"row\"><span>{}</span>{pictures}</div>",
            described(operation, search.lower_is_better)
        );
    }
    body.push_str("</div></div>");
}

fn described(operation: &FoundOperation, lower_is_better: bool) -> String {
    let strength = operation.strength.map_or_else(String::new, |s| {
        format!(", strength {:.0}\u{a0}%", 100.0 * s)
    });
    let gain = match (operation.gain.value.is_finite(), lower_is_better) {
        (false, _) => String::new(),
        (true, true) => format!(
            "<br>loss {}",
            format!("{:+.3}", operation.gain.value).replace('-', "−")
        ),
        (true, false) => format!("<br>{} points", signed(100.0 * operation.gain.value)),
    };
    format!(
        "<b>{}</b><br>{:.0}\u{a0}% of the views{strength}{gain}",
        escape(&operation.name.replace('_', " ")),
        100.0 * operation.share
    )
}

fn harms(body: &mut String, search: &Search) {
    body.push_str("<h2>Class safety</h2>");
    if search.harms.is_empty() {
        body.push_str(
            "<p>No operation of the space took more than 5 points of the accuracy of any class's held-out images beyond noise when it was \
             trained with.</p>",
        );
        return;
    }
    body.push_str(
        "<p>Trained with these operations, nets do worse on the plain held-out images that are of these classes or that are \
         taken for them, with each of three seeds: the operation makes them look like another class. It is not done to \
         them.</p><div class=\"card \
         scroll\"><table class=\"figures\"><thead><tr><th scope=\"col\">operation</th><th scope=\"col\" \
         class=\"words\">class</th><th scope=\"col\">change of accuracy, points</th><th scope=\"col\">95\u{a0}% \
         interval</th><th scope=\"col\">images</th><th scope=\"col\">left out</th></tr></thead><tbody>",
    );
    for harm in &search.harms {
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"words\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&harm.operation),
            escape(&harm.class),
            signed(100.0 * harm.difference.value),
            range(harm.difference, 100.0),
            grouped(harm.examples),
            match harm.altogether {
                true => "altogether",
                false => "for this class",
            }
        );
    }
    body.push_str("</tbody></table></div>");
}
