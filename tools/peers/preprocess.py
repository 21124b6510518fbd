#!/usr/bin/env python3
"""Images to network inputs with Pillow and NumPy, by a preprocessing recipe: an independent second opinion on nibble's own, and what ort_eval.mjs reads.

usage: preprocess.py DATA RECIPE.json OUTPUT_DIR [--samples N] [--batch FILE.npy]

DATA is a folder with labels.csv (file,label,...), or with one folder a class. OUTPUT_DIR gets one float32 .npy a sample (without a batch axis) and
labels.csv, whose labels are places in the network's output (the recipe's label_offset added). --batch: also all of them in one array. Needs python3-numpy and python3-pil.
"""

import argparse
import csv
import json
import pathlib

import numpy
from PIL import Image

FILTERS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize(image, recipe):
    spec = recipe.get("resize")
    if not spec:
        return image
    method = FILTERS[spec.get("filter", "bilinear")]
    width, height = image.size
    if "short_side" in spec:
        n = spec["short_side"]
        size = (n, int(n * height / width)) if width <= height else (int(n * width / height), n)
        return image.resize(size, method)
    if "exact" in spec:
        return image.resize((spec["exact"][1], spec["exact"][0]), method)
    high, wide = spec["letterbox"]
    ratio = min(high / height, wide / width)
    inner = image.resize((int(width * ratio), int(height * ratio)), method)
    pad = spec.get("pad", 0)
    canvas = Image.new("RGB", (wide, high), (pad, pad, pad))
    canvas.paste(inner, (0, 0))
    return canvas


def preprocess(path, recipe):
    image = resize(Image.open(path).convert("RGB"), recipe)
    crop = recipe.get("crop", {}).get("center")
    if crop:
        left, top = round((image.size[0] - crop[1]) / 2), round((image.size[1] - crop[0]) / 2)
        image = image.crop((left, top, left + crop[1], top + crop[0]))
    order = recipe.get("channel_order", "RGB")
    x = numpy.asarray(image.convert("L"))[..., None] if order == "GRAY" else numpy.asarray(image)
    if order == "BGR":
        x = x[..., ::-1]
    x = x.astype(numpy.float32) / numpy.float32(recipe.get("divide", 1))
    x = (x - numpy.asarray(recipe.get("mean", 0), numpy.float32)) / numpy.asarray(recipe.get("std", 1), numpy.float32)
    return numpy.ascontiguousarray(x.transpose(2, 0, 1) if recipe.get("layout", "NCHW") == "NCHW" else x)


def samples(data):
    """(file, label) in the order of labels.csv, or of the class folders' and files' names."""
    if (data / "labels.csv").exists():
        with open(data / "labels.csv", newline="", encoding="utf-8") as file:
            return [(data / row["file"], int(row["label"])) for row in csv.DictReader(file)]
    classes = sorted(path for path in data.iterdir() if path.is_dir())
    return [(path, label) for label, folder in enumerate(classes) for path in sorted(folder.iterdir())]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("recipe", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--batch", type=pathlib.Path)
    options = parser.parse_args()
    recipe = json.loads(options.recipe.read_text())
    options.output.mkdir(parents=True, exist_ok=True)
    batch = []
    with open(options.output / "labels.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label"])
        for index, (path, label) in enumerate(samples(options.data)[: options.samples]):
            sample = preprocess(path, recipe).astype(numpy.float32)
            numpy.save(options.output / f"{index:06d}.npy", sample)
            if options.batch:
                batch.append(sample)
            table.writerow([f"{index:06d}.npy", label + recipe.get("label_offset", 0)])
    if options.batch:
        numpy.save(options.batch, numpy.stack(batch))


if __name__ == "__main__":
    main()
