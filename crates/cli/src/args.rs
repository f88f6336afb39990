//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use evenkeel_lab::average::{Noise, TestViews};

/// Train with noise; test with its average. Trains well-regularized classifiers and shows what
/// they learned.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = BEGIN)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const BEGIN: &str = "To begin: `evenkeel train` trains the default recipe on data that come with the \
                     program and names the report to open.";

#[derive(Subcommand)]
pub enum Command {
    /// Train a net into a run's folder, with a report to look at
    Train(TrainArgs),
    /// Measure a finished run's model
    Eval(EvalArgs),
    /// Compare finished runs: means over seeds, paired differences, corrected p-values
    Compare(CompareArgs),
    /// Train arms that change a recipe, each over the same seeds, and compare them
    Ablate(AblateArgs),
    /// Find the augmentation policy that a data set wants, on its training data alone
    Search(SearchArgs),
    /// Do trials of a search, for a parent process
    #[command(hide = true)]
    Trial(TrialArgs),
    /// Write a run's report anew
    Report(ReportArgs),
    /// Look at a finished run with instruments: shifts, landscapes, redundancy, modes
    Probe(ProbeArgs),
    /// Look for what is wrong with a finished run: evidence, likely cause and remedy of each finding
    Doctor(DoctorArgs),
    /// Fold a run's batch norms into the layers before them, for deployment
    Fold(FoldArgs),
    /// List, fetch and check data sources
    #[command(subcommand)]
    Data(DataCommand),
    /// List and show the recipes that come with the program
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// Draw a contact sheet: images of a source beside augmented views of them
    Preview(PreviewArgs),
    /// Write augmented copies of a source's training images, with a manifest that makes them again
    Augment(AugmentArgs),
    /// List and show the augmentation pipelines that come with the program
    #[command(subcommand)]
    Pipeline(PipelineCommand),
}

#[derive(clap::Args)]
pub struct TrainArgs {
    /// A recipe file (TOML), or the name of a built-in recipe [default: default]
    pub recipe: Option<String>,
    /// Where the data come from; see `evenkeel data list` [default: the recipe's]
    #[arg(long, value_name = "SOURCE")]
    pub data: Option<String>,
    /// The run's folder, which must not hold a run yet [default: runs/ and the time in UTC]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Passes over the training data [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// The root of all randomness [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Change a key of the recipe, such as optimizer.learning_rate=0.05; repeatable. `evenkeel recipe
    /// show default` shows keys
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Augment by a pipeline instead of the recipe's operations: a file (TOML or JSON), such as a search's
    /// policy.toml, or the name of a built-in one; see `evenkeel pipeline list`
    #[arg(long, value_name = "FILE|NAME")]
    pub pipeline: Option<String>,
    /// Go on with an interrupted run, to the same weights as without the interruption
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = ["recipe", "data", "out", "epochs", "seed", "settings", "pipeline"]
    )]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object at the end instead of the summary
    #[arg(long)]
    pub json: bool,
    /// Write the metrics as TensorBoard's event files too, in the run's folder tensorboard/
    #[arg(long)]
    pub tensorboard: bool,
    /// Stop, with a checkpoint, when the standard input ends: how a parent process stops its trainings, and they
    /// stop if it is killed
    #[arg(long, hide = true)]
    pub stop_with_input: bool,
}

/// How to compute; the result is the same for any of it on one kind of device.
#[derive(clap::Args)]
pub struct MachineArgs {
    /// Threads of the computation [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Threads that prepare batches; 0 prepares them between the steps
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(0..=1024)
    )]
    pub workers: u16,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    Cpu,
    Wgpu,
    Cuda,
}

