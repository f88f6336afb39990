"""Data in which the answer is known, made of Fashion-MNIST, and what the search says of them.

    planted.py make shift|mirror SEED FOLDER      idx folders: FOLDER/data, and FOLDER/validation for shift
    planted.py tell shift|mirror LINES.jsonl      what the searches found, of their --json lines

shift: training images are as they are; test and validation images are turned by up to 25 degrees either way and
dimmed to 0.35 to 0.65 of their brightness. mirror: of six classes two are sneakers that face left and right, so a flip
makes one of the other.
"""

import gzip
import json
import struct
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "data" / "fashion-mnist"


def read(name):
    import numpy

    bytes_ = gzip.decompress((SOURCE / name).read_bytes())
    ranks = bytes_[3]
    shape = struct.unpack(f">{ranks}I", bytes_[4 : 4 + 4 * ranks])
    return numpy.frombuffer(bytes_, numpy.uint8, offset=4 + 4 * ranks).reshape(shape)


def write(folder, train, test):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in {"train": train, "t10k": test}.items():
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.astype("uint8").tobytes())


def make(kind, seed, folder):
    import numpy
    from PIL import Image

    draws = numpy.random.default_rng(seed)
    images, labels = read("train-images-idx3-ubyte.gz"), read("train-labels-idx1-ubyte.gz")
    test_images, test_labels = read("t10k-images-idx3-ubyte.gz"), read("t10k-labels-idx1-ubyte.gz")
    order, test_order = draws.permutation(len(images)), draws.permutation(len(test_images))
    if kind == "shift":

        def shifted(batch):
            def one(image):
                angle, factor = draws.uniform(-25, 25), draws.uniform(0.35, 0.65)
                turned = Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR)
                return (numpy.asarray(turned) * factor).round().astype("uint8")

            return numpy.stack([one(image) for image in batch])

        train, held = order[:3000], order[3000:5000]
        test, other = test_order[:2000], order[5000:5100]
        clean = (images[train], labels[train])
        write(folder / "data", clean, (shifted(test_images[test]), test_labels[test]))
        validation = (shifted(images[held]), labels[held])
        write(folder / "validation", validation, (shifted(images[other]), labels[other]))
        return
    # T-shirt, trouser, dress, bag; then sneakers to the left and to the right.
    chosen = {0: 0, 1: 1, 3: 2, 8: 3, 7: 4}

    def mirrored(batch, names, count):
        keep = numpy.isin(names, list(chosen))
        batch = batch[keep].copy()[:count]
        names = numpy.array([chosen[name] for name in names[keep]])[:count]
        right = (names == 4) & (numpy.arange(len(names)) % 2 == 1)
        batch[right] = batch[right][:, :, ::-1]
        names[right] = 5
        return batch, names

    train = mirrored(images[order], labels[order], 3000)
    write(folder / "data", train, mirrored(test_images[test_order], test_labels[test_order], 2000))


def tell(kind, path):
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    right = 0
    for seed, line in enumerate(lines):
        top = [operation["name"] for operation in line["operations"]]
        none = next(d for d in line["differences"] if d["baseline"] == "no policy")["accuracy"] if line["differences"] else None
        if kind == "shift":
            places = {name: top.index(name) + 1 if name in top else None for name in ("rotate", "brightness")}
            ok = all(place is not None and place <= 5 for place in places.values())
            what = f"rotate is number {places['rotate']}, brightness {places['brightness']} of {len(top)}"
        else:
            harmed = {harm["class"] for harm in line["harms"] if harm["operation"] == "horizontal_flip"}
            others = sorted((h["operation"], h["class"]) for h in line["harms"] if h["operation"] != "horizontal_flip")
            ok = {"4", "5"} <= harmed
            what = f"flips excluded for {sorted(harmed)}; others: {others}"
        right += ok
        interval = none and none["interval"]
        gain = none and f"{100 * none['value']:+.2f} ({100 * interval['low']:+.2f} to {100 * interval['high']:+.2f})"
        print(f"seed {seed}: {what}; against no policy {gain}; {'found' if ok else 'MISSED'}")
    print(f"{right} of {len(lines)}")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        tell(sys.argv[2], sys.argv[3])
