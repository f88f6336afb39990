//! The command as users meet it: what it prints, what it refuses, its exit codes.

mod common;

use std::fs;

use common::{RECIPE, evenkeel, run, write_images, write_photos};

const TABLE: &str = "csv:table.csv?label=k";

#[test]
fn trains_evaluates_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_images(&folder.join("images"), 480, 96);
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    let (code, out, told) = run(
        folder,
        &[
            "train",
            "recipe.toml",
            "--out",
            "run",
            "--json",
            "--tensorboard",
        ],
    );
    assert_eq!(code, 0, "{told}");
    let last = out.lines().last().unwrap();
    for key in [
        "run",
        "train_accuracy",
        "test_accuracy",
        "test_loss",
        "epochs",
        "steps",
        "seconds",
        "images_per_s",
        "seed",
    ] {
        assert!(
            last.contains(&format!("\"{key}\":")),
            "{key} is not in {last}"
        );
    }
    assert!(
        told.contains("epoch 6/6") && told.contains("test accuracy"),
        "{told}"
    );
    for file in [
        "run.json",
        "metrics.jsonl",
        "model.safetensors",
        "evaluation.json",
        "report.html",
    ] {
        assert!(folder.join("run").join(file).is_file(), "{file}");
    }

    let events = fs::read_dir(folder.join("run/tensorboard")).unwrap();
    let sizes: Vec<u64> = events
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    // A file whose 186 lines take more than 60 bytes each.
    assert!(sizes.len() == 1 && sizes[0] > 186 * 60, "{sizes:?}");
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let of_epoch = |epoch| {
        let line = format!("{{\"kind\":\"step\",\"epoch\":{epoch},");
        metrics
            .lines()
            .filter(|text| text.starts_with(&line))
            .count()
    };
    assert_eq!((of_epoch(0), of_epoch(1), of_epoch(6)), (0, 30, 30));

    let (code, plain, told) = run(folder, &["eval", "run", "--json"]);
    assert_eq!(code, 0, "{told}");
    let number = |text: &str, key: &str| -> f64 {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        value[key].as_f64().unwrap()
    };
    // The saved model is the one that was measured at the end of the training.
    assert_eq!(number(&plain, "accuracy"), number(last, "test_accuracy"));
    assert!((number(&plain, "loss") - number(last, "test_loss")).abs() < 1e-6);
    assert!(
        number(&plain, "accuracy") > 0.6,
        "it learned nothing: {plain}"
    );
    let (code, flipped, told) = run(folder, &["eval", "run", "--tta", "flip", "--json"]);
    assert!(code == 0 && number(&flipped, "loss") != number(&plain, "loss"));
    assert!(!told.contains("not trained with flips"), "{told}");
    let report = fs::read_to_string(folder.join("run/report.html")).unwrap();
    assert!(report.contains("Averages at test") && report.contains("Calibration"));
    let (code, out, told) = run(folder, &["eval", "run", "--tta", "dense", "--mc", "3"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        out.contains("average over dense, 3 draws of all noise")
            && out.contains("9 forwards an example"),
        "{out}"
    );
    assert!(
        folder
            .join("run/averaging/dense-3-draws-of-all-noise.json")
            .exists()
    );
    let without = ["--epochs", "1", "--set", "augment.operations=[]"];
    let train = [&["train", "recipe.toml", "--out", "plain"], &without[..]].concat();
    assert_eq!(run(folder, &train).0, 0);
    let (code, _, told) = run(folder, &["eval", "plain", "--tta", "flip"]);
    assert!(
        code == 0 && told.contains("not trained with flips"),
        "{told}"
    );
    let without = ["--epochs", "1", "--set", "model.norm=none"];
    let train = [&["train", "recipe.toml", "--out", "bare"], &without[..]].concat();
    assert_eq!(run(folder, &train).0, 0);
    let (code, _, told) = run(folder, &["fold", "bare"]);
    assert!(
        code == 2 && told.contains("no batch norm to fold"),
        "{told}"
    );
    let (code, text, _) = run(folder, &["eval", "run", "--data", "idx:images"]);
    assert!(code == 0 && text.contains("on 96 examples"), "{text}");

    let (code, folded, told) = run(folder, &["fold", "run", "--json"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(number(&folded, "accuracy"), number(&plain, "accuracy"));
    assert!(number(&folded, "largest_change") < 1e-4, "{folded}");
    assert!(folded.contains("blocks.0.norm"), "{folded}");
    assert!(folder.join("run/folded.safetensors").exists());

    fs::remove_file(folder.join("run/report.html")).unwrap();
    assert_eq!(run(folder, &["report", "run"]).0, 0);
    assert!(
        fs::read_to_string(folder.join("run/report.html"))
            .unwrap()
            .contains("test accuracy")
    );
}

#[test]
fn a_table_trains_a_dense_net() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let row = |i: u32| {
        let (x, y) = (
            f64::from(i * 37 % 101) / 50.0 - 1.0,
            f64::from(i * 53 % 97) / 48.0 - 1.0,
        );
        format!(
            "{x},{y},1e4,{}\n",
            if x * x + y * y < 0.7 { "in" } else { "out" }
        )
    };
    let rows: String = (0..600).map(row).collect();
    fs::write(
        folder.join("circle.csv"),
        format!("x,y,constant,where\n{rows}"),
    )
    .unwrap();
    let args = [
        "train",
        "table",
        "--data",
        "csv:circle.csv?label=where",
        "--out",
        "run",
        "--json",
    ];
    let (code, out, told) = run(folder, &args);
    assert_eq!(code, 0, "{told}");
    let accuracy = out.split("\"test_accuracy\":").nth(1).unwrap();
    let accuracy: f64 = accuracy.split(',').next().unwrap().parse().unwrap();
    assert!(accuracy > 0.85, "{out}");
    let (code, text, told) = run(
        folder,
        &["eval", "run", "--data", "csv:circle.csv?label=where&test=1"],
    );
    assert!(
        code == 0 && text.contains("on 600 examples"),
        "{text} {told}"
    );
    let swapped = fs::read_to_string(folder.join("circle.csv"))
        .unwrap()
        .replace("x,y,", "y,x,");
    fs::write(folder.join("swapped.csv"), swapped).unwrap();
    let (code, _, told) = run(
        folder,
        &["eval", "run", "--data", "csv:swapped.csv?label=where"],
    );
    assert!(
        code == 2 && told.contains("expected the same in the same order"),
        "{told}"
    );
    let (code, _, told) = run(folder, &["eval", "run", "--tta", "flip"]);
    assert!(code == 2 && told.contains("is a table"), "{told}");
    let (code, out, told) = run(folder, &["eval", "run", "--mc", "5", "--average", "logits"]);
    assert!(
        code == 0 && out.contains("average over 5 draws of all noise"),
        "{out} {told}"
    );
}

#[test]
fn wrong_usage_is_told_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table = format!("x,k\n{}", "1,a\n2,b\n".repeat(9));
    fs::write(folder.join("table.csv"), table).unwrap();
    fs::write(
        folder.join("typo.toml"),
        RECIPE.replace("batch_size", "batchsize"),
    )
    .unwrap();
    fs::write(
        folder.join("range.toml"),
        RECIPE.replace("clip_norm = 2.0", "clip_norm = -1"),
    )
    .unwrap();
    for (args, expected) in [
        (&["train", "typo.toml"][..], "did you mean `batch_size`?"),
        (&["train", "typo.toml"], "line 22"),
        (
            &["train", "range.toml"],
            "train.clip_norm: expected a finite number of at least 0, found -1",
        ),
        (&["train", "nowhere.toml"], "recipe nowhere.toml"),
        (
            &["train", "--set", "train.epoch=3"],
            "did you mean `epochs`?",
        ),
        (&["train", "--set", "epochs"], "expected section.key=value"),
        (
            &["train", "--device", "cuda"],
            "built without it; build it with `--features cuda`",
        ),
        (
            &["train", "--epochs", "0"],
            "train.epochs: expected 1 to 1,000,000, found 0",
        ),
        (&["data", "check", "fashon"], "did you mean fashion-mnist"),
        (&["recipe", "show", "nothing"], "expected one of default"),
        (&["train", "--set", "model.kind=mlp"], "hidden"),
        (&["train", "--set", "lr=1"], "`optimizer.learning_rate`"),
        (
            &["train", "--data", "idx"],
            "error: data source `idx`: expected a folder",
        ),
        (
            &[
                "train",
                "--set",
                "augment.operations=[{ op = \"cutout\", size = 0 }]",
            ],
            "augment.operations: step 0 (cutout): size: expected",
        ),
        (
            &["train", "--set", "data.validation=1"],
            "data.validation: expected a number from 0 to below 1, found 1",
        ),
        (
            &["train", "--set", "data.validation=0.9999"],
            "data.validation = 0.9999 leaves 0 examples to train on",
        ),
        (
            &[
                "train",
                "table",
                "--data",
                TABLE,
                "--set",
                "train.batch_size=1",
            ],
            "train.batch_size is 1",
        ),
        (
            &["train", "--set", "model.widths=[60000,60000]"],
            "at most 100000000 parameters",
        ),
    ] {
        let (code, _, told) = run(folder, args);
        assert!(
            code == 2 && told.contains(expected),
            "{args:?}: {code} {told}"
        );
    }
    assert!(
        !folder.join("runs").exists(),
        "a wrong recipe left a folder"
    );
}

