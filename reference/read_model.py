"""Loads a run's model.safetensors into the same net in PyTorch and compares predictions.

    evenkeel train --out RUN
    evenkeel eval RUN --predictions RUN/predictions.csv
    python read_model.py RUN

For convnets with batch norm on the built-in images. Exits with 1 if a probability differs by more than 1e-4.
"""
import csv, gzip, json, sys, tomllib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from net import Net

run = Path(sys.argv[1])
record = json.loads((run / "run.json").read_text())
model = tomllib.loads(record["recipe"])["model"]
assert model["kind"] == "convnet" and model["norm"] == "batch", "expected a convnet with batch norm"

net = Net(model["widths"], model["pool_after"], len(record["data"]["classes"]))
net.load_state_dict(load_file(run / "model.safetensors"))  # strict: the same names and shapes
net.eval()
data = Path(__file__).resolve().parent.parent / "data" / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"
images = np.frombuffer(gzip.decompress(data.read_bytes()), np.uint8, offset=16).reshape(-1, 1, 28, 28)
mean, deviation = record["preparation"]["mean"][0], record["preparation"]["deviation"][0]
x = torch.from_numpy((images / 255.0 - mean) / deviation).float()
with torch.no_grad():
    expected = torch.cat([net(part).softmax(1) for part in x.split(500)]).numpy()
rows = list(csv.reader((run / "predictions.csv").open()))[1:]
found = np.array([[float(value) for value in row[2:]] for row in rows])
worst = np.abs(found - expected).max()
print(f"{len(found)} predictions, largest difference of a probability {worst:.2e}, torch {torch.__version__}")
sys.exit(0 if len(found) == len(expected) and worst <= 1e-4 else 1)
