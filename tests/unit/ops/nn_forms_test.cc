// Neural network operators: forms that ONNX's generated node tests of older releases do not have (opsets 7 to 12 and 18 to 21), and corner cases.
#include <gtest/gtest.h>

#include <vector>

#include "unit/ops/op_case.h"

namespace nibble {
namespace {

const OpCase kCases[] = {
    // ---- convolution
    {"conv_asymmetric_pads", 11, "const x float32[1,1,4] = {1,2,3,4}\nconst w float32[1,1,3] = {1,10,100}\ny = Conv(x, w) [pads=[2, 0]]",
     "const y float32[1,1,4] = {100,210,321,432}"},
    {"conv_same_lower", 11, "const x float32[1,1,4] = {1,2,3,4}\nconst w float32[1,1,2] = {1,10}\ny = Conv(x, w) [auto_pad=\"SAME_LOWER\"]",
     "const y float32[1,1,4] = {10,21,32,43}"},
    {"conv_same_upper_stride", 11, "const x float32[1,1,5] = {1,2,3,4,5}\nconst w float32[1,1,2] = {1,10}\ny = Conv(x, w) [auto_pad=\"SAME_UPPER\", strides=[2]]",
     "const y float32[1,1,3] = {21,43,5}"},
    {"conv_dilated_grouped", 11,
     "const x float32[1,2,4] = {1,2,3,4,5,6,7,8}\nconst w float32[2,1,2] = {1,10,1,100}\nconst b float32[2] = {0.5,-1}\ny = Conv(x, w, b) [group=2, dilations=[2]]",
     "const y float32[1,2,2] = {31.5,42.5,704,805}"},
    {"conv_grouped_two_in", 11, "const x float32[1,4,1] = {1,2,3,4}\nconst w float32[2,2,1] = {1,10,1,10}\ny = Conv(x, w) [group=2]", "const y float32[1,2,1] = {21,43}"},
    {"conv_fused_clip", 13,
     "const x float32[1,1,3] = {-1,2,9}\nconst w float32[1,1,1] = {1}\ny = Conv(x, w) [activation=\"Clip\", activation_min=0.0, activation_max=6.0]",
     "const y float32[1,1,3] = {0,2,6}"},
    {"conv_float16", 11, "const x float16[1,1,2] = {1,2}\nconst w float16[1,1,2] = {3,4}\ny = Conv(x, w)", "const y float16[1,1,1] = {11}"},
    {"conv_no_samples", 11, "const x float32[0,1,3] = {}\nconst w float32[2,1,2] = {1,2,3,4}\ny = Conv(x, w)", "const y float32[0,2,2] = {}"},
    {"conv_transpose_output_padding", 11,
     "const x float32[1,1,2] = {1,2}\nconst w float32[1,1,2] = {1,10}\nconst b float32[1] = {0.5}\ny = ConvTranspose(x, w, b) [strides=[2], output_padding=[1]]",
     "const y float32[1,1,5] = {1.5,10.5,2.5,20.5,0.5}"},
    {"conv_transpose_grouped", 11, "const x float32[1,2,1] = {1,2}\nconst w float32[2,1,2] = {1,2,3,4}\ny = ConvTranspose(x, w) [group=2]",
     "const y float32[1,2,2] = {1,2,6,8}"},
    {"conv_transpose_same_upper", 11, "const x float32[1,1,2] = {1,2}\nconst w float32[1,1,3] = {1,1,1}\ny = ConvTranspose(x, w) [strides=[2], auto_pad=\"SAME_UPPER\"]",
     "const y float32[1,1,4] = {1,1,3,2}"},
    // ---- products
    {"gemm_7_bias_row", 7, "const a float32[2,1] = {1,2}\nconst b float32[1,2] = {3,4}\nconst c float32[2,1] = {10,20}\ny = Gemm(a, b, c) [beta=0.5]",
     "const y float32[2,2] = {8,9,16,18}"},
    {"gemm_int32", 11, "const a int32[1,2] = {2,3}\nconst b int32[2,1] = {5,-7}\ny = Gemm(a, b)", "const y int32[1,1] = {-11}"},
    {"matmul_vectors", 13, "const a float32[2] = {2,3}\nconst b float32[2] = {5,7}\ny = MatMul(a, b)", "const y float32[] = {31}"},
    {"matmul_broadcast", 13, "const a float32[2,1,1,2] = {1,2,3,4}\nconst b float32[2,2,1] = {1,10,100,1000}\ny = MatMul(a, b)",
     "const y float32[2,2,1,1] = {21,2100,43,4300}"},
    {"matmul_int64", 13, "const a int64[1,2] = {3000000000,1}\nconst b int64[2,1] = {2,-1}\ny = MatMul(a, b)", "const y int64[1,1] = {5999999999}"},
    {"matmul_empty_sum", 13, "const a float32[2,0] = {}\nconst b float32[0,1] = {}\ny = MatMul(a, b)", "const y float32[2,1] = {0,0}"},
    {"matmul_integer_rows", 10,
     "const a uint8[2,2] = {1,2,3,4}\nconst b int8[2,1] = {1,-1}\nconst az uint8[2] = {1,3}\nconst bz int8[1] = {-2}\ny = MatMulInteger(a, b, az, bz)",
     "const y int32[2,1] = {1,1}"},
    // ---- quantization: round half to even, saturation
    {"quantize_ties", 13, "const x float32[6] = {0.5,1.5,2.5,-0.5,300,-300}\nconst s float32[] = {1}\nconst z int8[] = {0}\ny = QuantizeLinear(x, s, z)",
     "const y int8[6] = {0,2,2,0,127,-128}"},
    {"quantize_default_type", 10, "const x float32[2] = {-1,3}\nconst s float32[] = {2}\ny = QuantizeLinear(x, s)", "const y uint8[2] = {0,2}"},
    {"quantize_axis", 13, "const x float32[2,2] = {1,2,3,4}\nconst s float32[2] = {1,2}\nconst z uint8[2] = {0,10}\ny = QuantizeLinear(x, s, z) [axis=0]",
     "const y uint8[2,2] = {1,2,12,12}"},
    {"quantize_uint16", 21, "const x float32[3] = {1,70000,-5}\nconst s float32[] = {1}\nconst z uint16[] = {2}\ny = QuantizeLinear(x, s, z)",
     "const y uint16[3] = {3,65535,0}"},
    {"quantize_int4_output_dtype", 21, "const x float32[3] = {1,9,-9}\nconst s float32[] = {1}\ny = QuantizeLinear(x, s) [output_dtype=22]", "const y int4[3] = {1,7,-8}"},
    {"quantize_blocks", 21, "const x float32[1,5] = {2,4,6,8,10}\nconst s float32[1,3] = {1,2,5}\nconst z uint8[1,3] = {0,0,1}\ny = QuantizeLinear(x, s, z) [axis=1, block_size=2]",
     "const y uint8[1,5] = {2,4,3,4,3}"},
    {"quantize_float16", 19, "const x float16[2] = {1,3}\nconst s float16[] = {2}\nconst z uint8[] = {1}\ny = QuantizeLinear(x, s, z)", "const y uint8[2] = {1,3}"},
    {"dequantize_blocks_int4", 21,
     "const x int4[4,1] = {-8,7,1,2}\nconst s float32[2,1] = {2,3}\nconst z int4[2,1] = {0,1}\ny = DequantizeLinear(x, s, z) [axis=0, block_size=2]",
     "const y float32[4,1] = {-16,14,0,3}"},
    {"dequantize_int32", 13, "const x int32[2] = {100000,-3}\nconst s float32[] = {0.5}\ny = DequantizeLinear(x, s)", "const y float32[2] = {50000,-1.5}"},
    {"dequantize_int16", 21, "const x int16[2] = {-32768,5}\nconst s float32[] = {1}\nconst z int16[] = {5}\ny = DequantizeLinear(x, s, z)", "const y float32[2] = {-32773,0}"},
    {"dequantize_to_float16", 19, "const x uint8[2] = {4,6}\nconst s float16[] = {0.5}\nconst z uint8[] = {2}\ny = DequantizeLinear(x, s, z)", "const y float16[2] = {1,2}"},
    {"dynamic_quantize_zeros", 11, "const x float32[2] = {0,0}\ny, s, z = DynamicQuantizeLinear(x)", "const y uint8[2] = {0,0}\nconst s float32[] = {1}\nconst z uint8[] = {0}"},
    {"qlinear_conv_per_channel", 10,
     "const x uint8[1,1,2] = {3,5}\nconst xs float32[] = {1}\nconst xz uint8[] = {1}\nconst w int8[2,1,1] = {2,-3}\nconst ws float32[2] = {0.5,1}\nconst wz int8[2] = {0,0}\n"
     "const ys float32[] = {1}\nconst yz uint8[] = {100}\nconst b int32[2] = {1,0}\ny = QLinearConv(x, xs, xz, w, ws, wz, ys, yz, b)",
     "const y uint8[1,2,2] = {102,104,94,88}"},
    {"qlinear_matmul_saturates", 10,
     "const a int8[1,2] = {127,127}\nconst s float32[] = {1}\nconst z int8[] = {0}\nconst b int8[2,1] = {127,127}\ny = QLinearMatMul(a, s, z, b, s, z, s, z)", "const y int8[1,1] = {127}"},
    // ---- pools
    {"max_pool_ceil", 10, "const x float32[1,1,4] = {1,2,3,4}\ny = MaxPool(x) [kernel_shape=[3], strides=[2], ceil_mode=1]", "const y float32[1,1,2] = {3,4}"},
    {"max_pool_ceil_drops_window_in_padding", 12, "const x float32[1,1,2] = {1,2}\ny = MaxPool(x) [kernel_shape=[1], strides=[2], pads=[0, 1], ceil_mode=1]",
     "const y float32[1,1,2] = {1,-3.4028235e+38}"},
    {"max_pool_dilated", 10, "const x float32[1,1,5] = {5,1,4,2,3}\ny = MaxPool(x) [kernel_shape=[2], dilations=[3]]", "const y float32[1,1,2] = {5,3}"},
    {"max_pool_column_major", 12, "const x float32[1,1,2,2] = {1,2,3,0}\ny, i = MaxPool(x) [kernel_shape=[1, 2], storage_order=1]",
     "const y float32[1,1,2,1] = {2,3}\nconst i int64[1,1,2,1] = {2,1}"},
    {"max_pool_int8", 12, "const x int8[1,1,3] = {-3,-2,-5}\ny = MaxPool(x) [kernel_shape=[2]]", "const y int8[1,1,2] = {-2,-2}"},
    {"average_pool_dilated", 19, "const x float32[1,1,5] = {1,2,3,4,5}\ny = AveragePool(x) [kernel_shape=[2], dilations=[2]]", "const y float32[1,1,3] = {2,3,4}"},
    {"average_pool_pad_counts", 7, "const x float32[1,1,2] = {2,4}\ny = AveragePool(x) [kernel_shape=[2], pads=[1, 0], count_include_pad=1]", "const y float32[1,1,2] = {1,3}"},
    {"average_pool_ceil_excludes_what_it_added", 19, "const x float32[1,1,3] = {2,4,6}\ny = AveragePool(x) [kernel_shape=[2], strides=[2], ceil_mode=1, count_include_pad=1]",
     "const y float32[1,1,2] = {3,6}"},
    {"lp_pool_dilated", 18, "const x float32[1,1,3] = {3,9,4}\ny = LpPool(x) [kernel_shape=[2], dilations=[2], p=2]", "const y float32[1,1,1] = {5}"},
    {"global_lp_pool", 7, "const x float32[1,1,2] = {-3,4}\ny = GlobalLpPool(x) [p=1]", "const y float32[1,1,1] = {7}"},
    // ---- normalisations
    {"batch_norm_7", 7, "const x float32[1,2,1] = {1,2}\nconst s float32[2] = {1,2}\nconst b float32[2] = {0,1}\nconst m float32[2] = {0,1}\nconst v float32[2] = {1,4}\ny = BatchNormalization(x, s, b, m, v) [epsilon=0.0]",
     "const y float32[1,2,1] = {1,2}"},
    {"group_norm_18_per_group", 18, "const x float32[1,4] = {1,3,5,9}\nconst s float32[2] = {1,10}\nconst b float32[2] = {0,1}\ny = GroupNormalization(x, s, b) [num_groups=2, epsilon=0.0]",
     "const y float32[1,4] = {-1,1,-9,11}"},
    {"group_norm_21_per_channel", 21, "const x float32[1,4] = {1,3,5,9}\nconst s float32[4] = {1,2,3,4}\nconst b float32[4] = {0,0,0,1}\ny = GroupNormalization(x, s, b) [num_groups=2, epsilon=0.0]",
     "const y float32[1,4] = {-1,2,-3,5}"},
    {"layer_norm_float16", 17, "const x float16[1,2] = {1,3}\nconst s float16[2] = {1,2}\ny = LayerNormalization(x, s) [epsilon=0.0]", "const y float16[1,2] = {-1,2}"},
    {"softmax_flattens_before_13", 11, "const x float32[1,2,2] = {0,0,0,0}\ny = Softmax(x)", "const y float32[1,2,2] = {0.25,0.25,0.25,0.25}"},
    {"softmax_one_axis_from_13", 13, "const x float32[1,2,2] = {0,0,0,0}\ny = Softmax(x)", "const y float32[1,2,2] = {0.5,0.5,0.5,0.5}"},
    {"softmax_large", 13, "const x float32[2] = {1000,1000}\ny = Softmax(x)", "const y float32[2] = {0.5,0.5}"},
    {"hardmax_first_of_equals", 13, "const x float32[3] = {1,2,2}\ny = Hardmax(x)", "const y float32[3] = {0,1,0}"},
    // ---- resizing
    {"upsample_7", 7, "const x float32[1,1,1,2] = {1,2}\ny = Upsample(x) [scales=[1.0, 1.0, 1.0, 2.0]]", "const y float32[1,1,1,4] = {1,1,2,2}"},
    {"upsample_9_linear", 9, "const x float32[1,1,1,2] = {1,3}\nconst s float32[4] = {1,1,1,2}\ny = Upsample(x, s) [mode=\"linear\"]", "const y float32[1,1,1,4] = {1,2,3,3}"},
    {"resize_10", 10, "const x float32[1,1,1,4] = {1,2,3,4}\nconst s float32[4] = {1,1,1,0.5}\ny = Resize(x, s)", "const y float32[1,1,1,2] = {1,3}"},
    {"resize_11_tf_half_pixel", 11,
     "const x float32[1,1,1,2] = {1,2}\nconst r float32[0] = {}\nconst s float32[4] = {1,1,1,2}\ny = Resize(x, r, s) [coordinate_transformation_mode=\"tf_half_pixel_for_nn\", nearest_mode=\"floor\"]",
     "const y float32[1,1,1,4] = {1,1,2,2}"},
    {"resize_11_empty_scales", 11, "const x float32[1,1,1,2] = {1,2}\nconst e float32[0] = {}\nconst n int64[4] = {1,1,1,4}\ny = Resize(x, e, e, n) [coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\"]",
     "const y float32[1,1,1,4] = {1,1,2,2}"},
    {"resize_18_antialias", 18,
     "const x float32[1,1,4,4] = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}\nconst s float32[4] = {1,1,0.6,0.6}\ny = Resize(x, _, s) [mode=\"linear\", antialias=1]",
     "const y float32[1,1,2,2] = {2.875,4.5,9.375,11}"},
    {"resize_18_axes", 18, "const x float32[2,1,1] = {1,2}\nconst s float32[1] = {2}\ny = Resize(x, _, s) [axes=[0], mode=\"nearest\"]", "const y float32[4,1,1] = {1,1,2,2}"},
    {"resize_18_not_larger", 18, "const x float32[2,4] = {1,2,3,4,5,6,7,8}\nconst n int64[2] = {4,4}\ny = Resize(x, _, _, n) [keep_aspect_ratio_policy=\"not_larger\"]",
     "const y float32[2,4] = {1,2,3,4,5,6,7,8}"},
    {"resize_18_not_smaller", 18, "const x float32[1,2] = {1,2}\nconst n int64[2] = {2,2}\ny = Resize(x, _, _, n) [keep_aspect_ratio_policy=\"not_smaller\"]",
     "const y float32[2,4] = {1,1,2,2,1,1,2,2}"},
    {"resize_19_symmetric", 19, "const x float32[1,4] = {1,2,3,4}\nconst s float32[2] = {1,0.6}\ny = Resize(x, _, s) [mode=\"linear\", coordinate_transformation_mode=\"half_pixel_symmetric\"]",
     "const y float32[1,2] = {1.6666667,3.3333333}"},
    {"resize_uint8", 13, "const x uint8[1,2] = {1,255}\nconst s float32[2] = {1,2}\ny = Resize(x, _, s)", "const y uint8[1,4] = {1,1,255,255}"},
    {"grid_sample_20_volume", 20, "const x float32[1,1,1,1,2] = {1,3}\nconst g float32[1,1,1,1,3] = {0,0,0}\ny = GridSample(x, g)", "const y float32[1,1,1,1,1] = {2}"},
    {"grid_sample_20_names", 20, "const x float32[1,1,1,2] = {1,3}\nconst g float32[1,1,1,2] = {0.5,0}\ny = GridSample(x, g) [mode=\"nearest\", align_corners=1]", "const y float32[1,1,1,1] = {3}"},
    // ---- others
    {"dropout_7_mask", 7, "const x float32[2] = {1,2}\ny, m = Dropout(x)", "const y float32[2] = {1,2}\nconst m float32[2] = {1,1}"},
    {"space_to_depth_int8", 13, "const x int8[1,1,2,2] = {1,2,3,4}\ny = SpaceToDepth(x) [blocksize=2]", "const y int8[1,4,1,1] = {1,2,3,4}"},
    {"nms_no_limit_given", 11, "const b float32[1,1,4] = {0,0,1,1}\nconst s float32[1,1,1] = {1}\ny = NonMaxSuppression(b, s)", "const y int64[0,3] = {}"},
    {"lp_normalization_zeros", 7, "const x float32[2] = {0,0}\ny = LpNormalization(x)", "const y float32[2] = {0,0}"},
};

std::string name_of(const testing::TestParamInfo<OpCase>& test) { return test.param.name; }

class NnForms : public testing::TestWithParam<OpCase> {};
TEST_P(NnForms, GivesWhatOnnxSays) { expect_outputs(GetParam()); }
INSTANTIATE_TEST_SUITE_P(All, NnForms, testing::ValuesIn(kCases), name_of);

const std::string kX = "const x float32[1,2,4] = {1,2,3,4,5,6,7,8}\n";
const std::string kW = "const w float32[2,2,3] = {1,2,3,4,5,6,7,8,9,10,11,12}\n";

const OpCase kRefusals[] = {
    {"conv_group_0", 13, kX + kW + "y = Conv(x, w) [group=0]", "group is 0"},
    {"conv_group_does_not_divide", 13, kX + kW + "y = Conv(x, w) [group=3]", "groups"},
    {"conv_stride_0", 13, kX + kW + "y = Conv(x, w) [strides=[0]]", "'strides' holds 0"},
    {"conv_strides_count", 13, kX + kW + "y = Conv(x, w) [strides=[1, 1]]", "'strides' has 2 entries"},
    {"conv_dilation_huge", 13, kX + kW + "y = Conv(x, w) [dilations=[4611686018427387904]]", "'dilations' holds"},
    {"conv_negative_pad", 13, kX + kW + "y = Conv(x, w) [pads=[-1, 0]]", "'pads' holds -1"},
    {"conv_window_too_large", 13, kX + kW + "y = Conv(x, w) [dilations=[9]]", "window spans 19"},
    {"conv_kernel_shape_differs", 13, kX + kW + "y = Conv(x, w) [kernel_shape=[2]]", "kernel_shape says 2"},
    {"conv_auto_pad_unknown", 13, kX + kW + "y = Conv(x, w) [auto_pad=\"SOME\"]", "auto_pad is 'SOME'"},
    {"conv_strides_wrong_kind", 13, kX + kW + "y = Conv(x, w) [strides=\"two\"]", "'strides' must be a list of integers"},
    {"conv_ranks_differ", 13, kX + "const w float32[2,2,3,1] splat 1\ny = Conv(x, w)", "weight"},
    {"conv_channels_differ", 13, kX + "const w float32[2,3,3] splat 1\ny = Conv(x, w)", "the weight"},
    {"conv_bias_size", 13, kX + kW + "const b float32[3] splat 1\ny = Conv(x, w, b)", "the bias has shape [3]"},
    {"conv_integers", 13, "const x int32[1,1,2] = {1,2}\nconst w int32[1,1,1] = {1}\ny = Conv(x, w)", "floating point"},
    {"conv_activation_unknown", 13, kX + kW + "y = Conv(x, w) [activation=\"Swish\"]", "'Swish' is unknown"},
    {"conv_transpose_padding_count", 13, kX + "const w float32[2,1,3] splat 1\ny = ConvTranspose(x, w) [output_padding=[1, 1]]", "output_padding"},
    {"pool_without_kernel", 13, kX + "y = MaxPool(x)", "'kernel_shape' is missing"},
    {"pool_kernel_0", 13, kX + "y = AveragePool(x) [kernel_shape=[0]]", "'kernel_shape' holds 0"},
    {"gemm_shapes", 13, "const a float32[2,3] splat 1\nconst b float32[2,3] splat 1\ny = Gemm(a, b)", "cannot multiply"},
    {"matmul_scalar", 13, "const a float32[] = {1}\nconst b float32[2] = {1,2}\ny = MatMul(a, b)", "MatMul"},
    {"matmul_broadcast", 13, "const a float32[2,1,1] splat 1\nconst b float32[3,1,1] splat 1\ny = MatMul(a, b)", "cannot multiply"},
    {"softmax_axis", 13, "const x float32[2] = {1,2}\ny = Softmax(x) [axis=1]", "axis 1 is out of range"},
    {"resize_both", 13, "const x float32[1,2] = {1,2}\nconst s float32[2] = {1,2}\nconst n int64[2] = {1,4}\ny = Resize(x, _, s, n)", "exactly one of scales and sizes"},
    {"resize_scale_nan", 13, "const x float32[1,2] = {1,2}\nconst s float32[2] = {1,nan}\ny = Resize(x, _, s)", "a scale is nan"},
    {"resize_scale_huge", 13, "const x float32[1,2] = {1,2}\nconst s float32[2] = {1,1e30}\ny = Resize(x, _, s)", "no usable size"},
    {"resize_mode", 13, "const x float32[1,2] = {1,2}\nconst s float32[2] = {1,2}\ny = Resize(x, _, s) [mode=\"fancy\"]", "'mode' is 'fancy'"},
    {"quantize_to_int32", 13, "const x float32[1] = {1}\nconst s float32[] = {1}\nconst z int32[] = {0}\ny = QuantizeLinear(x, s, z)", "cannot quantize to int32"},
    {"quantize_scale_nan", 13, "const x float32[1] = {1}\nconst s float32[] = {nan}\ny = QuantizeLinear(x, s)", "a scale is nan"},
    {"quantize_axis_sizes", 13, "const x float32[1,3] = {1,2,3}\nconst s float32[2] = {1,2}\ny = QuantizeLinear(x, s)", "the scale has shape [2]"},
    {"dequantize_blocks", 21, "const x int8[1,3] = {1,2,3}\nconst s float32[1,1] = {1}\ny = DequantizeLinear(x, s) [axis=1, block_size=2]", "expected [1,2]"},
    {"group_norm_0", 18, "const x float32[1,2] = {1,2}\nconst s float32[1] = {1}\ny = GroupNormalization(x, s, s) [num_groups=0]", "num_groups is 0"},
    {"depth_to_space", 13, "const x float32[1,3,1,1] = {1,2,3}\ny = DepthToSpace(x) [blocksize=2]", "blocksize 2"},
    {"dropout_training", 13, "const x float32[1] = {1}\nconst r float32[] = {0.5}\nconst t bool[] = {1}\ny = Dropout(x, r, t)", "random"},
    {"unpool_index", 11, "const x float32[1,1,1] = {1}\nconst i int64[1,1,1] = {9}\ny = MaxUnpool(x, i) [kernel_shape=[2], strides=[2]]", "index 9 is outside"},
    {"roi_batch", 16, "const x float32[1,1,1,1] = {1}\nconst r float32[1,4] = {0,0,1,1}\nconst b int64[1] = {7}\ny = RoiAlign(x, r, b)", "batch index 7"},
};

class NnRefusals : public testing::TestWithParam<OpCase> {};
TEST_P(NnRefusals, NameTheNodeAndTheReason) { expect_refusal(GetParam()); }
INSTANTIATE_TEST_SUITE_P(All, NnRefusals, testing::ValuesIn(kRefusals), name_of);

}  // namespace
}  // namespace nibble
