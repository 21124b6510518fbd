#!/usr/bin/python3
"""Writes ONNX's own node tests (models, inputs, expected outputs) into a folder. Offline; needs Debian's python3-onnx.

Usage: generate.py DIR        exit code 77: python3-onnx is not installed
"""
import os
import sys

SKIPPED = 77


OLDEST_OPSET = 7


def raise_opsets(target):
    """Some cases stamp an operator's model with the opset that last changed it, which may be older than any that nibble reads. Where
    opset 7 defines the operators just as that one did, the model means the same under 7."""
    import onnx
    for folder, _, files in os.walk(target):
        if "model.onnx" not in files:
            continue
        path = os.path.join(folder, "model.onnx")
        model = onnx.load(path)
        opset = next((entry for entry in model.opset_import if entry.domain == ""), None)
        if opset is None or opset.version >= OLDEST_OPSET:
            continue
        versions = [
            [onnx.defs.get_schema(node.op_type, max_inclusive_version=version).since_version for node in model.graph.node]
            for version in (opset.version, OLDEST_OPSET)
        ]
        if versions[0] == versions[1]:
            opset.version = OLDEST_OPSET
            onnx.save(model, path)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = sys.argv[1]
    done = os.path.join(target, "complete")
    if os.path.exists(done):
        return 0
    try:
        import numpy
        # The generator was written for a NumPy that still had these names.
        for name, value in (("object", object), ("bool", bool), ("int", int), ("float", float), ("complex", complex), ("str", str)):
            if name not in numpy.__dict__:
                setattr(numpy, name, value)
        from onnx.backend.test import cmd_tools
    except ImportError as error:
        print(f"SKIPPED: ONNX's node tests cannot be generated ({error}); install python3-onnx", file=sys.stderr)
        return SKIPPED
    os.makedirs(target, exist_ok=True)
    sys.argv = ["generate.py", "generate-data", "-o", target]
    cmd_tools.main()
    raise_opsets(target)
    with open(done, "w") as file:
        file.write("every case is here\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
