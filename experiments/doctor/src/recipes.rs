//! Sound recipes of many kinds, none with what is on the list of faults.

use std::path::Path;

use evenkeel_lab::Recipe;
use evenkeel_record::RunFolder;

use crate::faults::{CONVNET, MLP, clothes};
use crate::images::Clothes;
use crate::training::sound;

/// A recipe by name: a base and what is changed in it.
pub struct Sound {
    pub name: &'static str,
    base: &'static str,
    settings: &'static [&'static str],
}

const fn convnet(name: &'static str, settings: &'static [&'static str]) -> Sound {
    Sound {
        name,
        base: CONVNET,
        settings,
    }
}

const fn mlp(name: &'static str, settings: &'static [&'static str]) -> Sound {
    Sound {
        name,
        base: MLP,
        settings,
    }
}

pub const RECIPES: &[Sound] = &[
    convnet("convnet", &[]),
    convnet("no noise", &["model.dropout=0.0", "augment.operations=[]"]),
    convnet("group norm", &["model.norm={group=4}"]),
    convnet("layer norm", &["model.norm=\"layer\""]),
    convnet(
        "instance norm",
        &["model.norm=\"instance\"", "train.epochs=24"],
    ),
    convnet(
        "no norm",
        &[
            "model.norm=\"none\"",
            "train.epochs=24",
            "train.clip_norm=1.0",
        ],
    ),
    convnet("dropout 0.5", &["model.dropout=0.5"]),
    convnet("label smoothing", &["train.label_smoothing=0.1"]),
    convnet(
        "constant rate",
        &[
            "schedule={kind=\"constant\"}",
            "optimizer.learning_rate=0.05",
        ],
    ),
    convnet("cosine", &["schedule={kind=\"cosine\"}"]),
    convnet("decay", &["decay.penalty={kind=\"l2\",strength=0.002}"]),
    convnet(
        "decoupled decay",
        &["decay.penalty={kind=\"decoupled\",strength=0.01}"],
    ),
    convnet("AdamW", &["optimizer={kind=\"adamw\",learning_rate=0.005}"]),
    convnet("averaged weights", &["train.weight_average=0.9"]),
    convnet("clipping", &["train.clip_norm=0.5"]),
    convnet("large batches", &["train.batch_size=50", "train.epochs=24"]),
    convnet(
        "batches of 8",
        &["train.batch_size=8", "optimizer.learning_rate=0.05"],
    ),
    convnet(
        "flips",
        &["augment.operations=[{op=\"horizontal_flip\",probability=0.5}]"],
    ),
    convnet(
        "crops",
        &["augment.operations=[{op=\"random_crop\",height=14,width=14,padding=2}]"],
    ),
    convnet(
        "strong cutout",
        &["augment.operations=[{op=\"cutout\",size=7,probability=1.0}]"],
    ),
    convnet(
        "RandAugment",
        &["augment.operations=[{op=\"rand_augment\",count=1,magnitude=4}]"],
    ),
    convnet("held-out data", &["data.validation=0.25"]),
    convnet(
        "deeper",
        &["model.widths=[8,8,16,16]", "model.pool_after=[0,1]"],
    ),
    convnet("long", &["train.epochs=40"]),
    mlp("mlp", &[]),
    mlp(
        "mlp, group norm, dropout",
        &["model.norm={group=4}", "model.dropout=0.2"],
    ),
    mlp(
        "mlp, layer norm, dropout",
        &["model.norm=\"layer\"", "model.dropout=0.3"],
    ),
    mlp(
        "mlp, no norm, dropout",
        &[
            "model.norm=\"none\"",
            "model.dropout=0.3",
            "train.epochs=24",
        ],
    ),
    mlp(
        "mlp, AdamW, long",
        &[
            "optimizer={kind=\"adamw\",learning_rate=0.003}",
            "train.epochs=40",
        ],
    ),
    mlp(
        "mlp, smoothing and decay",
        &[
            "train.label_smoothing=0.1",
            "decay.penalty={kind=\"l2\",strength=0.001}",
        ],
    ),
];

impl Sound {
    /// Makes the run below `place`.
    pub fn make(&self, embedded: &Clothes, seed: u64, place: &Path) -> RunFolder {
        let images = place.join("images");
        clothes(embedded, seed).write(&images);
        let mut settings = vec![
            format!("data.source=idx:{}", images.display()),
            format!("seed={seed}"),
        ];
        settings.extend(self.settings.iter().map(|setting| (*setting).to_owned()));
        let recipe = Recipe::parse(self.base, self.name, &settings).expect("a recipe");
        let folder = RunFolder::new(place.join("run"));
        sound(&recipe, &folder);
        folder
    }
}
