"""The reference net's convolutions in PyTorch, forward and backward, as `scripts/bench-peers` times them beside ours."""
import argparse
import json
import statistics
import time

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
threads = parser.parse_args().threads
torch.set_num_threads(threads)

for layout, name in [(torch.contiguous_format, ""), (torch.channels_last, " channels_last")]:
    for channels_in, channels_out, side in [(1, 32, 28), (32, 64, 28), (64, 64, 14), (64, 128, 7)]:
        conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False).to(memory_format=layout)
        x = torch.randn(128, channels_in, side, side).to(memory_format=layout).requires_grad_()
        ones = torch.ones(128, channels_out, side, side).to(memory_format=layout)
        parts = {"forward": [], "backward": []}
        # As ours: at least three to warm up, and 0.2 s.
        began, warm = time.perf_counter(), 0
        while len(parts["forward"]) < warm + 15:
            if len(parts["forward"]) < 3 or time.perf_counter() - began < 0.2:
                warm = len(parts["forward"]) + 1
            x.grad = conv.weight.grad = None
            start = time.perf_counter()
            y = conv(x)
            parts["forward"].append(time.perf_counter() - start)
            start = time.perf_counter()
            y.backward(ones)
            parts["backward"].append(time.perf_counter() - start)
        for part, seconds in parts.items():
            print(json.dumps({"op": f"conv_3x3_to_{channels_out}/{part}", "shape": [128, channels_in, side, side],
                              "ms": round(1e3 * statistics.median(seconds[warm:]), 2),
                              "peer": f"torch {torch.__version__} {threads} threads{name}"}), flush=True)
