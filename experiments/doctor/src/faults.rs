//! What can be wrong with a run: each fault makes one, sound but for it.

use std::path::Path;

use burn::module::Module;
use evenkeel_lab::Recipe;
use evenkeel_lab::model::Model;
use evenkeel_nn::{Pass, Role, Scaling, WeightDecay};
use evenkeel_record::{Preparation, RunFolder};

use crate::images::{Clothes, Data, Filter};
use crate::training::{
    self, Evaluation, Loop, biased, configure_norms, record, retrain, scale_dropout, shuffle, slow,
    sound, take_statistics, train, write,
};

/// A fault by name.
pub struct Fault {
    pub name: &'static str,
    /// Whether it was known when the doctor was made.
    pub listed: bool,
    /// Changes of the recipe that shows it.
    settings: &'static [&'static str],
    base: &'static str,
    data: fn(&Clothes, u64) -> Data,
    inject: fn(&Recipe, &Data, &RunFolder),
}

/// A convolutional net with batch norm, dropout before the head and augmentation.
pub const CONVNET: &str = r#"
[data]
source = "idx:images"
[model]
kind = "convnet"
widths = [12, 24]
pool_after = [0]
norm = "batch"
dropout = 0.3
[augment]
operations = [{ op = "random_crop", height = 14, width = 14, padding = 1 }, { op = "cutout", size = 4, probability = 0.5 }]
[train]
epochs = 16
batch_size = 20
[optimizer]
kind = "sgd"
learning_rate = 0.1
[schedule]
kind = "one_cycle"
"#;

/// A dense net with batch norm.
pub const MLP: &str = r#"
[data]
source = "idx:images"
[model]
kind = "mlp"
hidden = [32, 24]
norm = "batch"
[train]
epochs = 16
batch_size = 20
[optimizer]
kind = "sgd"
learning_rate = 0.05
[schedule]
kind = "one_cycle"
"#;

pub fn clothes(clothes: &Clothes, seed: u64) -> Data {
    clothes.sample(600, 600, seed, Filter::Box)
}

fn none(_: &Recipe, _: &Data, _: &RunFolder) {}

/// The sound model, measured by another evaluation.
fn measured(recipe: &Recipe, data: &Data, folder: &RunFolder, evaluation: &Evaluation) {
    retrain(recipe, data, folder, &Loop::default(), evaluation);
}

fn trained(recipe: &Recipe, data: &Data, folder: &RunFolder, of: &Loop) {
    retrain(recipe, data, folder, of, &Evaluation::default());
}

fn constants(mean: f32, deviation: f32) -> Option<Preparation> {
    Some(Preparation {
        mean: vec![mean],
        deviation: vec![deviation],
    })
}

const fn fault(name: &'static str, inject: fn(&Recipe, &Data, &RunFolder)) -> Fault {
    Fault {
        name,
        listed: true,
        settings: &[],
        base: CONVNET,
        data: clothes,
        inject,
    }
}

const fn unlisted(name: &'static str, inject: fn(&Recipe, &Data, &RunFolder)) -> Fault {
    Fault {
        listed: false,
        ..fault(name, inject)
    }
}

