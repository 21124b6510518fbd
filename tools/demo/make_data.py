#!/usr/bin/env python3
"""Draws the demo's pictures: examples/demo/calibration, examples/demo/evaluation (one folder a class) and a contact sheet.

usage: tools/demo/make_data.py [REPOSITORY]        (needs python3-numpy and python3-pil)
"""

import pathlib
import shutil
import sys

from PIL import Image

import shapes

# Seeds of the three sets; the training set (tools/demo/train.py) has another one again.
SETS = {"calibration": (200, 101), "evaluation": (1000, 202)}
SHEET_SEED = 303


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2])
    for name, (count, seed) in SETS.items():
        folder = root / "examples/demo" / name
        shutil.rmtree(folder, ignore_errors=True)
        images, labels = shapes.make(count, seed)
        total = 0
        for index, (image, label) in enumerate(zip(images, labels)):
            target = folder / shapes.CLASSES[label]
            target.mkdir(parents=True, exist_ok=True)
            path = target / f"{index // len(shapes.CLASSES):03d}.png"
            image.save(path, optimize=True)
            total += path.stat().st_size
        print(f"{folder}: {count} pictures, {total} bytes")
    # One column a class, enlarged twice.
    images, labels = shapes.make(80, SHEET_SEED)
    scale, gap = 2, 4
    cell = shapes.SIZE * scale + gap
    sheet = Image.new("RGB", (10 * cell + gap, 8 * cell + gap), "white")
    for index, (image, label) in enumerate(zip(images, labels)):
        big = image.convert("RGB").resize((shapes.SIZE * scale,) * 2, Image.Resampling.NEAREST)
        sheet.paste(big, (gap + int(label) * cell, gap + index // 10 * cell))
    path = root / "docs/images/demo-shapes.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
