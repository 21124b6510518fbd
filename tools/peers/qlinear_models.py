#!/usr/bin/python3
"""Writes one model for each quantized operator of ONNX Runtime's domain com.microsoft, signed and unsigned, with random inputs.

usage: qlinear_models.py DIR        DIR/NAME.onnx, DIR/NAME.x0.npy, DIR/NAME.x1.npy ...
"""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
rng = np.random.default_rng(1)
IMAGE = (2, 5, 6, 7)
IMAGE_LAST = (2, 6, 7, 5)


def write(name, op, shapes, signed, y_scale=0.05, weights=None, y_first=False, **attributes):
    """`shapes`: of the inputs, each followed by its scale and zero point; `weights`: shape of a constant B of a QGemm."""
    dtype, onnx_type, low, high = (np.int8, TensorProto.INT8, -128, 128) if signed else (np.uint8, TensorProto.UINT8, 0, 256)
    constants, inputs, arguments = [], [], []

    def constant(key, value):
        constants.append(numpy_helper.from_array(np.asarray(value), key))
        return key

    def zero_point(i):
        return dtype(3 * i - 2 if signed else 120 + 3 * i)

    name += '_s8' if signed else '_u8'
    for i, shape in enumerate(shapes):
        inputs.append(helper.make_tensor_value_info(f'x{i}', onnx_type, shape))
        np.save(f'{out}/{name}.x{i}.npy', rng.integers(low, high, shape).astype(dtype))
        arguments += [f'x{i}', constant(f'x{i}_scale', np.float32(0.02 * (i + 1))), constant(f'x{i}_zero', zero_point(i))]
    if weights is not None:
        columns = weights[1]
        arguments += [constant('w', rng.integers(-127, 128, weights).astype(np.int8)),
                      constant('w_scale', 0.01 * np.arange(1, columns + 1).astype(np.float32)),
                      constant('w_zero', np.zeros(columns, np.int8)),
                      constant('bias', rng.integers(-900, 900, columns).astype(np.int32))]
    y = [constant('y_scale', np.float32(y_scale)), constant('y_zero', zero_point(3))]
    node = helper.make_node(op, y + arguments if y_first else arguments + y, ['y'], name=name, domain='com.microsoft', **attributes)
    graph = helper.make_graph([node], name, inputs, [helper.make_tensor_value_info('y', onnx_type, None)], constants)
    opsets = [helper.make_opsetid('', 13), helper.make_opsetid('com.microsoft', 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), f'{out}/{name}.onnx')


for signed in (False, True):
    write('add', 'QLinearAdd', [IMAGE, IMAGE], signed)
    write('add_channel', 'QLinearAdd', [IMAGE, (1, 5, 1, 1)], signed)
    write('mul', 'QLinearMul', [IMAGE, IMAGE], signed)
    write('mul_channel', 'QLinearMul', [IMAGE, (1, 5, 1, 1)], signed)
    write('average', 'QLinearAveragePool', [IMAGE], signed, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 1])
    write('average_pad', 'QLinearAveragePool', [IMAGE], signed, kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1)
    write('average_last', 'QLinearAveragePool', [IMAGE_LAST], signed, kernel_shape=[3, 3], strides=[2, 2], channels_last=1)
    write('global', 'QLinearGlobalAveragePool', [IMAGE], signed, channels_last=0)
    write('global_last', 'QLinearGlobalAveragePool', [IMAGE_LAST], signed, channels_last=1)
    write('concat', 'QLinearConcat', [IMAGE, (2, 3, 6, 7), IMAGE], signed, y_first=True, axis=1)
    write('sigmoid', 'QLinearSigmoid', [IMAGE], signed, y_scale=1 / 256)
    write('leaky_relu', 'QLinearLeakyRelu', [IMAGE], signed, alpha=0.07)
    write('softmax', 'QLinearSoftmax', [(3, 11)], signed, y_scale=1 / 256, axis=-1, opset=13)
    write('softmax_axis', 'QLinearSoftmax', [IMAGE], signed, y_scale=1 / 256, axis=1, opset=13)
    write('gemm', 'QGemm', [(4, 9)], signed, weights=(9, 5), alpha=1.0, transA=0, transB=0)
