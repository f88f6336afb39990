"""The lab's `convnet` with batch norm, in PyTorch."""
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, before, after, pool):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.halve = pool

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return F.max_pool2d(x, 2) if self.halve else x


class Net(nn.Module):
    def __init__(self, widths, pool_after, classes):
        super().__init__()
        pairs = zip([1, *widths], widths)
        self.blocks = nn.Sequential(*(Block(a, b, i in pool_after) for i, (a, b) in enumerate(pairs)))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))
