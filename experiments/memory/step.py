"""PyTorch's side of crates/lab/examples/step_memory.rs: step.py convnet|resnet18 BATCH [channels_last]"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[2] / "reference"))
from resnet import ResNet18

torch.set_num_threads(2)
name, batch = sys.argv[1], int(sys.argv[2])
layout = torch.channels_last if "channels_last" in sys.argv else torch.contiguous_format


def kilobytes(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what))


def convnet():
    layers, channels = [], (1, 32, 64, 64, 128)
    for i, (before, after) in enumerate(zip(channels, channels[1:])):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        if i in (1, 2):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


net, image = {"convnet": (convnet, (1, 28, 28)), "resnet18": (lambda: ResNet18(3, 64, "small", 10), (3, 32, 32))}[name]
net = net().to(memory_format=layout)
optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
x = torch.randn(batch, *image).to(memory_format=layout)
y = torch.arange(batch) % 10
before = kilobytes("VmRSS")
for _ in range(10):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
print(f"{name}, batch {batch}: {(kilobytes('VmHWM') - before) // 1024} MiB")
