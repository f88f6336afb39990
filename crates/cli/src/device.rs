//! Where to compute.

use burn::tensor::Device;

use crate::args::{DeviceKind, MachineArgs};
use crate::exit::Failure;

/// The device and its name. The CPU is named explicitly: Burn's default device prefers any GPU
/// backend that happens to be compiled in.
pub fn device(kind: DeviceKind) -> Result<(Device, &'static str), Failure> {
    match kind {
        DeviceKind::Cpu => Ok((Device::flex(), "cpu")),
        #[cfg(feature = "wgpu")]
        DeviceKind::Wgpu => Ok((Device::wgpu(Default::default()), "wgpu")),
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => Ok((Device::cuda(0), "cuda")),
        #[allow(
            unreachable_patterns,
            reason = "none is left where all features are on"
        )]
        other => {
            let name = format!("{other:?}").to_lowercase();
            Err(Failure::usage(format!(
                "--device {name}: this program was built without it; build it with \
                 `--features {name}`, or use --device cpu"
            )))
        }
    }
}

/// Sets the threads of the computation, as many as there are cores unless told; returns how many there are.
pub fn threads(args: &MachineArgs) -> Result<usize, Failure> {
    // 0 is rayon's word for as many as there are cores.
    use_threads(args.threads.map_or(0, usize::from))?;
    Ok(rayon::current_num_threads())
}

/// Sets the threads of the computation. The calling one is among them: otherwise it would sleep while the others compute,
/// and waking takes longer than many an operation.
pub fn use_threads(threads: usize) -> Result<(), Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.use_current_thread()
        .build_global()
        .map_err(Failure::run)
}
