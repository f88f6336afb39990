"""Writes the images of fixtures/encoded/ as WebDataset's writer and the Hugging Face hub's library write them,
into fixtures/sources/: the tests of the sources `tar:` and `parquet:` read them."""
import shutil
from pathlib import Path

import numpy as np
import webdataset
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from scipy.io import savemat

HERE = Path(__file__).resolve().parent / "fixtures"
SPLITS = {
    "train": [("rgb.png", 0), ("q75-s2.jpg", 1), ("lossless.webp", 2), ("gray.png", 1), ("palette.gif", 0)],
    "test": [("turned-6.jpg", 2), ("rgb-lzw.tif", 1)],
}
CLASSES = ["ant", "bee", "cat"]

shutil.rmtree(HERE / "sources", ignore_errors=True)
(HERE / "sources" / "webdataset").mkdir(parents=True)
for split, images in SPLITS.items():
    # No member's time or owner, so that the files are the same every time.
    with webdataset.TarWriter(str(HERE / "sources" / "webdataset" / f"{split}-000000.tar"), mtime=0.0) as shard:
        for index, (name, label) in enumerate(images):
            image = (HERE / "encoded" / name).read_bytes()
            # Labels as a number and in JSON; more of a sample is left alone.
            tells = {"cls": label} if index % 2 == 0 else {"json": {"label": label, "source": name}}
            shard.write({"__key__": f"{split}/{index:04d}", name.split(".")[-1]: image, **tells, "txt": name})
(HERE / "sources" / "webdataset" / "classes.txt").write_text("\n".join(CLASSES) + "\n")

features = Features({"image": Image(), "label": ClassLabel(names=CLASSES)})
for split, images in SPLITS.items():
    rows = {
        "image": [{"bytes": (HERE / "encoded" / name).read_bytes(), "path": name} for name, _ in images],
        "label": [label for _, label in images],
    }
    folder = HERE / "sources" / "hub" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")

# As SVHN's cropped digits are: by row, column, channel and image; the digit 0 has the label 10.
row, column, channel, image = np.ogrid[:32, :32, :3, :2]
digits = ((7 * row + 11 * column + 61 * channel + 100 * image) % 256).astype(np.uint8)
(HERE / "sources" / "svhn").mkdir()
for split, compressed in [("train", True), ("test", False)]:
    path = HERE / "sources" / "svhn" / f"{split}_32x32.mat"
    # An array before them, which is passed over.
    arrays = {"more": np.array([1.5]), "X": digits, "y": np.array([[10], [9]], dtype=np.uint8)}
    savemat(path, arrays, do_compression=compressed)
    # SciPy writes the time into the header.
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + path.read_bytes()[124:])