/// All faults: those of the project's list, then some that the doctor was not made for.
pub const FAULTS: &[Fault] = &[
    fault("norm in training mode at test", |recipe, data, folder| {
        let evaluation = Evaluation {
            pass: |step| Pass::train(0, step).without_noise().keep_statistics(),
            ..Evaluation::default()
        };
        measured(recipe, data, folder, &evaluation);
    }),
    fault("statistics never updated", |recipe, data, folder| {
        let of = Loop {
            pass: |seed, step| Pass::train(seed, step).keep_statistics(),
            ..Loop::default()
        };
        trained(recipe, data, folder, &of);
    }),
    fault("statistics updated twice a step", |recipe, data, folder| {
        let of = Loop {
            second_forward: true,
            ..Loop::default()
        };
        trained(recipe, data, folder, &of);
    }),
    Fault {
        settings: &[
            "train.weight_average=0.98",
            "schedule={kind=\"constant\"}",
            "optimizer.learning_rate=0.05",
        ],
        ..fault(
            "statistics stale after weight averaging",
            stale_after_averaging,
        )
    },
    fault("statistics of one batch", |recipe, data, folder| {
        let mut run = folder.read_run().expect("a run");
        let (model, lines) = train(recipe, data, &run.preparation, &Loop::default(), None);
        model.forward(
            training::batch(&data.train, 20, &run.preparation),
            &Pass::recalibrate(),
        );
        let (of, evaluation) = (Loop::default(), Evaluation::default());
        write(
            recipe,
            data,
            folder,
            &mut run,
            &model,
            &lines,
            &of,
            &evaluation,
        );
    }),
    Fault {
        base: MLP,
        settings: &["train.batch_size=16"],
        ..fault("statistics biased", |recipe, data, folder| {
            let of = Loop {
                build: |model| configure_norms(model, biased),
                ..Loop::default()
            };
            trained(recipe, data, folder, &of);
        })
    },
    fault("momentum too slow for the steps", |recipe, data, folder| {
        let of = Loop {
            build: |model| configure_norms(model, slow),
            ..Loop::default()
        };
        trained(recipe, data, folder, &of);
    }),
    fault("frozen norms undone", |recipe, data, folder| {
        let mut run = folder.read_run().expect("a run");
        let (start, _) = train(recipe, data, &run.preparation, &Loop::default(), None);
        // Fine-tuning with frozen norms, but for a step in four that forgets it.
        let of = Loop {
            pass: |seed, step| match step % 4 {
                0 => Pass::train(seed, step),
                _ => Pass::train(seed, step).freeze_statistics(),
            },
            rate: |_, _, _| 0.005,
            ..Loop::default()
        };
        let (model, lines) = train(recipe, data, &run.preparation, &of, Some(start.train()));
        write(
            recipe,
            data,
            folder,
            &mut run,
            &model,
            &lines,
            &of,
            &Evaluation::default(),
        );
    }),
    Fault {
        settings: &[
            "train.batch_size=1",
            "train.epochs=2",
            "optimizer.learning_rate=0.01",
        ],
        ..fault("batches of 1", none)
    },
    Fault {
        settings: &[
            "train.batch_size=2",
            "train.epochs=3",
            "optimizer.learning_rate=0.02",
        ],
        ..fault("batches of 2", none)
    },
    fault("dropout left on at test", |recipe, data, folder| {
        let evaluation = Evaluation {
            pass: |draw| Pass::monte_carlo(0, draw),
            ..Evaluation::default()
        };
        measured(recipe, data, folder, &evaluation);
    }),
    Fault {
        settings: &["model.dropout=0.5"],
        ..fault("dropout's scaling missing", |recipe, data, folder| {
            // Neither in training nor at test.
            let of = Loop {
                build: |model| scale_dropout(model, Scaling::Classic),
                after: |model| scale_dropout(model, Scaling::Inverted),
                ..Loop::default()
            };
            trained(recipe, data, folder, &of);
        })
    },
    Fault {
        base: MLP,
        settings: &["model.dropout=0.4"],
        ..fault("dropout before batch norm", none)
    },
    Fault {
        settings: &[
            "decay.penalty.kind=\"l2\"",
            "decay.penalty.strength=0.002",
            "decay.roles=[\"weight\",\"bias\",\"norm\"]",
        ],
        ..fault("decay on norms and biases", none)
    },
    Fault {
        settings: &["decay.penalty.kind=\"l2\"", "decay.penalty.strength=0.002"],
        ..fault(
            "decay on norms and biases that the recipe excludes",
            |recipe, data, folder| {
                let of = Loop {
                    decay: |recipe| {
                        WeightDecay::new(recipe.decay.penalty)
                            .including(Role::Bias)
                            .including(Role::Norm)
                    },
                    ..Loop::default()
                };
                trained(recipe, data, folder, &of);
            },
        )
    },
    fault("the same noise every epoch", |recipe, data, folder| {
        let of = Loop {
            epoch_drawn: |_| 0,
            ..Loop::default()
        };
        trained(recipe, data, folder, &of);
    }),
    fault("the same noise in every worker", |recipe, data, folder| {
        let of = Loop {
            twin_workers: true,
            ..Loop::default()
        };
        trained(recipe, data, folder, &of);
    }),
    fault("augmentation at test", |recipe, data, folder| {
        let evaluation = Evaluation {
            augmented: true,
            ..Evaluation::default()
        };
        measured(recipe, data, folder, &evaluation);
    }),
    fault("normalization constants missing", |recipe, data, folder| {
        let of = Loop {
            preparation: constants(0.0, 1.0),
            ..Loop::default()
        };
        let evaluation = Evaluation {
            preparation: constants(0.0, 1.0),
            ..Evaluation::default()
        };
        retrain(recipe, data, folder, &of, &evaluation);
    }),
    fault(
        "normalization constants missing at test",
        |recipe, data, folder| {
            let evaluation = Evaluation {
                preparation: constants(0.0, 1.0),
                ..Evaluation::default()
            };
            measured(recipe, data, folder, &evaluation);
        },
    ),
    fault(
        "normalization constants missing in training",
        |recipe, data, folder| {
            let of = Loop {
                preparation: constants(0.0, 1.0),
                ..Loop::default()
            };
            trained(recipe, data, folder, &of);
        },
    ),
    Fault {
        data: |clothes, seed| clothes.sample(600, 600, seed, Filter::Nearest),
        ..fault("another resize filter at test", none)
    },
    Fault {
        data: |clothes, seed| {
            let data = clothes.sample(1000, 1000, seed, Filter::Box);
            Data {
                train: data.train.of_two_sides(seed),
                test: data.test.of_two_sides(seed + 1),
            }
        },
        settings: &["augment.operations=[{op=\"horizontal_flip\",probability=0.5}]"],
        ..fault("flips on a class with a side", none)
    },
    Fault {
        data: |clothes, seed| {
            let mut data = clothes.sample(600, 600, seed, Filter::Box);
            for i in 0..60 {
                data.train.pixels[i] = data.test.pixels[i];
                data.train.labels[i] = data.test.labels[i];
            }
            data
        },
        ..fault("test images in the training data", none)
    },
    Fault {
        data: |clothes, seed| {
            let mut data = clothes.sample(600, 600, seed, Filter::Box);
            shuffle(&mut data.train.labels, seed);
            data
        },
        ..fault("shuffled labels", none)
    },
    fault("mixup with hard targets", |recipe, data, folder| {
        let of = Loop {
            mixed: true,
            ..Loop::default()
        };
        trained(recipe, data, folder, &of);
    }),
    Fault {
        settings: &["model.dropout=0.5"],
        ..fault(
            "masks that keep everything (rand < p/p)",
            |recipe, data, folder| {
                let of = Loop {
                    pass: |seed, step| Pass::train(seed, step).without_noise(),
                    ..Loop::default()
                };
                trained(recipe, data, folder, &of);
            },
        )
    },
    unlisted("a layer that is not trained", |recipe, data, folder| {
        let of = Loop {
            untrained: Some(2),
            ..Loop::default()
        };
        trained(recipe, data, folder, &of);
    }),
    unlisted(
        "a schedule that is never stepped",
        |recipe, data, folder| {
            let of = Loop {
                rate: |recipe, _, _| recipe.optimizer.learning_rate(),
                ..Loop::default()
            };
            trained(recipe, data, folder, &of);
        },
    ),
    unlisted(
        "softmax before a loss that takes logits",
        |recipe, data, folder| {
            let of = Loop {
                softmax_twice: true,
                ..Loop::default()
            };
            trained(recipe, data, folder, &of);
        },
    ),
    unlisted(
        "test figures of the training images",
        |recipe, data, folder| {
            let evaluation = Evaluation {
                on_training_images: true,
                ..Evaluation::default()
            };
            measured(recipe, data, folder, &evaluation);
        },
    ),
    unlisted("weights of another epoch saved", |recipe, data, folder| {
        let mut run = folder.read_run().expect("a run");
        let early = Loop {
            saved_at: 0.5,
            ..Loop::default()
        };
        let (_, lines) = train(recipe, data, &run.preparation, &Loop::default(), None);
        let (model, _) = train(recipe, data, &run.preparation, &early, None);
        let results = run.results;
        let (of, evaluation) = (Loop::default(), Evaluation::default());
        write(
            recipe,
            data,
            folder,
            &mut run,
            &model,
            &lines,
            &of,
            &evaluation,
        );
        run.results = results;
        folder.write_run(&run).expect("a record");
    }),
    Fault {
        listed: false,
        data: |clothes, seed| {
            let mut data = clothes.sample(600, 600, seed, Filter::Box);
            for image in &mut data.test.pixels {
                for pixel in image {
                    *pixel = 255 - *pixel;
                }
            }
            data
        },
        ..fault("test images inverted", none)
    },
    Fault {
        listed: false,
        data: |clothes, seed| {
            let mut data = clothes.sample(600, 600, seed, Filter::Box);
            for label in &mut data.test.labels {
                *label = (*label + 3) % 10;
            }
            data
        },
        ..fault("classes in another order at test", none)
    },
];

