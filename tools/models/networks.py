"""The convolutional networks that quantized runtimes are compared on, layer by layer, at full size (224x224, 1000 classes), with random weights.

BatchNormalization is folded, as a deployed file has it. Weights are He's (2015): E[x^2] of the activations is the same behind every layer. A residual
branch ends in weights smaller by the root of the number of branches, so that the sums along the trunk stay of order one.
"""

import math

import numpy
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IMAGE = 224
CLASSES = 1000


class Builder:
    """Appends nodes in NCHW; every method takes the name of a value and returns the name of the new one."""

    def __init__(self, name, seed):
        self.name, self.random = name, numpy.random.Generator(numpy.random.PCG64(seed))
        self.nodes, self.weights, self.channels = [], [], {"input": 3}

    def constant(self, name, values):
        self.weights.append(numpy_helper.from_array(numpy.asarray(values, numpy.float32), name))
        return name

    def node(self, op, inputs, channels, **attributes):
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        self.channels[output] = channels
        return output

    def drawn(self, shape, fan_in, gain):
        return self.random.standard_normal(shape, numpy.float32) * numpy.float32(math.sqrt(gain / fan_in))

    def conv(self, x, channels, kernel, stride=1, pad=None, group=1, activation="Relu", scale=1.0):
        fan_in = self.channels[x] // group * kernel * kernel
        gain = (1.0 if activation is None else 2.0) * scale * scale
        place = len(self.nodes)
        weight = self.constant(f"conv_{place}.weight", self.drawn((channels, self.channels[x] // group, kernel, kernel), fan_in, gain))
        bias = self.constant(f"conv_{place}.bias", self.drawn((channels,), 100, 1.0))
        y = self.node("Conv", [x, weight, bias], channels, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                      pads=[kernel // 2 if pad is None else pad] * 4, group=group)
        return self.activation(y, activation) if activation else y

    def depthwise(self, x, stride, activation):
        return self.conv(x, self.channels[x], 3, stride, group=self.channels[x], activation=activation)

    def activation(self, x, kind):
        if kind == "Relu":
            return self.node("Relu", [x], self.channels[x])
        if not any(w.name == "six" for w in self.weights):
            self.constant("zero", 0.0), self.constant("six", 6.0)
        return self.node("Clip", [x, "zero", "six"], self.channels[x])

    def add(self, a, b):
        return self.node("Add", [a, b], self.channels[a])

    def concat(self, parts):
        return self.node("Concat", parts, sum(self.channels[p] for p in parts), axis=1)

    def max_pool(self, x, pad, ceil=0):
        return self.node("MaxPool", [x], self.channels[x], kernel_shape=[3, 3], strides=[2, 2], pads=[pad] * 4, ceil_mode=ceil)

    def average(self, x):
        return self.node("Flatten", [self.node("GlobalAveragePool", [x], self.channels[x])], self.channels[x])

    def dense(self, x):
        weight = self.constant("dense.weight", self.drawn((CLASSES, self.channels[x]), self.channels[x], 1.0))
        bias = self.constant("dense.bias", self.drawn((CLASSES,), 100, 1.0))
        return self.node("Gemm", [x, weight, bias], CLASSES, transB=1)

    def model(self, logits):
        self.nodes[-1].output[0] = "logits"
        assert self.nodes[-1].name == logits
        graph = helper.make_graph(self.nodes, self.name,
                                  [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, IMAGE, IMAGE])],
                                  [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=7, producer_name="nibble tools/models")


def resnet(b, blocks, bottleneck):
    """He et al. 2016; the stride of a bottleneck is in its 3x3 convolution, as everybody's weights have it."""
    branch = 1 / math.sqrt(sum(blocks))
    x = b.max_pool(b.conv("input", 64, 7, stride=2), pad=1)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        out = width * (4 if bottleneck else 1)
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            shortcut = b.conv(x, out, 1, stride, activation=None) if stride != 1 or b.channels[x] != out else x
            if bottleneck:
                y = b.conv(b.conv(b.conv(x, width, 1), width, 3, stride), out, 1, activation=None, scale=branch)
            else:
                y = b.conv(b.conv(x, out, 3, stride), out, 3, activation=None, scale=branch)
            x = b.activation(b.add(y, shortcut), "Relu")
    return b.dense(b.average(x))


def mobilenet_v1(b):
    """Howard et al. 2017, table 1, width 1.0."""
    x = b.conv("input", 32, 3, stride=2, activation="Clip")
    for channels, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]:
        x = b.conv(b.depthwise(x, stride, "Clip"), channels, 1, activation="Clip")
    return b.dense(b.average(x))


def mobilenet_v2(b):
    """Sandler et al. 2018, table 2, width 1.0."""
    x = b.conv("input", 32, 3, stride=2, activation="Clip")
    for expand, channels, count, first in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for i in range(count):
            stride = first if i == 0 else 1
            wide = x if expand == 1 else b.conv(x, b.channels[x] * expand, 1, activation="Clip")
            residual = stride == 1 and b.channels[x] == channels
            y = b.conv(b.depthwise(wide, stride, "Clip"), channels, 1, activation=None, scale=1 / math.sqrt(10) if residual else 1.0)
            x = b.add(x, y) if residual else y
    return b.dense(b.average(b.conv(x, 1280, 1, activation="Clip")))


def squeezenet(b):
    """Iandola et al. 2016, version 1.1; the classes are channels of a convolution."""
    def fire(x, squeeze, expand):
        s = b.conv(x, squeeze, 1)
        return b.concat([b.conv(s, expand, 1), b.conv(s, expand, 3)])

    x = b.max_pool(b.conv("input", 64, 3, stride=2, pad=0), pad=0, ceil=1)
    x = b.max_pool(fire(fire(x, 16, 64), 16, 64), pad=0, ceil=1)
    x = b.max_pool(fire(fire(x, 32, 128), 32, 128), pad=0, ceil=1)
    for squeeze, expand in [(48, 192), (48, 192), (64, 256), (64, 256)]:
        x = fire(x, squeeze, expand)
    return b.average(b.conv(x, CLASSES, 1))


NETWORKS = {
    "resnet18": lambda b: resnet(b, [2, 2, 2, 2], bottleneck=False),
    "resnet50": lambda b: resnet(b, [3, 4, 6, 3], bottleneck=True),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet1.1": squeezenet,
}


def make(name, seed):
    builder = Builder(name, seed)
    return builder.model(NETWORKS[name](builder))