#[test]
fn what_is_not_the_users_words_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("file"), "").unwrap();
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    write_images(&folder.join("images"), 48, 12);
    for (args, expected) in [
        (&["eval", "nowhere"][..], "nowhere/run.json"),
        (&["report", "nowhere"], "nowhere/run.json"),
        (&["train", "--resume", "nowhere"], "nowhere/run.json"),
        (&["train", "--data", "idx:nowhere"], "nowhere"),
        (&["train", "table"], "name yours by --data"),
        (
            &["train", "recipe.toml", "--out", "file/run"],
            "file/run: cannot be written",
        ),
    ] {
        let (code, _, told) = run(folder, args);
        assert!(
            code == 1 && told.contains(expected),
            "{args:?}: {code} {told}"
        );
    }
}

#[cfg(unix)]
#[test]
fn readers_that_go_away_are_no_reason_to_stop() {
    use std::process::Stdio;

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_images(&folder.join("images"), 48, 12);
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    // A pipe that nobody reads any more.
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for (args, expected) in [
        (&["recipe", "list"][..], 0),
        (&["recipe", "show", "default"], 0),
        (&["data", "list"], 0),
        (&["data", "check", "idx:images"], 0),
        (&["--help"], 0),
        (&["train", "recipe.toml", "--out", "run"], 0),
        (&["eval", "run"], 0),
        (&["report", "run"], 0),
        (&["train", "nowhere.toml"], 2),
    ] {
        let mut command = evenkeel(folder);
        command.args(args).stdout(gone()).stderr(gone());
        assert_eq!(command.status().unwrap().code(), Some(expected), "{args:?}");
    }
    assert!(folder.join("run/report.html").is_file());
}

