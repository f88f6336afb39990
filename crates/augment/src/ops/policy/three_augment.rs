//! 3-Augment: gray, solarized or blurred, then color jitter and a flip.

use crate::ops::{
    Choice, ColorJitter, GaussianBlur, Grayscale, HorizontalFlip, OneOf, Operation, Solarize,
};

/// The operations of 3-Augment, which follow a crop.
///
/// Dialect: the code of DeiT III, but for its blur, which is Pillow's approximation by means over
/// boxes. Source: Touvron, Cord and Jégou, "DeiT III: Revenge of the ViT" (2022).
pub fn three_augment() -> Vec<Operation> {
    let choice = |operation| Choice {
        weight: 1.0,
        operations: vec![operation],
    };
    vec![
        Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
        Operation::OneOf(OneOf {
            choices: vec![
                choice(Operation::Grayscale(Grayscale {})),
                choice(Operation::Solarize(Solarize {
                    threshold: [128, 128],
                })),
                choice(Operation::GaussianBlur(GaussianBlur {
                    kernel_size: 17, // four deviations to each side
                    sigma: [0.1, 2.0],
                })),
            ],
        }),
        Operation::ColorJitter(ColorJitter {
            brightness: 0.3,
            contrast: 0.3,
            saturation: 0.3,
            hue: 0.0,
        }),
    ]
}
