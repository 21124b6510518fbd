#!/usr/bin/env python3
"""Trains the demo's network on pictures that it draws, one processor, half an hour; writes its weights.

usage: tools/demo/train.py WEIGHTS.pt        (needs python3-torch, python3-numpy, python3-pil; then see make_model.py)
"""

import sys
import time

import numpy
import torch
from torch import nn

import shapes
from network import Network

TRAINING_PICTURES, SEED = 16000, 404
EPOCHS, BATCH, RATE, DECAY = 18, 100, 0.01, 1e-4


def to_input(images):
    """float32 [N, 3, 32, 32], as examples/demo/shapes.preprocess.json says: (x / 255 - 0.5) / 0.5."""
    pixels = numpy.stack([numpy.asarray(image.convert("RGB")) for image in images]).astype(numpy.float32)
    return torch.from_numpy((pixels / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).contiguous()


def augment(x):
    """Turns by 90 degrees and mirrors: every class stays itself. Colours change places."""
    x = torch.rot90(x, int(torch.randint(4, ())), (2, 3))
    if torch.rand(()) < 0.5:
        x = x.flip(3)
    return x[:, torch.randperm(3)]


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    started = time.time()
    images, labels = shapes.make(TRAINING_PICTURES, SEED)
    x, y = to_input(images), torch.from_numpy(labels.astype(numpy.int64))
    print(f"drew {len(x)} pictures in {time.time() - started:.0f} s", flush=True)
    network = Network()
    print(sum(p.numel() for p in network.parameters()), "parameters", flush=True)
    # No decay for BatchNormalization and biases.
    groups = [{"params": [p for p in network.parameters() if p.dim() > 1], "weight_decay": DECAY},
              {"params": [p for p in network.parameters() if p.dim() == 1], "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.15)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        network.train()
        order, total, right = torch.randperm(len(x)), 0.0, 0
        for begin in range(0, len(x), BATCH):
            rows = order[begin:begin + BATCH]
            logits = network(augment(x[rows]))
            loss = loss_of(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
            right += (logits.argmax(1) == y[rows]).sum().item()
        print(f"epoch {epoch + 1}: loss {total / len(x):.3f}, training accuracy {100 * right / len(x):.1f} %, {time.time() - started:.0f} s",
              flush=True)
        torch.save(network.state_dict(), sys.argv[1])


if __name__ == "__main__":
    main()
