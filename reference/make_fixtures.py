"""Writes what PyTorch computes for the operations of evenkeel-nn into fixtures/: inputs, outputs, gradients."""
import json
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
HERE = Path(__file__).resolve().parent / "fixtures"


def numbers(tensor):
    return [float(f"{value:.14g}") for value in tensor.detach().flatten().tolist()]


def nullable(tensor):
    """NaN has no name in JSON: null stands for it."""
    return [None if value != value else value for value in numbers(tensor)]


def write(name, cases):
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / f"{name}.json").write_text(f'{{"torch":"{torch.__version__}","cases":[\n{lines}\n]}}\n')


def batch_norm(shape, momentum=0.1, affine=True, relu=False, epsilon=1e-5, offset=0.0, batches=3):
    """Some training batches in a row, the gradients of the last one, then a test batch and its gradients."""
    make = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    layer = make(shape[1], eps=epsilon, momentum=momentum, affine=affine)
    if affine:
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(0.5, 1.5, shape[1]))
            layer.bias.copy_(torch.linspace(-0.4, 0.6, shape[1]))
    case = {"shape": shape, "momentum": momentum, "affine": affine, "relu": relu, "epsilon": epsilon}
    inputs = []

    def run():
        x = (torch.randn(shape) * 2 + offset).requires_grad_()
        inputs.append(numbers(x))
        layer.zero_grad()
        y = layer(x)
        if relu:
            y = F.relu(y)
        dy = torch.linspace(-1, 1, y.numel()).reshape(shape) ** 3
        y.backward(dy)
        gradients = {"x": numbers(x.grad)}
        if affine:
            gradients |= {"weight": numbers(layer.weight.grad), "bias": numbers(layer.bias.grad)}
        return {"output": numbers(y), "gradients": gradients}

    layer.train()
    for _ in range(batches):
        case["train"] = run()
    case |= {"running_mean": numbers(layer.running_mean), "running_var": numbers(layer.running_var)}
    layer.eval()
    case["test"] = run()
    return case | {"inputs": inputs}


write("batch_norm", [
    batch_norm([6, 4]),
    batch_norm([5, 3, 7]),
    batch_norm([4, 3, 2, 5]),
    batch_norm([2, 3, 2, 2, 3]),
    batch_norm([3, 20, 5, 4], relu=True),
    batch_norm([4, 17, 1, 1], affine=False),
    batch_norm([4, 2, 3, 3], momentum=None),
    batch_norm([8, 5], momentum=0.01, epsilon=1e-3, relu=True, offset=3.0),
    batch_norm([2, 2, 20, 12], offset=1e4, batches=2),
])

cases = []
for smoothing in [0.0, 0.1, 1.0]:
    logits = (torch.randn(6, 5) * 3).requires_grad_()
    labels = torch.randint(0, 5, (6,))
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss.backward()
    cases.append({"smoothing": smoothing, "logits": numbers(logits), "labels": labels.tolist(),
                  "loss": loss.item(), "gradient": numbers(logits.grad)})
write("cross_entropy", cases)

cases = []
for shape in [[2, 3, 4], [2, 3, 5, 7], [1, 1, 1, 1], [2, 2, 2, 3, 2]]:
    x = torch.randn(shape, requires_grad=True)
    y = x.flatten(2).mean(2)
    dy = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
    y.backward(dy)
    cases.append({"shape": shape, "x": numbers(x), "dy": numbers(dy), "output": numbers(y), "gradient": numbers(x.grad)})
write("global_avg_pool", cases)

cases = []
for shape, kernel, stride, padding in [
    ([2, 3, 4, 6], [2, 2], [2, 2], [0, 0]),
    ([1, 2, 5, 7], [2, 2], [2, 2], [0, 0]),
    ([2, 1, 6, 5], [3, 3], [2, 2], [1, 1]),
    ([1, 2, 5, 9], [3, 4], [1, 3], [0, 2]),
]:
    # Few different values: ties; one NaN, which wins its windows.
    x = torch.randint(-2, 3, shape).double()
    x[0, 0, 1, 2] = float("nan")
    x.requires_grad_()
    y = F.max_pool2d(x, kernel, stride, padding)
    dy = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
    y.backward(dy)
    cases.append({"shape": shape, "kernel": kernel, "stride": stride, "padding": padding, "pooled": list(y.shape),
                  "x": nullable(x), "dy": numbers(dy), "output": nullable(y), "gradient": numbers(x.grad)})
write("max_pool", cases)

