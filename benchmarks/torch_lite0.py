"""The peer of lite0_vs_torch.py: EfficientNet-Lite0 in torch, forward pass and training step, as fast as torch can.

Run by that program, with a Python that has torch. Weights are random: the time does not depend on them.
"""

import argparse
import json
import os
import time

os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # a compiled forward pass has its weights as constants, too

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

# Kernel, stride, expansion, output channels, repeats; as in tfpt/backbones/efficientnet_lite.py.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
CLASSES = 2


def convolution(inputs, outputs, *, kernel=1, stride=1, groups=1, active=True):
    """Returns convolution, batch normalisation and ReLU6."""
    parts = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*parts, *([nn.ReLU6(inplace=True)] if active else []))


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, inputs, outputs, *, kernel, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.layers = nn.Sequential(
            *([convolution(inputs, wide)] if expansion > 1 else []),
            convolution(wide, wide, kernel=kernel, stride=stride, groups=wide),
            convolution(wide, outputs, active=False),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        """Returns the block's output."""
        return x + self.layers(x) if self.adds else self.layers(x)


def network():
    """Returns the network with a new head."""
    layers, inputs = [convolution(3, 32, kernel=3, stride=2)], 32
    for kernel, stride, expansion, outputs, repeats in STAGES:
        for k in range(repeats):
            layers.append(Block(inputs, outputs, kernel=kernel, stride=stride if k == 0 else 1, expansion=expansion))
            inputs = outputs
    pooled = [convolution(inputs, 1280), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pooled, nn.Linear(1280, CLASSES))


def main():
    """Measures one way of running it; prints examples a second, one number a round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", choices=("forward", "train"), required=True)
    parser.add_argument("--how", required=True, help="default, or words of: channels_last folded bfloat16 compiled")
    for name in ("size", "batch", "steps", "rounds", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--work")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = network().train(given.what == "train")
    if "folded" in given.how:  # batch normalisation into the convolutions before it
        model = fuse(model)
    layout = torch.contiguous_format if given.how == "default" else torch.channels_last
    rounded = "bfloat16" in given.how
    cast = rounded and given.what == "forward"  # training keeps float32 weights, as everyone does
    model = model.to(memory_format=layout, dtype=torch.bfloat16 if cast else torch.float32)
    pixels = torch.randint(0, 256, (given.batch, 3, given.size, given.size), dtype=torch.uint8)
    pixels = pixels.contiguous(memory_format=layout)
    labels = torch.arange(given.batch) % CLASSES
    run = torch.compile(model) if "compiled" in given.how else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        if given.what == "forward":
            run(((pixels.float() - 127) / 128).to(torch.bfloat16 if cast else torch.float32))
            return
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            logits = run((pixels.float() - 127) / 128)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    rates = []
    with torch.inference_mode(given.what == "forward"):
        for _ in range(2):
            step()
        for _ in range(given.rounds):
            started = time.perf_counter()
            for _ in range(given.steps):
                step()
            rates.append(given.batch * given.steps / (time.perf_counter() - started))
    print("RESULT " + json.dumps({"rates": rates, "version": torch.__version__}))


if __name__ == "__main__":
    main()
