"""Writes corpus/, the small good files that fuzzing starts from; needs numpy, pyarrow and scipy. What fuzzing
found is kept beside them in files whose names begin with «found-», which this leaves alone."""
import io
import json
import struct
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.io import savemat

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "../../reference/fixtures"
PNG = (FIXTURES / "encoded/gray-2-bits.png").read_bytes()


def write(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


for path in sorted((FIXTURES / "encoded").iterdir()):
    if path.stat().st_size < 1200 or path.name in ["rgb-lzw.tif", "frames.webp"]:
        write("decode", path.name, path.read_bytes())

for path in sorted((HERE / "../../pipelines").glob("*.toml")):
    write("pipeline_toml", path.name, path.read_text())
    write("pipeline_json", f"{path.stem}.json", json.dumps(tomllib.loads(path.read_text())))
operations = json.loads((HERE / "../augment/tests/operations.json").read_text())
for index in range(0, len(operations), 8):
    pipeline = {"operations": operations[index:index + 8], "normalize": {"mean": [0.5], "std": [0.5]}}
    write("pipeline_json", f"operations-{index}.json", json.dumps(pipeline))
draws = (HERE / "../augment/tests/pinned-draws.jsonl").read_text().splitlines()
for index in range(0, len(draws), 4):
    write("parameters", f"{index}.json", "[" + ",".join(draws[index:index + 4]) + "]")


def tar(members, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    # Two blocks of zeros are enough of the padding.
    return file.getvalue().rstrip(b"\0").ljust(1, b"\0")


def padded(content):
    return content + b"\0" * (-len(content) % 512 + 1024)


for name, kind, prefix in [("gnu", tarfile.GNU_FORMAT, ""), ("pax", tarfile.PAX_FORMAT, "long/" * 30),
                           ("ustar", tarfile.USTAR_FORMAT, "a/"), ("gnu-long", tarfile.GNU_FORMAT, "long/" * 30)]:
    members = [(f"{prefix}0.png", PNG), (f"{prefix}0.cls", b"1"), (f"{prefix}1.png", PNG),
               (f"{prefix}1.json", b'{"label": 0}')]
    write("tar", f"{name}.tar", padded(tar(members, kind)))

images = pa.array([{"bytes": PNG, "path": "a"}, {"bytes": PNG, "path": "b"}, {"bytes": None, "path": "c"}])
for name, labels, options in [
    ("snappy", pa.array([0, 1, 1]), {"compression": "snappy", "use_dictionary": False}),
    ("dictionary", pa.array(["x", "y", "x"]), {"compression": "none", "use_dictionary": True}),
    ("pages-v2", pa.array([0, 1, 1], pa.int32()), {"data_page_version": "2.0", "compression": "snappy"}),
]:
    table = pa.table({"image": images, "label": labels})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=2, store_schema=False, write_statistics=False, **options)
    write("parquet", f"{name}.parquet", file.getvalue())

write("list", "splits.csv", "path,label,split\na.png,x,train\na.png,y,train\nb/c.png,x,test\n")
write("list", "quoted.csv", '"label",path\n"a ""word""",a.png\r\nx,a.png\n' * 1 + "x,a.png\n" * 12)
write("table", "words.csv", "x,k,y\n" + "1,a,2e3\n-4.5,b,0\n" * 4)
write("table", "numbers.csv", "k, x\n" + "0, 1\n1, 2\n" * 4)

labels = struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes([0, 1, 1])
digits = struct.pack(">BBBBIII", 0, 0, 8, 3, 3, 2, 2) + bytes(range(12))
write("idx", "three", bytes([len(labels)]) + labels + digits)

X = (np.arange(32 * 32 * 3).reshape(32, 32, 3, 1) // 99 % 256).astype(np.uint8)
for name, compressed in [("compressed", True), ("plain", False)]:
    file = io.BytesIO()
    savemat(file, {"X": X, "y": np.array([[10]], dtype=np.uint8)}, do_compression=compressed)
    write("svhn", f"{name}.mat", b"MATLAB 5.0 MAT-file".ljust(124) + file.getvalue()[124:])