def penalty(decay, weight):
    """λR(W) as a part of the loss."""
    l1, l2 = (decay["strength"], 0.0) if decay["kind"] == "l1" else (decay["l1"], decay["l2"])
    return l1 * weight.abs().sum() + l2 / 2 * (weight ** 2).sum()


cases = []
for decay in [{"kind": "l2", "strength": 0.1}, {"kind": "decoupled", "strength": 0.1},
              {"kind": "l1", "strength": 0.1}, {"kind": "elastic_net", "l1": 0.05, "l2": 0.2}]:
    layer = nn.Linear(3, 2)
    start = {"weight": numbers(layer.weight.T), "bias": numbers(layer.bias)}
    in_the_loss = decay["kind"] in ("l1", "elastic_net")
    strength = 0.0 if in_the_loss else decay["strength"]
    groups = [{"params": [layer.weight], "weight_decay": strength}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = (torch.optim.AdamW(groups, 0.2, betas=(0.9, 0.99), eps=1e-8) if decay["kind"] == "decoupled"
                 else torch.optim.SGD(groups, 0.2, momentum=0.9, nesterov=True))
    x = torch.randn(4, 3)
    for _ in range(4):
        optimizer.zero_grad()
        loss = (layer(x) ** 2).mean()
        if in_the_loss:
            loss = loss + penalty(decay, layer.weight)
        loss.backward()
        optimizer.step()
    cases.append({"decay": decay, "x": numbers(x), "start": start,
                  "end": {"weight": numbers(layer.weight.T), "bias": numbers(layer.bias)}})
write("optimizer", cases)

cases = []
for shape, out, kernel, stride, padding, dilation, groups, bias in [
    ([2, 3, 5, 7], 4, [3, 3], [1, 1], [1, 1], [1, 1], 1, True),
    ([1, 3, 5, 4], 2, [1, 1], [1, 1], [0, 0], [1, 1], 1, False),
    ([2, 2, 9, 7], 3, [3, 2], [2, 3], [1, 0], [1, 1], 1, True),
    ([2, 2, 8, 9], 3, [2, 3], [1, 2], [3, 2], [3, 2], 1, True),
    ([3, 4, 5, 5], 6, [3, 3], [2, 2], [1, 1], [1, 1], 2, True),
    ([2, 3, 6, 5], 6, [3, 3], [1, 1], [2, 2], [2, 2], 3, False),
    ([1, 2, 6, 7], 2, [4, 2], [1, 1], "same", [1, 1], 1, True),
    ([1, 1, 4, 4], 1, [4, 4], [1, 1], [0, 0], [1, 1], 1, True),
]:
    x = torch.randn(shape, requires_grad=True)
    weight = torch.randn([out, shape[1] // groups, *kernel], requires_grad=True)
    shift = torch.randn(out, requires_grad=True) if bias else None
    y = F.conv2d(x, weight, shift, stride, padding, dilation, groups)
    dy = torch.linspace(-1, 2, y.numel()).reshape(y.shape) ** 3
    y.backward(dy)
    cases.append({"shape": shape, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
                  "weight_shape": list(weight.shape), "x": numbers(x), "weight": numbers(weight),
                  "bias": numbers(shift) if bias else None, "output_shape": list(y.shape), "output": numbers(y),
                  "gradients": {"x": numbers(x.grad), "weight": numbers(weight.grad),
                                "bias": numbers(shift.grad) if bias else None}})
write("conv2d", cases)


def named(tensor):
    """NaN and infinities have no names in JSON: their text stands for them."""
    return [value if abs(value) < float("inf") else str(value) for value in numbers(tensor)]


cases = []
for shape, relu in [([6, 6], False), ([6, 6], True), ([3, 6, 5], False), ([2, 6, 3, 11], True)]:
    # Channels with NaN, +inf, -inf, both, two of one sign, and one with neither.
    nan, inf = float("nan"), float("inf")
    x = torch.randn(shape)
    rows = x.transpose(0, 1).reshape(6, -1)
    for channel, values in enumerate([[nan], [inf], [-inf], [inf, -inf], [inf, inf]]):
        rows[channel, 1:1 + len(values)] = torch.tensor(values)
    x = rows.reshape(6, shape[0], *shape[2:]).transpose(0, 1).contiguous()
    layer = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](6)
    case = {"shape": shape, "relu": relu, "x": named(x)}
    # At test first, by finite statistics; then in training.
    for mode in ["test", "train"]:
        layer.train(mode == "train")
        layer.zero_grad()
        leaf = x.clone().requires_grad_()
        y = F.relu(layer(leaf)) if relu else layer(leaf)
        y.backward(torch.linspace(-1, 1, y.numel()).reshape(shape) ** 3)
        case[mode] = {"output": named(y), "x": named(leaf.grad), "weight": named(layer.weight.grad),
                      "bias": named(layer.bias.grad)}
    cases.append(case | {"running_mean": named(layer.running_mean), "running_var": named(layer.running_var)})
write("batch_norm_not_finite", cases)

class ChannelsFirst(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


cases = []
for name, shape, options, layer in [
    ("layer", [3, 4, 6], {"num_features": 6}, nn.LayerNorm(6)),
    ("layer", [5, 33], {"num_features": 33, "bias": False, "epsilon": 1e-3}, nn.LayerNorm(33, eps=1e-3, bias=False)),
    ("layer", [2, 3, 4, 5], {"num_features": 20, "dimensions": 2}, nn.LayerNorm([4, 5])),
    ("layer", [4, 7], {"num_features": 7, "affine": False}, nn.LayerNorm(7, elementwise_affine=False)),
    ("layer", [2, 5, 3, 4], {"num_features": 5, "channels_first": True}, ChannelsFirst(5)),
    ("rms", [3, 4, 6], {"num_features": 6, "epsilon": 1e-6}, nn.RMSNorm(6, eps=1e-6)),
    ("rms", [2, 3, 20], {"num_features": 60, "dimensions": 2}, nn.RMSNorm([3, 20], eps=1e-5)),
    ("rms", [4, 17], {"num_features": 17, "affine": False}, nn.RMSNorm(17, eps=1e-5, elementwise_affine=False)),
    ("group", [3, 6, 4, 5], {"num_groups": 3, "num_channels": 6}, nn.GroupNorm(3, 6)),
    ("group", [2, 8], {"num_groups": 2, "num_channels": 8, "epsilon": 1e-3}, nn.GroupNorm(2, 8, eps=1e-3)),
    ("group", [2, 4, 7, 2, 2], {"num_groups": 1, "num_channels": 4, "affine": False}, nn.GroupNorm(1, 4, affine=False)),
    ("instance", [3, 4, 5, 6], {"num_features": 4}, nn.InstanceNorm2d(4)),
    ("instance", [2, 3, 5], {"num_features": 3, "affine": True}, nn.InstanceNorm1d(3, affine=True)),
]:
    parameters = dict(layer.named_parameters())
    with torch.no_grad():
        for key, parameter in parameters.items():
            low = 0.5 if key == "weight" else -0.4
            parameter.copy_(torch.linspace(low, low + 1, parameter.numel()).reshape(parameter.shape))
    for relu in [False, True] if name != "rms" else [False]:
        layer.zero_grad()
        x = (torch.randn(shape) * 2 + 1).requires_grad_()
        y = F.relu(layer(x)) if relu else layer(x)
        dy = torch.linspace(-1, 1, y.numel()).reshape(shape) ** 3
        y.backward(dy)
        cases.append({"norm": name, "shape": shape, "options": options, "relu": relu, "x": numbers(x), "output": numbers(y),
                      "gradients": {"x": numbers(x.grad)} | {k: numbers(p.grad) for k, p in parameters.items()}})
write("row_norms", cases)

cases = []
for shape, make in [([3, 4, 5, 6], nn.InstanceNorm2d), ([4, 3, 7], nn.InstanceNorm1d)]:
    layer = make(shape[1], momentum=0.3, affine=False, track_running_stats=True)
    case = {"shape": shape, "momentum": 0.3, "inputs": []}
    for mode in ["train", "train", "train", "test"]:
        layer.train(mode == "train")
        x = torch.randn(shape) * 2 + 1
        case["inputs"].append(numbers(x))
        case[mode] = numbers(layer(x))
    cases.append(case | {"running_mean": numbers(layer.running_mean), "running_var": numbers(layer.running_var)})
write("instance_norm_tracked", cases)

torch.manual_seed(11)
cases = []
for shape, kernel, stride, padding in [
    ([2, 3, 4, 6], [2, 2], [2, 2], [0, 0]),
    ([1, 2, 5, 7], [2, 2], [2, 2], [0, 0]),
    ([2, 1, 6, 5], [3, 3], [2, 2], [1, 1]),
    ([1, 2, 5, 9], [3, 4], [1, 3], [0, 2]),
]:
    for count in [True, False]:
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        y = F.avg_pool2d(x, kernel, stride, padding, count_include_pad=count)
        dy = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
        y.backward(dy)
        cases.append({"shape": shape, "kernel": kernel, "stride": stride, "padding": padding,
                      "count_include_pad": count, "pooled": list(y.shape), "x": numbers(x), "dy": numbers(dy),
                      "output": numbers(y), "gradient": numbers(x.grad)})
write("avg_pool", cases)
