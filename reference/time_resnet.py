"""One training step of ResNet-18 on small images in PyTorch, as `scripts/bench-peers` times it beside ours."""
import argparse
import json
import statistics
import time

import torch
from torch import nn

from resnet import ResNet18

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
threads = parser.parse_args().threads
torch.set_num_threads(threads)

for layout, name in [(torch.contiguous_format, ""), (torch.channels_last, " channels_last")]:
    net = ResNet18(3, 64, "small", 10).to(memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    x = torch.randn(64, 3, 32, 32).to(memory_format=layout)
    y = torch.randint(0, 10, (64,))
    seconds = []
    for repeat in range(10):
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[3:])
    print(json.dumps({"op": "train_step/resnet18", "shape": [64, 3, 32, 32], "ms": round(1e3 * median, 2),
                      "peer": f"torch {torch.__version__} {threads} threads{name}"}), flush=True)