/// What a file system may hold, and Rust's strings not.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_whose_name_is_no_unicode_holds_a_run() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_images(&folder.join("images"), 48, 12);
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    let out = OsStr::from_bytes(b"run-\xff");
    let train = evenkeel(folder)
        .args(["train", "recipe.toml", "--json", "--out"])
        .arg(out)
        .output();
    let told = train.unwrap();
    assert!(told.status.success(), "{told:?}");
    assert!(folder.join(out).join("report.html").is_file());
    for args in [["train", "--resume"], ["eval", "--json"]] {
        let again = evenkeel(folder).args(args).arg(out).output().unwrap();
        assert!(again.status.success(), "{again:?}");
    }
}

#[test]
fn a_run_is_measured_on_its_data_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_images(&folder.join("images"), 48, 12);
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    let (code, _, told) = run(folder, &["train", "recipe.toml", "--out", "run"]);
    assert_eq!(code, 0, "{told}");
    let elsewhere = folder.join("images");
    let (code, out, told) = run(&elsewhere, &["eval", "../run"]);
    assert!(code == 0 && out.contains("on 12 examples"), "{told}");
}

#[test]
fn a_diverging_run_stops_keeps_its_checkpoint_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_images(&folder.join("images"), 320, 64);
    // Without a norm and with a rate that no net survives.
    let recipe = RECIPE
        .replace("dropout = 0.2", "norm = \"none\"")
        .replace("clip_norm = 2.0", "clip_norm = 0.0");
    fs::write(folder.join("recipe.toml"), recipe).unwrap();
    let args = [
        "train",
        "recipe.toml",
        "--out",
        "run",
        "--set",
        "optimizer.learning_rate=1e12",
    ];
    let (code, _, told) = run(folder, &args);
    assert!(
        code == 1 && told.contains("the loss is") && told.contains("learning_rate"),
        "{told}"
    );
    let record = fs::read_to_string(folder.join("run/run.json")).unwrap();
    assert!(record.contains("\"failed\"") && record.contains("the loss is"));
    assert!(
        fs::read_to_string(folder.join("run/report.html"))
            .unwrap()
            .contains("This run failed")
    );
}

