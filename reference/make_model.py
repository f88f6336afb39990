"""Writes a small convnet's weights as PyTorch saves them, and its logits: fixtures/model.safetensors, fixtures/model.json.

The net is lab's `convnet` with widths [2, 3] and a pool after the first block, on 1×6×5 images, three classes.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from net import Net

torch.manual_seed(0)
HERE = Path(__file__).resolve().parent / "fixtures"

net = Net([2, 3], [0], 3)
for block in net.blocks:
    nn.init.uniform_(block.norm.weight, 0.5, 1.5)
    nn.init.uniform_(block.norm.bias, -0.5, 0.5)
for _ in range(5):  # so that the running statistics, and the count of batches, are not those of the start
    net(torch.randn(4, 1, 6, 5))
net.eval()
x = torch.randn(2, 1, 6, 5)
save_file(net.state_dict(), HERE / "model.safetensors")
case = {"torch": torch.__version__, "x": x.flatten().tolist(), "logits": net(x).flatten().tolist(), "batches": 5}
(HERE / "model.json").write_text(json.dumps(case, separators=(",", ":")) + "\n")
