//! The confusion matrix as a table of shades.

use std::fmt::Write;

use crate::html::escape;

/// More classes than this would be a table that nobody reads: the most confused pairs are listed.
const MOST_CLASSES: usize = 24;
const MOST_PAIRS: usize = 12;

pub fn render(classes: &[String], confusion: &[Vec<u64>]) -> String {
    if classes.len() > MOST_CLASSES {
        return pairs(classes, confusion);
    }
    let mut table = String::from(
        "<div class=\"scroll\"><table class=\"confusion\"><thead><tr><th scope=\"col\">true \\ predicted</th>",
    );
    for class in classes {
        let class = escape(class);
        let _ = write!(table, "<th scope=\"col\"><span>{class}</span></th>");
    }
    table.push_str("<th scope=\"col\"><span>recall</span></th></tr></thead><tbody>");
    for (truth, (class, row)) in classes.iter().zip(confusion).enumerate() {
        let total: u64 = row.iter().sum();
        let _ = write!(table, "<tr><th scope=\"row\">{}</th>", escape(class));
        for (predicted, &count) in row.iter().enumerate() {
            let share = count as f64 / total.max(1) as f64;
            let kind = if truth == predicted { "right" } else { "wrong" };
            // The square root, so that rare confusions are visible beside frequent ones.
            let shade = (100.0 * share.sqrt()).round();
            let text = if count == 0 {
                String::new()
            } else {
                count.to_string()
            };
            let strong = if shade > 62.0 { " strong" } else { "" };
            let _ = write!(
                table,
                "<td class=\"{kind}{strong}\" style=\"--s:{shade}%\">{text}</td>"
            );
        }
        let recall = row
            .get(truth)
            .map_or(0.0, |&right| 100.0 * right as f64 / total.max(1) as f64);
        let _ = write!(table, "<td class=\"recall\">{recall:.1}\u{a0}%</td></tr>");
    }
    table.push_str("</tbody></table></div>");
    table
}

fn pairs(classes: &[String], confusion: &[Vec<u64>]) -> String {
    let mut pairs: Vec<(u64, usize, usize)> = confusion
        .iter()
        .enumerate()
        .flat_map(|(truth, row)| {
            row.iter()
                .enumerate()
                .map(move |(predicted, &n)| (n, truth, predicted))
        })
        .filter(|(count, truth, predicted)| truth != predicted && *count > 0)
        .collect();
    pairs.sort_by_key(|(count, truth, predicted)| (std::cmp::Reverse(*count), *truth, *predicted));
    let items: String = pairs
        .iter()
        .take(MOST_PAIRS)
        .map(|&(count, truth, predicted)| {
            let name = |class: usize| classes.get(class).map_or("?".into(), |class| escape(class));
            format!(
                "<li>{} taken for {}: {count}</li>",
                name(truth),
                name(predicted)
            )
        })
        .collect();
    format!(
        "<p class=\"quiet\">{} classes; the most frequent confusions:</p><ol>{items}</ol>",
        classes.len()
    )
}
