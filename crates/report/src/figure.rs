//! A plot on a card with its caption and legend.

use crate::canvas::{Failure, Role};
use crate::html::escape;

/// The card; it says so where a picture could not be drawn.
pub fn card(title: &str, legend: &[(Role, &str)], picture: Result<String, Failure>) -> String {
    let keys: String = legend
        .iter()
        .map(|(role, name)| {
            format!(
                "<span class=\"key {}\"><i></i>{}</span>",
                role.class(),
                escape(name)
            )
        })
        .collect();
    let legend = match keys.is_empty() {
        true => keys,
        false => format!("<span class=\"legend\">{keys}</span>"),
    };
    match picture {
        Ok(svg) => format!(
            "<figure class=\"card\"><figcaption>{}{legend}</figcaption>{svg}</figure>",
            escape(title)
        ),
        Err(error) => empty(title, &format!("nothing to draw: {error}")),
    }
}

/// A card without a picture.
pub fn empty(title: &str, why: &str) -> String {
    format!(
        "<figure class=\"card\"><figcaption>{}</figcaption><p class=\"quiet\">{}</p></figure>",
        escape(title),
        escape(why)
    )
}
