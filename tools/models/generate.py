#!/usr/bin/python3
"""Writes ResNet-18, ResNet-50, MobileNetV1, MobileNetV2 and SqueezeNet 1.1 as float ONNX files with random weights, for benchmarks where no trained file is at hand.

usage: tools/models/generate.py DIR [NAME ...] [--seed N]        (needs python3-onnx, python3-numpy)

Without names all networks: DIR/resnet18.onnx and so on (ResNet-50 is 102 MB). The same name and seed give the same bytes. There is nothing to calibrate on but noise:
nibble quantize resnet50.onnx -o resnet50.int8.onnx --data random --samples 8 --calibrate-method min_max
"""

import argparse
import os
import pathlib
import sys

import onnx

import networks


def write(path, data):
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(networks.NETWORKS))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in options.names:
        if name not in networks.NETWORKS:
            parser.error(f"unknown network '{name}'; known: {', '.join(networks.NETWORKS)}")
    options.dir.mkdir(parents=True, exist_ok=True)
    for name in options.names or networks.NETWORKS:
        model = networks.make(name, options.seed)
        onnx.checker.check_model(model, full_check=True)
        path = options.dir / f"{name}.onnx"
        write(path, model.SerializeToString(deterministic=True))
        print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
