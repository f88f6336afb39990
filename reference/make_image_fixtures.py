"""Writes what Pillow and torchvision make of small images into fixtures/images/, a file an operation.

A case holds the parameters as evenkeel-augment records them, so that replaying them is the whole test.
"""
import base64
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import AugMix, AutoAugment, RandAugment, TrivialAugmentWide
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import _apply_op

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
    "large": Image.fromarray(smooth(160, 121, 1)[:, :, 0]),
}
OPAQUE = ["photo", "gradient", "gray", "pixel", "row"]


def as_case(image):
    channels = len(image.getbands())
    pixels = base64.b64encode(np.asarray(image).tobytes()).decode()
    return {"width": image.width, "height": image.height, "channels": channels, "pixels": pixels}


def write(name, content):
    HERE.mkdir(exist_ok=True)
    cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in content)
    (HERE / f"{name}.json").write_text(f'{{"versions":{json.dumps(VERSIONS)},"cases":[\n{cases}\n]}}\n')


def operation(name, reference, settings, inputs=OPAQUE, label=None):
    """settings: pairs of the parameters to record (or of what makes them for an image) and of what makes the picture."""
    cases = []
    for parameters, function in settings:
        for key in inputs:
            output = function(INPUTS[key])
            if not isinstance(output, Image.Image):
                output = Image.fromarray(output)
            recorded = parameters(INPUTS[key]) if callable(parameters) else parameters
            cases.append({"parameters": {"op": name} | recorded, "input": key} | as_case(output))
    label = label or name
    write(label.replace(" ", "_"), [{"label": label, "reference": reference}] + cases)


for path in HERE.glob("*.json"):
    path.unlink()
write("inputs", [{"name": name} | as_case(image) for name, image in INPUTS.items()])

# Point and colour operations

EVERY = OPAQUE + ["opacity"]


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

# Geometry


def resized(image, size, filter_):
    return image.resize(size, getattr(Image, filter_.upper()))


SIZES = [(24, 17), (13, 30), (7, 5), (50, 3), (1, 1)]
for name in ["nearest", "bilinear", "bicubic", "lanczos"]:
    operation("resize", "Pillow `Image.resize`",
              [({"width": w, "height": h, "filter": name, "antialias": True},
                lambda image, w=w, h=h, name=name: resized(image, (w, h), name)) for w, h in SIZES],
              label=f"resize {name}")


def interpolated(image, size):
    tensor = F.resize(F.pil_to_tensor(image), size[::-1], F.InterpolationMode.BILINEAR, antialias=False)
    return F.to_pil_image(tensor)


operation("resize", "torchvision `resize(antialias=False)` on a tensor",
          [({"width": w, "height": h, "filter": "bilinear", "antialias": False},
            lambda image, w=w, h=h: interpolated(image, (w, h))) for w, h in SIZES],
          label="resize bilinear without antialiasing")


def resized_crop(image, left, top, width, height, to):
    return F.resized_crop(image, top, left, height, width, list(to[::-1]), F.InterpolationMode.BICUBIC)


operation("random_resized_crop", "torchvision `resized_crop`, bicubic, on a PIL image",
          [({"left": l, "top": t, "width": w, "height": h, "to_width": 12, "to_height": 9, "filter": "bicubic",
             "antialias": True}, lambda image, l=l, t=t, w=w, h=h: resized_crop(image, l, t, w, h, (12, 9)))
           for l, t, w, h in [(2, 1, 9, 5), (0, 0, 11, 6), (3, 2, 1, 3)]], ["photo", "gradient", "gray"])
operation("random_crop", "torchvision `pad` and `crop`",
          [({"left": -3, "top": -2, "width": 12, "height": 8, "mode": mode},
            lambda image, padding=padding: F.crop(F.pad(image, 4, 9, padding), 2, 1, 8, 12))
           for mode, padding in [({"constant": 9}, "constant"), ("edge", "edge"), ("reflect", "reflect")]],
          ["photo", "gradient", "gray"])
