#!/usr/bin/env python3
"""Weights of train.py to examples/demo/shapes.onnx: rescales channels, proves that nothing changed, shows what quantized weights do, writes ONNX.

usage: tools/demo/make_model.py WEIGHTS.pt [OUTPUT.onnx]        (needs python3-torch, python3-onnx, python3-numpy, python3-pil)
"""

import copy
import json
import pathlib
import sys

import numpy
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import shapes
from make_data import SETS
from network import Network
from rescale_channels import rescale
from train import to_input

OPSET = 13


@torch.no_grad()
def accuracy(network, x, y):
    return 100 * (torch.cat([network(part) for part in x.split(250)]).argmax(1) == y).float().mean().item()


@torch.no_grad()
def with_quantized_weights(network, per_channel):
    """A copy with BatchNormalization folded and every weight rounded to int8 (symmetric, narrow), activations left in float."""
    result = copy.deepcopy(network)
    for parent in result.modules():
        children = list(parent.children())
        for conv, bn in zip(children, children[1:]):
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
                conv.weight *= factor.view(-1, 1, 1, 1)
                conv.bias = nn.Parameter(bn.bias - bn.running_mean * factor)
                bn.weight.fill_(1), bn.bias.zero_(), bn.running_mean.zero_(), bn.running_var.fill_(1 - bn.eps)
    for module in result.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            w = module.weight
            largest = w.abs().reshape(len(w), -1).amax(1) if per_channel else w.abs().max().repeat(len(w))
            scale = (largest / 127).view(-1, *[1] * (w.dim() - 1))
            w.copy_((w / scale).round() * scale)
    return result


def to_onnx(network):
    nodes, weights = [], []

    def constant(name, tensor):
        weights.append(numpy_helper.from_array(numpy.ascontiguousarray(tensor.detach().numpy()), name))
        return name

    def conv_bn(value, name, module, last=None):
        conv, bn = module[0], module[1]
        pad = conv.kernel_size[0] // 2
        nodes.append(helper.make_node("Conv", [value, constant(f"{name}.weight", conv.weight)], [f"{name}.conv"], f"{name}.conv",
                                      kernel_shape=list(conv.kernel_size), strides=list(conv.stride), pads=[pad] * 4, group=conv.groups))
        inputs = [f"{name}.conv"] + [constant(f"{name}.{part}", tensor) for part, tensor in
                                     [("gamma", bn.weight), ("beta", bn.bias), ("mean", bn.running_mean), ("variance", bn.running_var)]]
        nodes.append(helper.make_node("BatchNormalization", inputs, [f"{name}.bn"], f"{name}.bn", epsilon=bn.eps))
        if len(module) < 3:
            return f"{name}.bn"
        nodes.append(helper.make_node("Relu", [f"{name}.bn"], [f"{name}.relu"], f"{name}.relu"))
        return f"{name}.relu"

    value = conv_bn("image", "stem", network.stem)
    for index, block in enumerate(network.blocks, 1):
        name, before = f"block{index}", value
        for part in ("expand", "depthwise", "project"):
            value = conv_bn(value, f"{name}.{part}", getattr(block, part))
        if block.residual:
            nodes.append(helper.make_node("Add", [before, value], [f"{name}.add"], f"{name}.add"))
            value = f"{name}.add"
    value = conv_bn(value, "head", network.head)
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pool"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pool"], ["features"], "flatten", axis=1))
    nodes.append(helper.make_node("Gemm", ["features", constant("classifier.weight", network.classifier.weight),
                                           constant("classifier.bias", network.classifier.bias)], ["logits"], "classifier", transB=1))
    graph = helper.make_graph(
        nodes, "shapes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, shapes.SIZE, shapes.SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(shapes.CLASSES)])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="nibble tools/demo")
    model.ir_version = 7
    helper.set_model_props(model, {"classes": ",".join(shapes.CLASSES)})
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    torch.set_num_threads(1)
    root = pathlib.Path(__file__).resolve().parents[2]
    output = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else root / "examples/demo/shapes.onnx"
    network = Network().eval()
    network.load_state_dict(torch.load(sys.argv[1]))
    sets = {}
    for name, (count, seed) in SETS.items():
        images, labels = shapes.make(count, seed)
        sets[name] = to_input(images), torch.from_numpy(labels)
    x, y = sets["evaluation"]

    def report(what):
        print(f"{what}: float {accuracy(network, x, y):.1f} %, weights int8 per tensor {accuracy(with_quantized_weights(network, False), x, y):.1f} %, "
              f"per channel {accuracy(with_quantized_weights(network, True), x, y):.1f} %")

    report("as trained")
    with torch.no_grad():
        before = network(x)
    for block, channel, factor in rescale(network, sets["calibration"][0]):
        print(f"  block{block + 1}: channel {channel} by {factor:g}")
    with torch.no_grad():
        difference = (network(x) - before).abs().max().item()
    print(f"largest change of a logit: {difference:g}")
    assert difference == 0, "the rescaling must not change what the network computes"
    report("rescaled")
    output.write_bytes(to_onnx(network).SerializeToString(deterministic=True))
    recipe = {"resize": {"exact": [shapes.SIZE, shapes.SIZE], "filter": "bilinear", "antialias": True}, "channel_order": "RGB", "divide": 255,
              "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "layout": "NCHW"}
    output.with_suffix(".preprocess.json").write_text(json.dumps(recipe, indent=1) + "\n")
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
