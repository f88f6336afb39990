//! Images or a table, divided into training and test.

use std::path::Path;
use std::sync::Arc;

use evenkeel_random::Key;

use super::{Error, Files, ImageOptions, Source, cifar, csv, fashion_mnist, files, idx, svhn};

/// Labelled data.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The source by name.
    pub name: String,
    /// The classes' names; labels are their indices.
    pub classes: Vec<String>,
    /// What an example is.
    pub kind: Kind,
    /// What is trained on.
    pub train: Split,
    /// What is evaluated on.
    pub test: Split,
    /// Whether `test` was held out of the training data instead of being the test data.
    pub held_out: bool,
    /// The images that could not be read, why, and what became of each: none but where it was asked for.
    pub unreadable: Vec<String>,
}

/// What an example is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// An 8-bit image, as the net sees it at test.
    Images {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// 1 (gray) or 3 (color).
        channels: usize,
    },
    /// A row of numbers.
    Table {
        /// The columns' names.
        columns: Vec<String>,
    },
}

impl Kind {
    /// The names of a table's columns; none for images.
    pub fn columns(&self) -> &[String] {
        match self {
            Self::Images { .. } => &[],
            Self::Table { columns } => columns,
        }
    }

    /// The shape of an example: channels, height, width; or columns.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Images {
                height,
                width,
                channels,
            } => vec![*channels, *height, *width],
            Self::Table { columns } => vec![columns.len()],
        }
    }
}

/// Some labelled examples.
#[derive(Clone, Debug)]
pub enum Split {
    /// Images in memory.
    Images(Images),
    /// Images in files.
    Files(Files),
    /// Rows.
    Table(Table),
}

/// Images, all of one size.
#[derive(Clone, Debug)]
pub struct Images {
    /// Bytes an image.
    pub bytes: usize,
    /// Image after image: rows of interleaved channels.
    pub pixels: Arc<[u8]>,
    /// A label each.
    pub labels: Arc<[u32]>,
}

/// Rows of numbers.
#[derive(Clone, Debug)]
pub struct Table {
    /// Numbers a row.
    pub columns: usize,
    /// Row after row.
    pub values: Arc<[f32]>,
    /// A label each.
    pub labels: Arc<[u32]>,
}

impl Split {
    /// How many examples.
    pub fn len(&self) -> usize {
        self.labels().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label of each.
    pub fn labels(&self) -> &[u32] {
        match self {
            Self::Images(images) => &images.labels,
            Self::Files(files) => &files.labels,
            Self::Table(table) => &table.labels,
        }
    }

    /// The same examples, class i renamed to `classes[i]`.
    #[must_use]
    pub fn relabelled(mut self, classes: &[u32]) -> Self {
        let (Self::Images(Images { labels, .. })
        | Self::Files(Files { labels, .. })
        | Self::Table(Table { labels, .. })) = &mut self;
        *labels = labels
            .iter()
            .map(|&label| classes[label as usize])
            .collect();
        self
    }

    /// The examples at these indices.
    pub fn subset(&self, indices: &[usize]) -> Self {
        let labels = indices.iter().map(|&i| self.labels()[i]).collect();
        match self {
            Self::Files(files) => Self::Files(files.subset(indices)),
            Self::Images(Images { bytes, pixels, .. }) => {
                let image = |&i: &usize| &pixels[i * bytes..][..*bytes];
                let pixels = indices.iter().flat_map(image).copied().collect();
                Self::Images(Images {
                    bytes: *bytes,
                    pixels,
                    labels,
                })
            }
            Self::Table(Table {
                columns, values, ..
            }) => {
                let row = |&i: &usize| &values[i * columns..][..*columns];
                let values = indices.iter().flat_map(row).copied().collect();
                Self::Table(Table {
                    columns: *columns,
                    values,
                    labels,
                })
            }
        }
    }
}

/// Chooses `share` of each class: a function of the labels and the seed. The indices chosen, and
/// the others, both in order.
pub(super) fn stratified(labels: &[u32], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let classes = labels.iter().max().map_or(0, |most| *most as usize + 1);
    let mut members = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        members[label as usize].push(i);
    }
    let mut is_chosen = vec![false; labels.len()];
    for (class, mut members) in (0..).zip(members) {
        let key = Key::from_seed(seed).child("stratified").at(class);
        key.draws().shuffle(&mut members);
        let chosen = (share * members.len() as f64).round() as usize;
        for &member in &members[..chosen.min(members.len())] {
            is_chosen[member] = true;
        }
    }
    (0..labels.len()).partition(|&i| is_chosen[i])
}