operation("pad", "torchvision `pad`",
          [(lambda image, mode=mode: {"left": -1, "top": -2, "width": image.width + 4, "height": image.height + 6,
                                      "mode": mode},
            lambda image, padding=padding: F.pad(image, [1, 2, 3, 4], 9, padding))
           for mode, padding in [({"constant": 9}, "constant"), ("edge", "edge")]])
operation("center_crop", "torchvision `center_crop`",
          [(lambda image, w=w, h=h: {"left": round((image.width - w) / 2), "top": round((image.height - h) / 2),
                                     "width": w, "height": h, "mode": {"constant": 0}},
            lambda image, w=w, h=h: F.center_crop(image, [h, w])) for w, h in [(6, 5), (11, 6), (1, 2)]],
          ["photo", "gradient", "gray"])
operation("horizontal_flip", "torchvision `hflip`", [({"flipped": True}, F.hflip)])
operation("vertical_flip", "torchvision `vflip`", [({"flipped": True}, F.vflip)])

# But for quarter turns, no map sends a pixel's centre onto the border between two pixels, where the last bit of the
# arithmetic would decide.
INTERPOLATIONS = ["nearest", "bilinear", "bicubic"]


def mode(name):
    return F.InterpolationMode(name)


def affine_map(angle=0.0, translate=(0, 0), scale=1.0, shear=(0.0, 0.0), about="middle", interpolation="nearest", fill=0):
    return {"angle": angle, "translate": list(translate), "scale": scale, "shear": list(shear), "about": about,
            "interpolation": interpolation, "fill": fill}


def rotated(image, angle, name):
    return F.rotate(image, angle, mode(name), fill=7)


def mapped(image, name, angle=0.0, translate=(0, 0), scale=1.0, shear=(0.0, 0.0), center=None):
    return F.affine(image, angle, list(translate), scale, list(shear), mode(name), 7, center)


MAPS = [{"angle": 25.0, "translate": (2, -1), "scale": 0.8, "shear": (10.0, -20.0)},
        {"angle": -140.5, "translate": (0, 3), "scale": 1.7, "shear": (0.0, 0.0)}]
WIDE = ["photo", "gradient", "gray", "row"]
for name in INTERPOLATIONS:
    operation("rotate", "torchvision `rotate`, which calls Pillow `Image.rotate`",
              [(affine_map(angle=-a, interpolation=name, fill=7),
                lambda image, a=a, name=name: rotated(image, a, name)) for a in [-31.3, 3.3, 90.0, 180.0]],
              WIDE, f"rotate {name}")
    operation("affine", "torchvision `affine` on a PIL image",
              [(affine_map(interpolation=name, fill=7, **m),
                lambda image, m=m, name=name: mapped(image, name, **m)) for m in MAPS], WIDE, f"affine {name}")
    operation("shear", "torchvision `affine` on a PIL image",
              [(affine_map(shear=s, interpolation=name, fill=7),
                lambda image, s=s, name=name: mapped(image, name, shear=s)) for s in [(16.7, 0.0), (0.0, -40.0)]],
              WIDE, f"shear {name}")
operation("affine", "torchvision `affine` on a PIL image",
          [(affine_map(fill=7, **MAPS[0]), lambda image: mapped(image, "nearest", **MAPS[0]))], ["large"],
          "affine nearest large")
operation("translate", "torchvision `affine` on a PIL image",
          [(affine_map(translate=t, fill=7), lambda image, t=t: mapped(image, "nearest", translate=t))
           for t in [(3, -2), (-40, 0)]])


def ends(image):
    """Some corners inside the image."""
    right, bottom = image.width - 1, image.height - 1
    return [[2.31, 1.17], [right - 1.23, 0.11], [right - 0.37, bottom - 2.19], [1.43, bottom - 0.29]]


def in_perspective(image, name):
    right, bottom = image.width - 1, image.height - 1
    return F.perspective(image, [[0, 0], [right, 0], [right, bottom], [0, bottom]], ends(image), mode(name), 7)


for name in INTERPOLATIONS:
    operation("perspective", "torchvision `perspective` on a PIL image",
              [(lambda image, name=name: {"corners": ends(image), "interpolation": name, "fill": 7},
                lambda image, name=name: in_perspective(image, name))],
              ["photo", "gradient", "gray"], f"perspective {name}")

