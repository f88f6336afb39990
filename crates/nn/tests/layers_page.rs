//! `LAYERS.md`: each layer's documentation as it is in the code, with what `layers_page.toml` adds.
//!
//! This test makes the page and fails where it is not current; with `EVENKEEL_WRITE_LAYERS=1` it writes it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    layer: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    name: String,
    source: String,
    bytes: String,
    pytorch: String,
    keras: String,
    burn: String,
}

fn crate_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> Page {
    toml::from_str(include_str!("layers_page.toml")).expect("layers of the page")
}

/// The lines of the doc comment that ends right above the attributes of the item at `line`.
fn doc_above<'a>(lines: &[&'a str], line: usize) -> Vec<&'a str> {
    let above = lines[..line].iter().rev();
    let doc = above
        .skip_while(|line| line.starts_with("#["))
        .take_while(|line| line.starts_with("///"));
    let mut doc: Vec<&str> = doc
        .map(|line| line.trim_start_matches("///").trim_start_matches(' '))
        .collect();
    doc.reverse();
    doc
}

/// The doc comment, and the shapes that the forward's says.
fn documentation(layer: &Layer) -> (String, String) {
    let path = crate_folder().join("src").join(&layer.source);
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let lines: Vec<&str> = source.lines().collect();
    let find = |from: usize, start: &str, next: &[&str]| {
        let found = lines[from..].iter().position(|line| {
            let rest = line.strip_prefix(start);
            rest.is_some_and(|rest| next.iter().any(|next| rest.starts_with(next)))
        });
        found
            .map(|found| from + found)
            .unwrap_or_else(|| panic!("{path:?}: no `{start}`"))
    };
    let doc = doc_above(
        &lines,
        find(0, &format!("pub struct {}", layer.name), &[" {", ";"]),
    );
    assert!(!doc.is_empty(), "{} has no documentation", layer.name);
    let body = find(0, &format!("impl {} {{", layer.name), &[""]);
    let forward = find(body, "    pub fn forward", &["(", "<"]);
    let unindented: Vec<&str> = lines[..forward]
        .iter()
        .map(|line| line.trim_start())
        .collect();
    let forward = doc_above(&unindented, forward).join("\n");
    let shapes = forward.split("# Panics").next().unwrap_or_default().trim();
    (plain(&doc.join("\n")), plain(shapes))
}

/// Without what only rustdoc understands: links to items, escaped brackets, headings of its own rank.
fn plain(doc: &str) -> String {
    let mut text = doc
        .replace("\\[", "[")
        .replace("\\]", "]")
        .replace("# ", "#### ");
    // [`Item`](target), [`Item`] and [words](Item) become what they show.
    while let Some((start, end, shown)) = next_link(&text) {
        text.replace_range(start..end, &shown);
    }
    text
}

fn next_link(text: &str) -> Option<(usize, usize, String)> {
    let mut from = 0;
    while let Some(start) = text[from..].find('[').map(|at| from + at) {
        let close = start + text[start..].find(']')?;
        let shown = &text[start + 1..close];
        let target = text[close + 1..].starts_with('(').then(|| {
            let end = close + 1 + text[close + 1..].find(')').expect("a target that ends");
            (end, &text[close + 2..end])
        });
        match target {
            Some((end, target)) if !target.starts_with("http") => {
                return Some((start, end + 1, shown.to_owned()));
            }
            None if shown.starts_with('`') && shown.ends_with('`') && !shown.contains(' ') => {
                return Some((start, close + 1, shown.to_owned()));
            }
            _ => from = start + 1,
        }
    }
    None
}

fn write_page() -> String {
    let mut text = String::from(
        "# Layers\n\nEach layer's formula, behaviour in training and at test, and source, as its documentation \
         has them; the bytes it moves on the CPU for each element of f32; and how others differ. Made by \
         `EVENKEEL_WRITE_LAYERS=1 cargo test --release --workspace --test layers_page`.\n",
    );
    for layer in page().layer {
        let (doc, forward) = documentation(&layer);
        let Layer {
            name,
            bytes,
            pytorch,
            keras,
            burn,
            ..
        } = layer;
        write!(
            text,
            "\n## {name}\n\n{doc}\n\n{forward}\n\n| | |\n|---|---|\n| bytes an element | {bytes} |\n\
             | PyTorch | {pytorch} |\n| Keras | {keras} |\n| Burn | {burn} |\n"
        )
        .expect("a string takes all");
    }
    text
}

#[test]
fn the_page_is_current() {
    let path = crate_folder().join("LAYERS.md");
    let page = write_page();
    if std::env::var_os("EVENKEEL_WRITE_LAYERS").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "LAYERS.md is not current: run this test with EVENKEEL_WRITE_LAYERS=1"
    );
}

/// Every layer whose forward differs from another's is on the page: each public `XConfig` has an X.
#[test]
fn no_layer_is_missing() {
    fn collect(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, names);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            let configs = text
                .lines()
                .filter_map(|line| line.strip_prefix("pub struct "))
                .filter_map(|rest| rest.split([' ', '{', ';']).next())
                .filter_map(|name| name.strip_suffix("Config"));
            names.extend(configs.map(str::to_owned));
        }
    }
    let mut layers = BTreeSet::from(["GlobalAvgPool".to_owned()]);
    collect(&crate_folder().join("src"), &mut layers);
    let on_page: BTreeSet<_> = page().layer.into_iter().map(|layer| layer.name).collect();
    assert_eq!(on_page, layers);
}
