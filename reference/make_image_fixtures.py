"""Writes what Pillow and torchvision make of small images into fixtures/images/, a file an operation.

A case holds the parameters as evenkeel-augment records them, so that replaying them is the whole test.
"""
import base64
import json
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import functional as F

HERE = Path(__file__).resolve().parent / "fixtures" / "images"
VERSIONS = {"pillow": PIL.__version__, "torchvision": torchvision.__version__.split("+")[0]}
random = np.random.default_rng(0)


def smooth(width, height, channels):
    """Photo-like: smooth shapes, a little grain, levels from black to white."""
    coarse = random.uniform(0, 255, (height // 6 + 2, width // 6 + 2, channels)).astype(np.uint8)
    planes = [Image.fromarray(coarse[:, :, c]).resize((width, height), Image.BICUBIC) for c in range(channels)]
    levels = np.stack([np.asarray(plane, dtype=float) for plane in planes], 2)
    levels = (levels - levels.min()) * (255 / (levels.max() - levels.min())) + random.normal(0, 3, levels.shape)
    return levels.round().clip(0, 255).astype(np.uint8)


def gradient(width, height):
    x, y = np.meshgrid(np.linspace(20, 230, width), np.linspace(0, 1, height))
    return np.stack([x, 250 - x, x * y], 2).round().astype(np.uint8)


INPUTS = {
    "photo": Image.fromarray(smooth(24, 17, 3)),
    "gradient": Image.fromarray(gradient(21, 6)),
    "gray": Image.fromarray(smooth(11, 19, 1)[:, :, 0]),
    "pixel": Image.fromarray(np.array([[[200, 30, 90]]], dtype=np.uint8)),
    "row": Image.fromarray(np.array([[0, 9, 77, 78, 200, 255, 131]], dtype=np.uint8)),
    "opacity": Image.fromarray(smooth(9, 8, 4)),
}
OPAQUE = [name for name in INPUTS if name != "opacity"]


def as_case(image):
    channels = len(image.getbands())
    pixels = base64.b64encode(np.asarray(image).tobytes()).decode()
    return {"width": image.width, "height": image.height, "channels": channels, "pixels": pixels}


def write(name, content):
    HERE.mkdir(exist_ok=True)
    cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in content)
    (HERE / f"{name}.json").write_text(f'{{"versions":{json.dumps(VERSIONS)},"cases":[\n{cases}\n]}}\n')


def operation(name, reference, settings, inputs=OPAQUE, label=None):
    """settings: pairs of the parameters to record and of what makes the picture in Python."""
    cases = []
    for parameters, function in settings:
        for key in inputs:
            output = function(INPUTS[key])
            if not isinstance(output, Image.Image):
                output = Image.fromarray(output)
            cases.append({"parameters": {"op": name} | parameters, "input": key} | as_case(output))
    label = label or name
    write(label.replace(" ", "_"), [{"label": label, "reference": reference}] + cases)


for path in HERE.glob("*.json"):
    path.unlink()
write("inputs", [{"name": name} | as_case(image) for name, image in INPUTS.items()])

# Point and colour operations

EVERY = list(INPUTS)


def factors(name, function, enhancer, factors_):
    operation(name, f"torchvision `{function.__name__}`, which calls Pillow `ImageEnhance.{enhancer}`",
              [({"factor": f}, lambda image, f=f: function(image, f)) for f in factors_], EVERY)


factors("brightness", F.adjust_brightness, "Brightness", [0.0, 0.37, 1.0, 1.9])
factors("contrast", F.adjust_contrast, "Contrast", [0.0, 0.37, 1.0, 1.9])
factors("saturation", F.adjust_saturation, "Color", [0.0, 0.37, 1.0, 1.9])
factors("sharpness", F.adjust_sharpness, "Sharpness", [0.0, 0.37, 1.0, 1.9])
operation("hue", "torchvision `adjust_hue` on a PIL image",
          [({"shift": s}, lambda image, s=s: F.adjust_hue(image, s)) for s in [-0.5, -0.23, -0.01, 0.07, 0.4, 0.5]])
operation("gamma", "torchvision `adjust_gamma` on a PIL image",
          [({"gamma": g}, lambda image, g=g: F.adjust_gamma(image, g)) for g in [0.4, 1.0, 2.2]])
operation("grayscale", "torchvision `to_grayscale`, which calls Pillow `convert('L')`",
          [({}, lambda image: F.to_grayscale(image, len(image.getbands())))])
operation("invert", "Pillow `ImageOps.invert`", [({}, ImageOps.invert)])
operation("equalize", "Pillow `ImageOps.equalize`", [({}, ImageOps.equalize)])
operation("autocontrast", "Pillow `ImageOps.autocontrast`", [({}, ImageOps.autocontrast)])
operation("posterize", "Pillow `ImageOps.posterize`",
          [({"bits": b}, lambda image, b=b: ImageOps.posterize(image, b)) for b in [1, 3, 4, 7, 8]])
operation("solarize", "Pillow `ImageOps.solarize`",
          [({"threshold": t}, lambda image, t=t: ImageOps.solarize(image, t)) for t in [0, 1, 110, 255, 256]])
jitter = [{"op": "saturation", "factor": 1.3}, {"op": "hue", "shift": -0.04},
          {"op": "brightness", "factor": 0.8}, {"op": "contrast", "factor": 1.2}]


def jittered(image):
    image = F.adjust_hue(F.adjust_saturation(image, 1.3), -0.04)
    return F.adjust_contrast(F.adjust_brightness(image, 0.8), 1.2)


operation("color_jitter", "torchvision `ColorJitter`'s steps on a PIL image", [({"steps": jitter}, jittered)])


def shifted(image, shift):
    """Krizhevsky's formula in floating point; torchvision and Pillow have none."""
    if image.mode == "L":
        return image
    return np.floor(np.asarray(image) + np.array(shift) + 0.5).clip(0, 255).astype(np.uint8)


operation("lighting", "the paper's formula in NumPy",
          [({"shift": s}, lambda image, s=s: shifted(image, s)) for s in [[0, 0, 0], [-20.25, 3.1, 60.7]]])