# Filters and erasing

operation("gaussian_blur", "torchvision `gaussian_blur`",
          [({"kernel_size": k, "sigma": sigma}, lambda image, k=k, sigma=sigma: F.gaussian_blur(image, k, sigma))
           for k, sigma in [(3, 0.4), (5, 1.3), (9, 4.0)]], ["photo", "gradient", "gray"])


def erased(image, top, left, height, width, value):
    """torchvision's erase, which is for tensors."""
    tensor = F.pil_to_tensor(image)
    return F.to_pil_image(F.erase(tensor, top, left, height, width, torch.full((1, 1, 1), value, dtype=torch.uint8)))


operation("random_erasing", "torchvision `erase` on a tensor",
          [({"left": 2, "top": 1, "width": 7, "height": 4, "fill": {"constant": 99}, "key": [0, 0]},
            lambda image: erased(image, 1, 2, 4, 7, 99))], ["photo", "gradient", "gray"])


def compressed(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).copy()


operation("jpeg", "Pillow `save(quality=…)` and `open`",
          [({"quality": q}, lambda image, q=q: compressed(image, q)) for q in [5, 30, 75, 95, 100]])

# Policies: what torchvision's tables hold, and what its transforms do with it

WIDTH, HEIGHT = 50, 70
SPACES = {
    "auto_augment": AutoAugment()._augmentation_space(10, (HEIGHT, WIDTH)),
    "rand_augment": RandAugment()._augmentation_space(31, (HEIGHT, WIDTH)),
    "trivial_augment": TrivialAugmentWide()._augmentation_space(31),
    "aug_mix": AugMix()._augmentation_space(10, (HEIGHT, WIDTH)),
}
NAMES = {"ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x", "TranslateY": "translate_y",
         "AutoContrast": "autocontrast"}
tables = [{"policy": policy, "width": WIDTH, "height": HEIGHT, "transform": NAMES.get(name, name.lower()),
           "signed": signed, "magnitudes": [float(f"{m:.7g}") for m in magnitudes.reshape(-1).tolist()]}
          for policy, space in SPACES.items() for name, (magnitudes, signed) in space.items()]
lines = ",\n".join(json.dumps(table, separators=(",", ":")) for table in tables)
(HERE.parent / "policy_tables.json").write_text(f'{{"versions":{json.dumps(VERSIONS)},"cases":[\n{lines}\n]}}\n')


def transformed(image, name, magnitude):
    return _apply_op(image, name, magnitude, mode("bilinear"), None)


def degrees(tangent):
    return float(np.degrees(np.arctan(tangent)))


for name, transform, settings in [
    ("shear", "ShearX", [(affine_map(shear=(degrees(m), 0), about="corner", interpolation="bilinear"), m) for m in [-0.3, 0.99]]),
    ("shear", "ShearY", [(affine_map(shear=(0, degrees(m)), about="corner", interpolation="bilinear"), m) for m in [-0.99, 0.3]]),
    ("translate", "TranslateX", [(affine_map(translate=(int(m), 0), interpolation="bilinear"), m) for m in [-3.7, 2.2]]),
    ("rotate", "Rotate", [(affine_map(angle=-m, interpolation="bilinear"), m) for m in [-29.7, 133.3]]),
    ("solarize", "Solarize", [({"threshold": int(np.ceil(m))}, m) for m in [142.3, 85.0]]),
    ("posterize", "Posterize", [({"bits": m}, float(m)) for m in [2, 5]]),
]:
    operation(name, f"torchvision policies' `{transform}` on a PIL image",
              [(recorded, lambda image, transform=transform, m=m: transformed(image, transform, m))
               for recorded, m in settings], WIDE, f"policy {transform}")

# Encoded images: ../encoded/, with the pixels that Pillow reads from them in ../decoding.json

FILES = HERE.parent / "encoded"
FILES.mkdir(exist_ok=True)
for path in FILES.iterdir():
    path.unlink()
decoded = []


def read(path, colors):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):
        # `convert` cuts off what is above 255; Pillow keeps the high byte of the other 16-bit images.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB").convert("L") if colors == "gray" and image.mode == "P" else \
        image.convert({"gray": "L", "rgb": "RGB"}[colors])