#[derive(clap::Args)]
pub struct EvalArgs {
    /// A finished run's folder
    pub run: PathBuf,
    /// Measure on the test data of another source; see `evenkeel data list`
    #[arg(long, value_name = "SOURCE")]
    pub data: Option<String>,
    /// Average predictions over views of each image: none, flip, ten-crop, multi-scale, dense (larger images at
    /// once, for nets that end in global average pooling), or a TOML or JSON file such as `views = { ten_crop = {
    /// height = 24, width = 24 } }`
    #[arg(long, value_name = "VIEWS|FILE", default_value = "none")]
    pub tta: TestViews,
    /// Average over N draws of the noise that the net was trained with, for each view
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub mc: u64,
    /// Which noise: masks (dropout, DropConnect), batches (batch norms use the statistics of another training batch
    /// for each draw), or all that the net was trained with
    #[arg(
        long,
        value_name = "all|masks|batches",
        default_value = "all",
        requires = "mc"
    )]
    pub mc_noise: Noise,
    /// What is averaged
    #[arg(long, value_enum, default_value_t = Average::Probabilities)]
    pub average: Average,
    /// The seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Write the label and the probabilities of each example as CSV
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Average {
    /// Their arithmetic mean
    Probabilities,
    /// Their mean, which is the geometric mean of the probabilities
    Logits,
}

#[derive(clap::Args)]
pub struct CompareArgs {
    /// Finished runs' folders, the baseline first; runs that differ in their seed only are one arm
    #[arg(required = true, num_args = 2..)]
    pub runs: Vec<PathBuf>,
    /// Write a page with a forest plot and learning curves
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the table as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct AblateArgs {
    /// A recipe file (TOML), or the name of a built-in recipe
    pub recipe: String,
    /// The arms: norms, regularizers, augmentations, one-out, one-in, or a TOML file of [[arm]] with name and
    /// set = ["key=value"], the baseline first
    #[arg(long, value_name = "SET|FILE", required_unless_present = "arm")]
    pub arms: Option<String>,
    /// One arm more, as 'NAME: KEY=VALUE; KEY=VALUE'; repeatable. Without --arms the recipe is the baseline
    #[arg(long, value_name = "ARM")]
    pub arm: Vec<String>,
    /// Runs of each arm: the recipe's seed and those after it
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub seeds: u64,
    /// Where the data come from [default: the recipe's]
    #[arg(long, value_name = "SOURCE")]
    pub data: Option<String>,
    /// Change a key of the recipe in all arms; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The ablation's folder; the same command goes on with what is missing in it [default: ablations/ and the
    /// names of recipe and arms]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub jobs: JobArgs,
    /// Print one JSON object at the end instead of the table
    #[arg(long)]
    pub json: bool,
}

/// How to compute what is several processes' work.
#[derive(clap::Args)]
pub struct JobArgs {
    /// Trainings at a time, each a process of its own [default: one a core, or one on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Threads of each training [default: the cores divided by the jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
}

#[derive(clap::Args)]
pub struct SearchArgs {
    /// Where the images come from; see `evenkeel data list` [default: the recipe's]
    pub source: Option<String>,
    /// The recipe that the policy is for: a file (TOML), or the name of a built-in one
    #[arg(long, value_name = "RECIPE", default_value = "default")]
    pub recipe: String,
    /// Change a key of the recipe; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// How to search
    #[arg(long, value_enum, default_value_t = SearchMethod::Density)]
    pub method: SearchMethod,
    /// The time for the search, such as 90s, 30m or 2h; the final comparison comes after it
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = seconds)]
    pub budget: u64,
    /// Candidates at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub candidates: u64,
    /// What to choose from: TOML with any of transforms, steps, levels and sub_policies
    #[arg(long, value_name = "FILE")]
    pub space: Option<PathBuf>,
    /// The root of all randomness
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Parts of the training data, each held out from one net that scores candidates
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub folds: u64,
    /// Labelled images like those of the test, but others: score candidates on its training images instead of
    /// held-out ones
    #[arg(long, value_name = "SOURCE")]
    pub validation: Option<String>,
    /// Held-out images that a candidate is scored on
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub images: usize,
    /// Views of each
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub draws: u64,
    /// Runs of each arm of the final comparison, on all training data and the test data
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,
    /// Go on with the search of this folder, to the same result
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = [
            "source", "recipe", "settings", "method", "budget", "candidates", "space", "seed", "folds", "validation",
            "images", "draws", "seeds", "out"
        ]
    )]
    pub resume: Option<PathBuf>,
    /// The search's folder [default: searches/ and the time in UTC]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub jobs: JobArgs,
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SearchMethod {
    /// Score candidates by nets trained without them, on images these have not seen (Fast AutoAugment)
    Density,
    /// Move a distribution of policies towards those whose short trainings do well (AutoAugment, scaled down)
    Controller,
    /// Train with each count and strength of transforms (RandAugment)
    Grid,
    /// Train many recipes shortly, the best of them longer (successive halving)
    Halving,
    /// Train shortly with policies at random: the control
    Random,
}

