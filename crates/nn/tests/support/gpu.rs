//! The GPU that tests run on.

use burn::tensor::{Device, DeviceType};
use std::io::Write;

/// The first device of wgpu's, which may be Mesa's software Vulkan.
///
/// Where there is none, says that `test` is skipped, past the test harness's capture; and fails if the
/// environment says that there has to be one.
pub fn device(test: &str) -> Option<Device> {
    let device = Device::enumerate(DeviceType::Wgpu).into_iter().next();
    if device.is_none() {
        let required = ["EVENKEEL_REQUIRE_GPU", "CI"];
        let required = required
            .iter()
            .find(|name| std::env::var_os(name).is_some());
        assert!(
            required.is_none(),
            "{test}: wgpu finds no device, and {required:?} is set; scripts/setup-vulkan installs \
             Mesa's software Vulkan"
        );
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED {test}: wgpu finds no device; scripts/setup-vulkan installs Mesa's software \
             Vulkan\n"
        );
    }
    device
}