#[test]
fn lists() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = run(folder.path(), &["data", "list"]);
    assert!(code == 0 && out.contains("csv:FILE?label=COLUMN"));
    let (code, out, _) = run(folder.path(), &["recipe", "list"]);
    assert!(code == 0 && out.contains("batch-norm-alone"));
    let (code, out, _) = run(folder.path(), &["recipe", "show", "default"]);
    assert!(code == 0 && out.contains("[model]"));
    let (code, out, _) = run(folder.path(), &["data", "check", "fashion-mnist-10k"]);
    assert!(code == 0 && out.contains("Ankle boot"), "{out}");
    // As JSON too.
    let value = |args: &[&str]| -> serde_json::Value {
        let (code, out, told) = run(folder.path(), args);
        assert_eq!(code, 0, "{told}");
        serde_json::from_str(&out).unwrap()
    };
    for list in ["data", "recipe", "pipeline"] {
        let list = value(&[list, "list", "--json"]);
        assert!(list.as_array().unwrap().len() > 3 && list[0]["description"].is_string());
    }
}

#[test]
fn a_folder_of_images_trains_and_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_photos(&folder.join("photos"));
    let recipe = RECIPE
        .replace("idx:images", "folder:photos")
        .replace("pool_after = [0]", "pool_after = []")
        .replace("epochs = 6\nbatch_size = 16", "epochs = 2\nbatch_size = 8")
        .replace(
            "[augment]\n",
            "[augment]\ntest = [{ op = \"resize\", to = { short_side = 9 } }, \
             { op = \"center_crop\", height = 9, width = 8 }]\n",
        )
        .replace(
            "{ op = \"random_crop\", height = 9, width = 8, padding = 1, mode = \"edge\" }",
            "{ op = \"random_resized_crop\", height = 9, width = 8 }",
        );
    fs::write(folder.join("recipe.toml"), &recipe).unwrap();
    let (code, out, told) = run(folder, &["train", "recipe.toml", "--out", "run", "--json"]);
    assert_eq!(code, 0, "{told}");
    let (code, measured, told) = run(folder, &["eval", "run", "--json"]);
    assert_eq!(code, 0, "{told}");
    let accuracy = |text: &str, key: &str| -> String {
        let start = text.find(key).unwrap() + key.len();
        text[start..].split(',').next().unwrap().to_owned()
    };
    assert_eq!(
        accuracy(&measured, "\"accuracy\":"),
        accuracy(&out, "\"test_accuracy\":")
    );
    // Photographs of many sizes: some of their crops coincide.
    for views in ["flip", "ten-crop", "multi-scale", "dense"] {
        let (code, text, told) = run(folder, &["eval", "run", "--tta", views]);
        assert!(
            code == 0 && text.contains(&format!("average over {views}")),
            "{views}: {told}"
        );
    }
    let (code, text, _) = run(
        folder,
        &["eval", "run", "--data", "folder:photos?test=test"],
    );
    assert!(code == 0 && text.contains("on 8 examples"), "{text}");
    let report = fs::read_to_string(folder.join("run/report.html")).unwrap();
    assert!(report.contains("data:image/png"));

    let (code, _, told) = run(
        folder,
        &[
            "train",
            "recipe.toml",
            "--out",
            "x",
            "--set",
            "augment.test=[]",
        ],
    );
    assert!(
        code == 1 && told.contains("images of") && told.contains("augment.test"),
        "{told}"
    );

    let broken = folder.join("photos/train/dark/3.png");
    fs::write(&broken, b"broken").unwrap();
    let (code, _, told) = run(folder, &["train", "recipe.toml", "--out", "stopped"]);
    assert!(
        code == 1 && told.contains("photos/train/dark/3.png: "),
        "{told}"
    );
    let skip = [
        "train",
        "recipe.toml",
        "--out",
        "skipped",
        "--set",
        "data.unreadable=skip",
    ];
    let (code, _, told) = run(folder, &skip);
    assert!(
        code == 0 && told.contains("note: unreadable: ") && told.contains("left out"),
        "{told}"
    );
    let (code, _, told) = run(folder, &["eval", "skipped"]);
    assert!(code == 0 && told.contains("note: unreadable: "), "{told}");
    let (code, text, _) = run(folder, &["data", "check", "folder:photos"]);
    assert!(
        code == 0 && text.contains("unreadable   train/dark/3.png"),
        "{text}"
    );
    // The data are no longer those of the first run.
    let (code, _, told) = run(folder, &["eval", "run", "--data", "folder:photos"]);
    assert!(code == 1 && told.contains("3.png"), "{told}");
}

