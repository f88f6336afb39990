//! `evenkeel data fetch`: public data sets from their official addresses, ready to be used as sources.

mod download;
mod unpack;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::args::FetchArgs;
use crate::exit::{DONE, Failure};
use crate::progress::bar;
use crate::say::{say, tell};
use download::{Download, Downloader};

/// A public data set.
struct Known {
    name: &'static str,
    /// Where its files are, ending in a slash.
    address: &'static str,
    files: &'static [RemoteFile],
    /// The kind of source that it is, and the folder inside its own where that is.
    source: (&'static str, &'static str),
    /// The classes' names, where its files do not tell them.
    classes: &'static [&'static str],
}

struct RemoteFile {
    name: &'static str,
    /// As torchvision's `datasets` have it (`mnist.py`, `svhn.py`, `imagenette.py`), and for CIFAR's binary
    /// versions the authors' page, https://www.cs.toronto.edu/~kriz/cifar.html.
    md5: &'static str,
    /// More than it has.
    most_bytes: u64,
}

const fn file(name: &'static str, md5: &'static str, most_bytes: u64) -> RemoteFile {
    RemoteFile {
        name,
        md5,
        most_bytes,
    }
}

const MIB: u64 = 1 << 20;

const KNOWN: [Known; 7] = [
    Known {
        name: "mnist",
        // The mirror that torchvision names: the authors' own address no longer serves the files.
        address: "https://ossci-datasets.s3.amazonaws.com/mnist/",
        files: &[
            file(
                "train-images-idx3-ubyte.gz",
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                16 * MIB,
            ),
            file(
                "train-labels-idx1-ubyte.gz",
                "d53e105ee54ea40749a09fcbcd1e9432",
                MIB,
            ),
            file(
                "t10k-images-idx3-ubyte.gz",
                "9fb629c4189551a2d022fa330f9573f3",
                4 * MIB,
            ),
            file(
                "t10k-labels-idx1-ubyte.gz",
                "ec29112dd5afa0611ce80d1b7f02629c",
                MIB,
            ),
        ],
        source: ("idx", ""),
        classes: &[],
    },
    Known {
        name: "fashion-mnist",
        address: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files: &[
            file(
                "train-images-idx3-ubyte.gz",
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                32 * MIB,
            ),
            file(
                "train-labels-idx1-ubyte.gz",
                "25c81989df183df01b3e8a0aad5dffbe",
                MIB,
            ),
            file(
                "t10k-images-idx3-ubyte.gz",
                "bef4ecab320f06d8554ea6380940ec79",
                8 * MIB,
            ),
            file(
                "t10k-labels-idx1-ubyte.gz",
                "bb300cfdad3c16e7a12a480ee83cd310",
                MIB,
            ),
        ],
        source: ("idx", ""),
        classes: &[
            "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
            "boot",
        ],
    },
    Known {
        name: "cifar10",
        address: "https://www.cs.toronto.edu/~kriz/",
        files: &[file(
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            192 * MIB,
        )],
        source: ("cifar10", "cifar-10-batches-bin"),
        classes: &[],
    },
    Known {
        name: "cifar100",
        address: "https://www.cs.toronto.edu/~kriz/",
        files: &[file(
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            192 * MIB,
        )],
        source: ("cifar100", "cifar-100-binary"),
        classes: &[],
    },
    Known {
        name: "svhn",
        address: "http://ufldl.stanford.edu/housenumbers/",
        files: &[
            file(
                "train_32x32.mat",
                "e26dedcc434d2e4c54c9b2d4a06d8373",
                192 * MIB,
            ),
            file(
                "test_32x32.mat",
                "eb5a983be6a315427106f1b164d9cef3",
                96 * MIB,
            ),
        ],
        source: ("svhn", ""),
        classes: &[],
    },
    Known {
        name: "imagenette",
        address: "https://s3.amazonaws.com/fast-ai-imageclas/",
        files: &[file(
            "imagenette2-320.tgz",
            "3df6f0d01a2c9592104656642f5e78a3",
            512 * MIB,
        )],
        source: ("folder", "imagenette2-320"),
        classes: &[],
    },
    Known {
        name: "imagenette-160",
        address: "https://s3.amazonaws.com/fast-ai-imageclas/",
        files: &[file(
            "imagenette2-160.tgz",
            "e793b78cc4c9e9a4ccc0c1155377a412",
            256 * MIB,
        )],
        source: ("folder", "imagenette2-160"),
        classes: &[],
    },
];

pub fn names() -> [&'static str; KNOWN.len()] {
    KNOWN.map(|known| known.name)
}

const BAR: &str = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}";

pub fn run(args: &FetchArgs) -> Result<ExitCode, Failure> {
    let Some(known) = KNOWN.iter().find(|known| known.name == args.name) else {
        let names = names().join(", ");
        return Err(Failure::usage(format!(
            "data set {}: expected one of {names}",
            args.name
        )));
    };
    let address = args.from.as_deref().unwrap_or(known.address);
    let address = format!("{}/", address.trim_end_matches('/'));
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("data").join(known.name));
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    let downloader = Downloader::new(Duration::from_secs(args.patience.into()));
    for file in known.files {
        let unpacked = unpack::is_archive(file.name).then(|| folder.join(known.source.1));
        if unpacked.as_ref().is_some_and(|folder| folder.exists()) {
            continue;
        }
        let path = folder.join(file.name);
        fetch(&downloader, &address, file, &path)?;
        if let Some(unpacked) = unpacked {
            unpack::unpack(&path, &folder, &unpacked).map_err(|problem| failed(&path, problem))?;
            fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
    }
    if !known.classes.is_empty() {
        let path = folder.join("classes.txt");
        evenkeel_record::write_atomic(&path, (known.classes.join("\n") + "\n").as_bytes())?;
    }
    let (kind, inside) = known.source;
    say(&format!("{kind}:{}", place(&folder, inside).display()))?;
    Ok(DONE)
}

fn place(folder: &Path, inside: &str) -> PathBuf {
    match inside {
        "" => folder.to_owned(),
        inside => folder.join(inside),
    }
}

fn fetch(
    downloader: &Downloader,
    address: &str,
    file: &RemoteFile,
    path: &Path,
) -> Result<(), Failure> {
    let bar = bar(BAR).with_message(file.name);
    let download = Download {
        url: &format!("{address}{}", file.name),
        md5: file.md5,
        most_bytes: file.most_bytes,
        path,
    };
    let mut show = |event: download::Event<'_>| match event {
        download::Event::Bytes { done, total } => {
            bar.set_length(total.unwrap_or(done));
            bar.set_position(done);
        }
        download::Event::Retry(problem) => {
            bar.suspend(|| tell(&format!("{problem}; trying again")))
        }
    };
    let fetched = downloader.fetch(&download, &mut show);
    bar.finish_and_clear();
    fetched.map_err(Failure::run)
}

fn failed(path: &Path, problem: impl ToString) -> Failure {
    Failure::run(format!("{}: {}", path.display(), problem.to_string()))
}

#[cfg(test)]
mod tests;
