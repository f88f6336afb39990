//! The machine that a run was made on.

use std::fs;

use serde::{Deserialize, Serialize};

/// What a time or a throughput depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `linux`, `macos`, ...
    pub os: String,
    /// `x86_64`, `aarch64`, ...
    pub arch: String,
    /// The processor's name, where the system tells.
    pub cpu: String,
    /// Processors available to the process.
    pub cores: usize,
    /// The machine's memory, where the system tells.
    pub memory_bytes: Option<u64>,
    /// Threads of the computation.
    pub threads: usize,
    /// `cpu`, `wgpu`, `cuda`.
    pub device: String,
}

impl Machine {
    /// This machine.
    pub fn here(threads: usize, device: &str) -> Self {
        let cpu = proc_field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
        Self {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu,
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: proc_field("/proc/meminfo", "MemTotal").and_then(|size| kilobytes(&size)),
            threads,
            device: device.into(),
        }
    }
}

/// The most memory that this process has had resident, in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    proc_field("/proc/self/status", "VmHWM").and_then(|size| kilobytes(&size))
}

fn proc_field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kilobytes(size: &str) -> Option<u64> {
    Some(size.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