/// Seconds of `90s`, `30m` or `2h`.
fn seconds(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a time such as 90s, 30m or 2h, found {text}");
    let unit = text.chars().last().ok_or_else(expected)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(expected()),
    };
    let number = text.trim_end_matches(unit).parse::<u64>();
    let seconds = number.ok().and_then(|number| number.checked_mul(each));
    seconds
        .filter(|seconds| (1..=365 * 86400).contains(seconds))
        .ok_or_else(expected)
}

/// Does the trials that come in on the standard input: a line of JSON each, answered by one.
#[derive(clap::Args)]
pub struct TrialArgs {
    /// A folder for trained nets
    #[arg(long, value_name = "DIR")]
    pub nets: PathBuf,
    /// Threads of the computation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
}

#[derive(clap::Args)]
pub struct ReportArgs {
    /// A run's folder
    pub run: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct ProbeArgs {
    /// A finished run's folder, to which probe.json is written, and its report anew
    pub run: PathBuf,
    /// Instruments by name, with commas between them [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct DoctorArgs {
    /// A finished run's folder, to which doctor.json is written, and its report anew
    pub run: PathBuf,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct FoldArgs {
    /// A finished run's folder, to which folded.safetensors is written
    pub run: PathBuf,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct ListArgs {
    /// Print one JSON array instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum DataCommand {
    /// List the kinds of sources
    List(ListArgs),
    /// Fetch a public data set from its official address and say the source that it is
    Fetch(FetchArgs),
    /// Read a source, count what is in it and look for what would spoil a training
    Check {
        /// The source, as `evenkeel data list` shows them
        source: String,
        /// Print one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
pub struct FetchArgs {
    /// Its name
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::fetch::names()))]
    pub name: String,
    /// The folder for it [default: data/ and its name]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Another address of the same files, such as a mirror's; checksums hold for it too
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Seconds to wait for a server that sends nothing
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub patience: u16,
}

#[derive(Subcommand)]
pub enum RecipeCommand {
    /// List the built-in recipes
    List(ListArgs),
    /// Print a built-in recipe
    Show {
        /// Its name
        name: String,
    },
}

#[derive(clap::Args)]
pub struct PreviewArgs {
    /// Where the images come from; see `evenkeel data list`
    pub source: String,
    /// A pipeline file (TOML or JSON), or the name of a built-in one; see `evenkeel pipeline list`
    #[arg(long, value_name = "FILE|NAME")]
    pub pipeline: String,
    /// The sheet, a PNG file
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Images, a row each
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub samples: u16,
    /// Views of each image
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub views: u16,
    /// Chooses the images and what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct AugmentArgs {
    /// Where the images come from; see `evenkeel data list`
    pub source: String,
    /// A pipeline file (TOML or JSON), or the name of a built-in one; see `evenkeel pipeline list`
    #[arg(long, value_name = "FILE|NAME", required_unless_present = "replay")]
    pub pipeline: Option<String>,
    /// The folder, which must be empty or not there yet: train/ with a folder a class, and manifest.jsonl
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Copies of each training image [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub copies: Option<u64>,
    /// The root of all randomness [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Make the copies of a manifest again instead
    #[arg(long, value_name = "MANIFEST", conflicts_with_all = ["pipeline", "copies", "seed"])]
    pub replay: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum PipelineCommand {
    /// List the built-in pipelines
    List(ListArgs),
    /// Print a built-in pipeline
    Show {
        /// Its name
        name: String,
    },
}