def encoded(name, image, **settings):
    path = FILES / name
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        image.save(path, **settings)
    for colors in ["gray", "rgb"]:
        decoded.append({"file": name, "colors": colors} | as_case(read(path, colors)))


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png(width, height, depth, kind, rows, interlaced=False):
    """Kinds and depths that Pillow does not write."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


photo, gray = INPUTS["photo"], INPUTS["gray"]
opaque = INPUTS["opacity"]
palette = photo.quantize(16)
bilevel = gray.convert("1")
deep = (np.asarray(photo).astype(np.uint16) * 251 + 77).astype(">u2")
deep_gray = Image.fromarray(deep[:, :, 0].astype(np.uint16))
see_through = palette.copy()
see_through.info["transparency"] = 3
edge = Image.fromarray(smooth(17, 33, 3))
size = {"width": photo.width, "height": photo.height}

for quality, subsampling in [(90, 0), (75, 1), (75, 2), (30, 2)]:
    encoded(f"q{quality}-s{subsampling}.jpg", edge, quality=quality, subsampling=subsampling)
encoded("progressive.jpg", edge, quality=80, progressive=True)
encoded("restarts.jpg", edge, quality=80, restart_marker_blocks=1)
encoded("gray.jpg", gray, quality=90)
encoded("gray-progressive.jpg", gray, quality=90, progressive=True)
encoded("cmyk.jpg", photo.convert("CMYK"), quality=95)
encoded("pixel.jpg", INPUTS["pixel"])
for orientation in range(1, 9):
    encoded(f"turned-{orientation}.jpg", photo, quality=90, subsampling=0, exif=turned(orientation))

encoded("rgb.png", photo)
encoded("gray.png", gray)
encoded("opacity.png", opaque)
encoded("gray-opacity.png", opaque.convert("LA"))
encoded("palette.png", palette)
encoded("palette-4-bits.png", palette, bits=4)
encoded("palette-opacity.png", see_through)
encoded("bilevel.png", bilevel)
encoded("gray-16-bits.png", deep_gray)
encoded("rgb-16-bits.png", png(**size, depth=16, kind=2, rows=[row.tobytes() for row in deep]))
encoded("gray-opacity-16-bits.png",
        png(**size, depth=16, kind=4, rows=[row.tobytes() for row in np.ascontiguousarray(deep[:, :, :2])]))
encoded("gray-2-bits.png", png(9, 2, depth=2, kind=0, rows=[bytes([0b00011011, 0b11100100, 0b01000000])] * 2))
encoded("turned.png", photo, exif=turned(6))

encoded("lossless.webp", photo, lossless=True)
encoded("lossless-opacity.webp", opaque, lossless=True, exact=True)
encoded("lossy.webp", edge, quality=80)
encoded("lossy-opacity.webp", opaque, quality=80)
encoded("turned.webp", photo, lossless=True, exif=turned(3))
encoded("frames.webp", photo, lossless=True, save_all=True, append_images=[photo.rotate(180)])

encoded("rgb.bmp", photo)
encoded("gray.bmp", gray)
encoded("palette.bmp", palette)
encoded("bilevel.bmp", bilevel)

encoded("rgb.tif", photo)
encoded("rgb-lzw.tif", photo, compression="tiff_lzw")
encoded("rgb-deflate.tif", photo, compression="tiff_adobe_deflate")
encoded("rgb-packbits.tif", photo, compression="packbits")
encoded("gray.tif", gray)
encoded("gray-16-bits.tif", deep_gray)
encoded("opacity.tif", opaque)
encoded("cmyk.tif", photo.convert("CMYK"))
encoded("palette.tif", palette)
encoded("bilevel.tif", bilevel)
encoded("turned.tif", photo, exif=turned(8))

encoded("palette.gif", palette)
encoded("opacity.gif", see_through, transparency=3)
encoded("frames.gif", palette, save_all=True, append_images=[palette.rotate(180)])
encoded("interlaced.gif", palette, interlace=True)

write("../decoding", decoded)