/// Chooses `count` examples, of each class in proportion (largest remainders; ties by class): a function of the
/// labels and the seed. The indices chosen, in order. With a larger count the same are chosen and more, but where
/// remainders fall otherwise.
fn stratified_count(labels: &[u32], count: usize, seed: u64) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |most| *most as usize + 1);
    let mut members = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        members[label as usize].push(i);
    }
    // ⌊count·members/all⌋ of each class, in whole numbers.
    let share = |members: &Vec<usize>| count as u128 * members.len() as u128;
    let all = labels.len().max(1) as u128;
    let mut chosen: Vec<usize> = members.iter().map(|m| (share(m) / all) as usize).collect();
    let mut order: Vec<usize> = (0..classes).collect();
    order.sort_by_key(|&class| std::cmp::Reverse(share(&members[class]) % all));
    let missing = count.min(labels.len()) - chosen.iter().sum::<usize>();
    for &class in &order[..missing] {
        chosen[class] += 1;
    }
    let mut indices = Vec::with_capacity(count);
    for ((class, mut members), chosen) in (0..).zip(members).zip(chosen) {
        let key = Key::from_seed(seed).child("part").at(class);
        key.draws().shuffle(&mut members);
        indices.extend_from_slice(&members[..chosen]);
    }
    indices.sort_unstable();
    indices
}

impl Dataset {
    /// Reads all of it; images in files are read for what is to be known of them, and must have one size.
    pub fn open(source: &Source) -> Result<Self, Error> {
        Self::open_with(source, &ImageOptions::default())
    }

    /// The same, with what to do with images in files.
    pub fn open_with(source: &Source, options: &ImageOptions) -> Result<Self, Error> {
        if !options.test.is_empty() && !matches!(source, Source::Files(_)) {
            return Err(Error::new(
                "augment.test",
                format!(
                    "brings images in files to one size; the examples of {source} have one, remove it"
                ),
            ));
        }
        match source {
            Source::Files(files) => files::open(files, options),
            Source::FashionMnist10k => fashion_mnist::embedded(),
            Source::FashionMnist => fashion_mnist::installed(Path::new(fashion_mnist::INSTALLED)),
            Source::Idx(folder) => idx::folder(folder, source.to_string()),
            Source::Cifar10(folder) => cifar::folder(folder, &cifar::CIFAR_10, source.to_string()),
            Source::Cifar100(folder) => {
                cifar::folder(folder, &cifar::CIFAR_100, source.to_string())
            }
            Source::Svhn(folder) => svhn::folder(folder, source.to_string()),
            Source::Csv {
                path,
                label,
                test,
                seed,
            } => csv::file(path, label, *test, *seed, source.to_string()),
        }
    }

    /// The training data divided into training and held-out data, which take the place of the test
    /// data: `share` of each class, the same for the same seed.
    pub fn hold_out(self, share: f64, seed: u64) -> Result<Self, Error> {
        let (held, kept) = stratified(self.train.labels(), share, seed);
        if held.is_empty() || kept.is_empty() {
            return Err(Error::new(
                &self.name,
                format!(
                    "data.validation = {share} leaves {} examples to train on and {} to \
                         evaluate on; expected some of both",
                    kept.len(),
                    held.len()
                ),
            ));
        }
        Ok(self.divided(&kept, &held))
    }

    /// The training data divided into `folds` parts, each with its share of every class, the same for the same
    /// seed; part `index` takes the place of the test data.
    ///
    /// # Errors
    /// If there is no such part, or nothing is left in it or beside it.
    pub fn fold(self, index: u64, folds: u64, seed: u64) -> Result<Self, Error> {
        let part = folds_of(self.train.labels(), folds, seed);
        let (held, kept): (Vec<usize>, Vec<usize>) =
            (0..part.len()).partition(|&i| part[i] == index);
        if index >= folds || held.is_empty() || kept.is_empty() {
            return Err(Error::new(
                &self.name,
                format!(
                    "fold {index} of {folds} leaves {} examples to train on and {} to evaluate on; expected some \
                     of both",
                    kept.len(),
                    held.len()
                ),
            ));
        }
        Ok(self.divided(&kept, &held))
    }

    /// The same training data, and these in the place of the test data.
    #[must_use]
    pub fn evaluated_on(self, test: Split) -> Self {
        Self {
            test,
            held_out: true,
            ..self
        }
    }

