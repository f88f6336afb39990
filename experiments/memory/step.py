"""PyTorch's side of crates/lab/examples/step_memory.rs: step.py convnet|resnet18 BATCH [channels_last]"""

import sys

import torch
from torch import nn

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


class Basic(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.down = None
        if stride != 1 or before != after:
            self.down = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + (self.down(x) if self.down else x))


def resnet18():
    blocks, before = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
    for after, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        blocks += [Basic(before, after, stride), Basic(after, after, 1)]
        before = after
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


net, image = {"convnet": (convnet, (1, 28, 28)), "resnet18": (resnet18, (3, 32, 32))}[name]
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