#[test]
fn previews_are_drawn_by_pipelines_that_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_photos(&folder.join("photos"));
    let (code, list, _) = run(folder, &["pipeline", "list"]);
    assert!(
        code == 0 && list.contains("standard-28") && list.contains("three-augment"),
        "{list}"
    );
    let (code, text, _) = run(folder, &["pipeline", "show", "randaugment"]);
    assert!(code == 0 && text.contains("rand_augment"), "{text}");
    assert_eq!(run(folder, &["pipeline", "show", "nothing"]).0, 2);
    fs::write(folder.join("mine.toml"), &text).unwrap();
    for (source, pipeline) in [
        ("folder:photos", "mine.toml"),
        ("fashion-mnist-10k", "standard-28"),
    ] {
        let preview = [
            "preview",
            source,
            "--pipeline",
            pipeline,
            "--out",
            "sheet.png",
            "--samples",
            "2",
        ];
        let (code, _, told) = run(folder, &preview);
        assert_eq!(code, 0, "{told}");
        assert!(
            fs::read(folder.join("sheet.png"))
                .unwrap()
                .starts_with(b"\x89PNG")
        );
    }
    for (arguments, exit, problem) in [
        (
            [
                "preview",
                "folder:photos",
                "--pipeline",
                "none",
                "--out",
                "x.png",
            ],
            2,
            "one of standard-28",
        ),
        (
            [
                "preview",
                "folder:nowhere",
                "--pipeline",
                "augmix",
                "--out",
                "x.png",
            ],
            1,
            "nowhere",
        ),
        (
            [
                "preview",
                "nothing",
                "--pipeline",
                "augmix",
                "--out",
                "x.png",
            ],
            2,
            "expected one of",
        ),
        (
            [
                "preview",
                "folder:photos",
                "--pipeline",
                "standard-28",
                "--out",
                "x.png",
            ],
            2,
            "step 0 (random_crop)",
        ),
    ] {
        let (code, _, told) = run(folder, &arguments);
        assert!(code == exit && told.contains(problem), "{told}");
    }
    assert!(!folder.join("x.png").exists());
}