    /// The same data with `count` of the training examples, of each class in proportion, the same for the same
    /// seed.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn keep_train(self, count: usize, seed: u64) -> Result<Self, Error> {
        if count == 0 || count > self.train.len() {
            return Err(Error::new(
                &self.name,
                format!(
                    "data.train_examples = {count}, expected 1 to the {} training examples that there are",
                    self.train.len()
                ),
            ));
        }
        let kept = stratified_count(self.train.labels(), count, seed);
        let train = self.train.subset(&kept);
        Ok(Self { train, ..self })
    }

    fn divided(self, kept: &[usize], held: &[usize]) -> Self {
        Self {
            train: self.train.subset(kept),
            test: self.train.subset(held),
            held_out: true,
            ..self
        }
    }
}

/// The fold of each example: a function of the labels and the seed. The members of a class are dealt out in turn.
fn folds_of(labels: &[u32], folds: u64, seed: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    let key = Key::from_seed(seed).child("folds");
    key.draws().shuffle(&mut order);
    order.sort_by_key(|&i| labels[i]);
    let mut part = vec![0; labels.len()];
    for (turn, i) in (0_u64..).zip(order) {
        part[i] = turn % folds.max(1);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_divide_every_class_and_come_again() {
        let labels: Vec<u32> = (0..300).map(|i| u32::from(i % 3 == 0)).collect();
        let part = folds_of(&labels, 5, 7);
        for fold in 0..5 {
            let members: Vec<usize> = (0..300).filter(|&i| part[i] == fold).collect();
            let ones = members.iter().filter(|&&i| labels[i] == 1).count();
            assert_eq!((members.len(), ones), (60, 20));
        }
        assert_eq!(folds_of(&labels, 5, 7), part);
        assert_ne!(folds_of(&labels, 5, 8), part);

        let data = Dataset {
            name: "t".into(),
            classes: vec!["a".into(), "b".into()],
            kind: Kind::Table {
                columns: vec!["x".into()],
            },
            train: Split::Table(Table {
                columns: 1,
                values: (0..300).map(|i| i as f32).collect(),
                labels: labels.into(),
            }),
            test: Split::Table(Table {
                columns: 1,
                values: [-1.0].into(),
                labels: [0].into(),
            }),
            held_out: false,
            unreadable: Vec::new(),
        };
        let divided = data.clone().fold(2, 5, 7).unwrap();
        assert_eq!((divided.train.len(), divided.test.len()), (240, 60));
        assert!(divided.held_out);
        let Split::Table(test) = &divided.test else {
            unreachable!()
        };
        // Of the training data, all of it: nothing of the test data.
        assert!(test.values.iter().all(|&v| part[v as usize] == 2));
        for (index, folds) in [(5, 5), (0, 1), (0, 0)] {
            let error = data.clone().fold(index, folds, 7).unwrap_err().to_string();
            assert!(error.contains("expected some of both"), "{error}");
        }
    }

    #[test]
    fn holding_out_is_stratified_and_repeatable() {
        let labels: Vec<u32> = (0..300).map(|i| u32::from(i % 3 == 0)).collect();
        let (held, kept) = stratified(&labels, 0.2, 7);
        assert_eq!((held.len(), kept.len()), (60, 240));
        assert_eq!(held.iter().filter(|&&i| labels[i] == 1).count(), 20);
        assert_eq!(stratified(&labels, 0.2, 7).0, held);
        assert_ne!(stratified(&labels, 0.2, 8).0, held);
        // Pinned: recipes are chosen on what this holds out.
        assert_eq!(held[..8], [2, 11, 15, 16, 21, 25, 29, 34]);
    }

    #[test]
    fn a_part_is_stratified_exact_and_repeatable() {
        // 100 of class 1, 198 of class 0, 2 of class 2.
        let labels: Vec<u32> = (0..300)
            .map(|i| if i < 2 { 2 } else { u32::from(i % 3 == 0) })
            .collect();
        let of = |indices: &[usize], class| indices.iter().filter(|&&i| labels[i] == class).count();
        let all = [0, 1, 2].map(|class| labels.iter().filter(|&&label| label == class).count());
        for count in 1..=300 {
            let kept = stratified_count(&labels, count, 7);
            assert_eq!(kept.len(), count);
            assert!(kept.is_sorted_by(|a, b| a < b));
            for class in 0..3 {
                let exact = (count * all[class as usize]) as f64 / 300.0;
                let found = of(&kept, class) as f64;
                assert!((found - exact).abs() < 1.0, "{count}: {found} of {exact}");
            }
        }
        let kept = stratified_count(&labels, 30, 7);
        assert_eq!(kept, stratified_count(&labels, 30, 7));
        assert_ne!(kept, stratified_count(&labels, 30, 8));
        // Of classes 0 and 1, whose shares are whole numbers in both, more are the same and others.
        let more = stratified_count(&labels, 300 / 2, 7);
        let within = kept.iter().filter(|i| more.contains(i)).count();
        assert!(within >= 29, "{within}");
    }
}
