"""The default recipe and its baseline in PyTorch: the same net, data, augmentation, schedule and decay.

    python twin.py --seed 0              # the recipe, evaluated on the test images
    python twin.py --seed 0 --baseline   # batch norm alone: no augmentation, decay or smoothing
    python twin.py --validation 0.2      # evaluated on held-out training images, to choose by

Prints one JSON line. Needs torch and numpy, and the IDX files of Fashion-MNIST in --data.
"""
import argparse, gzip, json, math, time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

here = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.add_argument("--data", type=Path, default=here / "../../data/fashion-mnist")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--baseline", action="store_true")
parser.add_argument("--validation", type=float, default=0.0, help="share of the training data held out")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--widths", type=int, nargs="+", default=[24, 48, 64, 96])
parser.add_argument("--pools", type=int, nargs="*", default=[0, 1])
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--peak", type=float, default=0.2)
parser.add_argument("--warmup", type=float, default=0.2)
parser.add_argument("--decay", type=float, default=2e-3)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--flip", type=float, default=0.0)
parser.add_argument("--padding", type=int, default=0)
parser.add_argument("--cutout", type=int, default=6)
parser.add_argument("--cutout-probability", type=float, default=0.5)
parser.add_argument("--ema", type=float, default=0.0)
options = parser.parse_args()
if options.baseline:
    options.peak = 0.1  # the better of 0.1 and 0.2 on held-out images
    options.decay = options.smoothing = options.dropout = options.flip = options.ema = 0.0
    options.padding = options.cutout = 0
torch.set_num_threads(options.threads)
torch.manual_seed(options.seed)
random = np.random.default_rng(options.seed)


def idx(pattern):
    raw = gzip.decompress(next(options.data.glob(pattern)).read_bytes())
    dims = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(dims)).reshape(dims)


train_x, train_y = idx("train-images*")[:10_000], idx("train-labels*")[:10_000]
test_x, test_y = idx("t10k-images*"), idx("t10k-labels*")
if options.validation:
    held = np.zeros(len(train_y), bool)
    split = np.random.default_rng(12345)
    for label in range(10):
        members = np.flatnonzero(train_y == label)
        held[split.permutation(members)[:round(options.validation * len(members))]] = True
    test_x, test_y, train_x, train_y = train_x[held], train_y[held], train_x[~held], train_y[~held]
mean, std = train_x.mean() / 255, train_x.std() / 255


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        channels = [1, *options.widths]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(channels, channels[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in channels[1:])
        self.head = nn.Linear(channels[-1], 10)
        nn.init.zeros_(self.head.bias)  # the convolutions' and the head's weights start as PyTorch's do

    def forward(self, x):
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = F.relu(norm(conv(x)))
            if i in options.pools:
                x = F.max_pool2d(x, 2)
        return self.head(F.dropout(x.mean((2, 3)), options.dropout, self.training))


def augment(images):
    n = len(images)
    images = np.where((random.random(n) < options.flip)[:, None, None], images[:, :, ::-1], images)
    if options.padding:
        p = options.padding
        padded = np.pad(images, ((0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), axis=(1, 2))
        images = windows[np.arange(n), random.integers(0, 2 * p + 1, n), random.integers(0, 2 * p + 1, n)]
    if options.cutout:
        images = images.copy()
        for i in np.flatnonzero(random.random(n) < options.cutout_probability):
            top, left = random.integers(0, 28, 2) - options.cutout // 2
            images[i, max(top, 0):top + options.cutout, max(left, 0):left + options.cutout] = 0
    return images


def tensor(images):
    x = torch.from_numpy((images.astype(np.float32) / 255 - mean) / std).float()[:, None]
    return x.to(memory_format=torch.channels_last)


def accuracy(net, images, labels):
    net.eval()
    with torch.no_grad():
        right = sum((net(tensor(images[i:i + 500])).argmax(1).numpy() == labels[i:i + 500]).sum()
                    for i in range(0, len(images), 500))
    return right / len(images)


def factor(step, steps, start=0.04, end=0.001):
    p, w = step / steps, options.warmup
    if p < w:
        return start + (1 - start) * p / w
    return end + (1 - end) * (1 + math.cos(math.pi * (p - w) / (1 - w))) / 2


net = Net().to(memory_format=torch.channels_last)
weights = [p for p in net.parameters() if p.ndim > 1]
others = [p for p in net.parameters() if p.ndim <= 1]
optimizer = torch.optim.SGD([{"params": weights, "weight_decay": options.decay}, {"params": others}],
                            options.peak, momentum=0.9, nesterov=True)
average = [p.detach().clone() for p in net.parameters()]
batches = len(train_y) // options.batch
steps, step, started = options.epochs * batches, 0, time.time()
for epoch in range(options.epochs):
    order = random.permutation(len(train_y))
    net.train()
    for b in range(batches):
        chosen = order[b * options.batch:(b + 1) * options.batch]
        for group in optimizer.param_groups:
            group["lr"] = options.peak * factor(step, steps)
        logits = net(tensor(augment(train_x[chosen])))
        loss = F.cross_entropy(logits, torch.from_numpy(train_y[chosen]).long(), label_smoothing=options.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if options.ema:
            keep = min(options.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for a, p in zip(average, net.parameters()):
                    a.mul_(keep).add_(p, alpha=1 - keep)
        step += 1
seconds = time.time() - started
if options.ema:
    with torch.no_grad():
        for a, p in zip(average, net.parameters()):
            p.copy_(a)
        for norm in net.norms:
            norm.reset_running_stats()
            norm.momentum = None
        net.train()
        for i in range(0, len(train_y), 256):
            net(tensor(train_x[i:i + 256]))
print(json.dumps({"test_accuracy": accuracy(net, test_x, test_y), "train_accuracy": accuracy(net, train_x, train_y),
                  "seconds": round(seconds, 1), "torch": torch.__version__,
                  **{k: v for k, v in vars(options).items() if k != "data"}}), flush=True)
