"""Writes small ResNet-18s as PyTorch saves them, and what they compute: fixtures/resnet_{small,large}.{safetensors,json}.

The training pass comes after the test pass, so that both are of the weights in the file.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from resnet import ResNet18

torch.manual_seed(0)
HERE = Path(__file__).resolve().parent / "fixtures"

shapes = {name: value.shape for name, value in ResNet18(3, 64, "large", 1000).state_dict().items()}
assert shapes == {name: value.shape for name, value in resnet18().state_dict().items()}, "not torchvision's"

for stem, size in [("small", (7, 6)), ("large", (40, 33))]:
    net = ResNet18(2, 3, stem, 4)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    for _ in range(5):
        net(torch.randn(6, 2, *size))
    x = torch.randn(3, 2, *size)
    save_file(net.state_dict(), HERE / f"resnet_{stem}.safetensors")
    test = net.eval()(x)
    train = net.train()(x)
    state = {name: value.tolist() for name, value in net.state_dict().items() if "running_" in name}
    digits = lambda tensor: [float(f"{value:.9g}") for value in tensor.flatten().tolist()]
    case = {"torch": torch.__version__, "size": size, "x": digits(x), "test": digits(test), "train": digits(train),
            "running": {name: [float(f"{v:.9g}") for v in values] for name, values in state.items()}}
    (HERE / f"resnet_{stem}.json").write_text(json.dumps(case, separators=(",", ":")) + "\n")
