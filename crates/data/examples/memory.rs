//! How much memory a source of images takes: `experiments/memory` tells what it was run for.
//!
//! `memory make KIND COUNT SIDE DIR` writes a source of noise, `memory read SOURCE` opens it, goes over an epoch
//! of augmented batches and prints the peak of the process's memory.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use evenkeel_augment::{
    AugmentedImages, Error, Image, ImageSource, Loader, LoaderOptions, Pipeline, Sizes, to_png,
};
use evenkeel_data::{Dataset, Files, ImageOptions, Source, Split};
use evenkeel_random::Key;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SHARD: usize = 10_000;
/// Rows of a row group, as the hub has them.
const GROUP: usize = 100;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", kind, count, side, folder] => {
            make(kind, count.parse()?, side.parse()?, folder.as_ref())
        }
        ["read", source] => read(source),
        _ => Err("expected make KIND COUNT SIDE DIR, or read SOURCE".into()),
    }
}

/// Noise, whose file is about as long as its pixels are many.
fn image(index: usize, side: usize) -> Result<Vec<u8>> {
    let mut draws = Key::from_seed(1).at(index as u64).draws();
    let pixels = (0..side * side * 3).map(|_| draws.below(256) as u8);
    Ok(to_png(&Image::new(side, side, 3, pixels.collect())?)?)
}

fn make(kind: &str, count: usize, side: usize, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for split in ["train", "test"] {
        let range = if split == "train" {
            0..count
        } else {
            count..count + 10
        };
        for (shard, start) in range.clone().step_by(SHARD).enumerate() {
            let images = start..range.end.min(start + SHARD);
            match kind {
                "tar" => {
                    let file = File::create(folder.join(format!("{split}-{shard}.tar")))?;
                    let mut archive = tar::Builder::new(BufWriter::new(file));
                    for index in images {
                        let label = (index % 10).to_string().into_bytes();
                        for (end, bytes) in [("png", image(index, side)?), ("cls", label)] {
                            let mut header = tar::Header::new_gnu();
                            header.set_size(bytes.len() as u64);
                            header.set_mode(0o644);
                            archive.append_data(
                                &mut header,
                                format!("{index}.{end}"),
                                &bytes[..],
                            )?;
                        }
                    }
                    archive.into_inner()?.into_inner()?;
                }
                "parquet" => {
                    let schema = "message m { required group image { required binary bytes; } required int64 label; }";
                    let file = File::create(folder.join(format!("{split}-{shard}.parquet")))?;
                    let schema = Arc::new(parse_message_type(schema)?);
                    let mut table = SerializedFileWriter::new(file, schema, Arc::default())?;
                    for rows in images.clone().step_by(GROUP) {
                        let rows = rows..images.end.min(rows + GROUP);
                        let bytes: Result<Vec<ByteArray>> = rows
                            .clone()
                            .map(|index| Ok(image(index, side)?.into()))
                            .collect();
                        let labels: Vec<i64> = rows.map(|index| (index % 10) as i64).collect();
                        let mut group = table.next_row_group()?;
                        let mut column = group.next_column()?.ok_or("no column")?;
                        column
                            .typed::<ByteArrayType>()
                            .write_batch(&bytes?, None, None)?;
                        column.close()?;
                        let mut column = group.next_column()?.ok_or("no column")?;
                        column
                            .typed::<Int64Type>()
                            .write_batch(&labels, None, None)?;
                        column.close()?;
                        group.close()?;
                    }
                    table.close()?;
                }
                "folder" => {
                    for index in images {
                        let class = folder.join(split).join((index % 10).to_string());
                        fs::create_dir_all(&class)?;
                        fs::write(class.join(format!("{index}.png")), image(index, side)?)?;
                    }
                }
                _ => return Err("expected tar, parquet or folder".into()),
            }
        }
    }
    Ok(())
}

struct InFiles(Files);

impl ImageSource for InFiles {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn sizes(&self) -> Sizes {
        self.0
            .sizes()
            .unwrap_or(evenkeel_augment::Size::new(1, 1).into())
    }

    fn channels(&self) -> usize {
        self.0.channels()
    }

    fn read(&self, index: usize, _: Vec<u8>) -> std::result::Result<Image, Error> {
        self.0
            .read(index)
            .map_err(|problem| Error::Example { index, problem })
    }

    fn label(&self, index: usize) -> u32 {
        self.0.labels[index]
    }
}

fn read(source: &str) -> Result<()> {
    let start = Instant::now();
    let options = ImageOptions {
        cache_bytes: 16 << 20,
        ..ImageOptions::default()
    };
    let data = Dataset::open_with(&source.parse::<Source>()?, &options)?;
    let opened = start.elapsed().as_secs_f64();
    let Split::Files(files) = data.train else {
        return Err("expected images in files".into());
    };
    let count = files.len();
    let pipeline: Pipeline = serde_json::from_str(
        r#"{"operations": [{"op": "random_resized_crop", "height": 32, "width": 32}, {"op": "horizontal_flip"}],
            "normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#,
    )?;
    let images = AugmentedImages::new(InFiles(files), &pipeline, 1)?;
    let options = LoaderOptions {
        batch_size: 64,
        workers: 2,
        prefetch: 4,
        shuffle: Some(1),
        drop_last: false,
    };
    let mut seen = 0;
    for batch in Loader::new(Arc::new(images), options)?.epoch(0, 0) {
        seen += batch?.labels.len();
    }
    assert_eq!(seen, count);
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or("unknown");
    println!(
        "{source}: {count} images, peak {}, opened in {opened:.0} s, an epoch in {:.0} s",
        peak.trim(),
        start.elapsed().as_secs_f64() - opened
    );
    Ok(())
}