/// The averaged weights with the statistics of the weights that were trained.
fn stale_after_averaging(recipe: &Recipe, data: &Data, folder: &RunFolder) {
    let mut run = folder.read_run().expect("a run");
    let plain = Recipe {
        train: evenkeel_lab::recipe::TrainRecipe {
            weight_average: 0.0,
            ..recipe.train.clone()
        },
        ..recipe.clone()
    };
    let (raw, _) = train(&plain, data, &run.preparation, &Loop::default(), None);
    let mut model: Model = {
        let source = recipe.data.source.parse().expect("a source");
        let data = evenkeel_lab::data::Dataset::open(&source).expect("the data");
        let device = burn::tensor::Device::flex();
        let built = recipe.model.build(&data.kind, data.classes.len(), &device);
        evenkeel_lab::weights::from_safetensors(built.expect("a net"), &folder.model())
            .expect("weights")
    };
    take_statistics(&mut model, &raw);
    let bytes = evenkeel_lab::weights::to_safetensors(&model).expect("weights");
    std::fs::write(folder.model(), bytes).expect("a file");
    std::fs::remove_dir_all(folder.checkpoint()).ok();
    record(
        recipe,
        data,
        folder,
        &mut run,
        &model,
        &Evaluation::default(),
    );
}

impl Fault {
    /// Makes the run below `place`.
    pub fn make(&self, clothes: &Clothes, seed: u64, place: &Path) -> RunFolder {
        let data = (self.data)(clothes, seed);
        let images = place.join("images");
        data.write(&images);
        let mut settings = vec![
            format!("data.source=idx:{}", images.display()),
            format!("seed={seed}"),
        ];
        settings.extend(self.settings.iter().map(|setting| (*setting).to_owned()));
        let recipe = Recipe::parse(self.base, self.name, &settings).expect("a recipe");
        let folder = RunFolder::new(place.join("run"));
        sound(&recipe, &folder);
        (self.inject)(&recipe, &data, &folder);
        folder
    }
}
