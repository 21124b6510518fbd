// Forms of the operators that few networks have: simulation and runtime agree to the bit, and both stay close to the float network (they
// share their geometry, so that agreement alone would not find a mistake there).
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>

#include "nibble/error.h"
#include "nibble/onnx.h"
#include "support/quantized.h"
#include "unit/runtime/agreement.h"

namespace nibble {
namespace {

// Constants with "draw" in their names are drawn in [-1, 1).
Graph drawn(const std::string& text) {
  Graph graph = parse_graph_text(text);
  GraphEditor editor(graph);
  std::mt19937_64 random(3);
  for (ValueId v = 0; v < static_cast<ValueId>(graph.values().size()); ++v) {
    const Value& value = graph.value(v);
    if (!value.constant || value.constant->type() != DataType::kFloat32 || value.name.find("draw") == std::string::npos) continue;
    Tensor tensor = *value.constant;
    for (float& x : tensor.mutable_data<float>()) x = static_cast<float>(random() >> 40) * 0x1p-23F - 1.0F;
    editor.set_constant(v, tensor);
  }
  editor.finish();
  return graph;
}

// 8 bits and a handful of layers on drawn weights leave 20 to 40 dB; a value in the wrong place leaves 0.
constexpr double kLeastSqnr = 15.0;

double sqnr(const Tensor& reference, const Tensor& value) {
  const auto a = to_doubles(reference);
  const auto b = to_doubles(value);
  double signal = 0;
  double noise = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    signal += a[i] * a[i];
    noise += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return noise == 0 ? 200.0 : 10.0 * std::log10(signal / noise);
}

struct Form {
  const char* name;
  int opset;
  const char* text;
};
std::ostream& operator<<(std::ostream& out, const Form& form) { return out << form.name; }

// Every text begins with x and a convolution that makes integers of it: a = Conv(x).
const char* const kHead = R"(input x float32[batch,4,6,5]
const w_draw float32[4,4,1,1] splat 0
a = Conv(x, w_draw)
)";
const char* const kHead3d = R"(input x float32[batch,4,6,5,4]
const w_draw float32[4,4,1,1,1] splat 0
a = Conv(x, w_draw)
)";
const char* const kHead1d = R"(input x float32[batch,4,12]
const w_draw float32[4,4,1] splat 0
a = Conv(x, w_draw)
)";

Graph graph_of(const Form& form) {
  std::string text = form.text;
  for (const auto& [mark, head] : {std::pair{"HEAD3D", kHead3d}, {"HEAD1D", kHead1d}, {"HEAD", kHead}}) {
    if (const auto at = text.find(mark); at != std::string::npos) {
      text.replace(at, std::string(mark).size() + 1, head);
      break;
    }
  }
  return drawn("graph g\nopset ai.onnx " + std::to_string(form.opset) + "\n" + text);
}

const Form kForms[] = {
    {"max_pool_3d", 13, "HEAD3D\ny = MaxPool(a) [kernel_shape=[2, 3, 2], strides=[2, 1, 1], pads=[1, 1, 0, 0, 1, 1]]\noutput y"},
    {"average_pool_3d", 13, "HEAD3D\ny = AveragePool(a) [kernel_shape=[2, 3, 2], strides=[2, 1, 1], pads=[1, 1, 0, 0, 1, 1]]\noutput y"},
    {"average_pool_3d_count_pad", 13,
     "HEAD3D\ny = AveragePool(a) [kernel_shape=[2, 3, 2], pads=[1, 1, 0, 0, 1, 1], count_include_pad=1]\noutput y"},
    {"global_pools_3d", 13, "HEAD3D\ny = GlobalAveragePool(a)\nz = GlobalMaxPool(a)\noutput y\noutput z"},
    {"global_pools_1d", 13, "HEAD1D\ny = GlobalAveragePool(a)\nz = GlobalMaxPool(a)\noutput y\noutput z"},
    {"pools_1d", 13,
     "HEAD1D\ny = AveragePool(a) [kernel_shape=[3], pads=[1, 1]]\nz = MaxPool(y) [kernel_shape=[2], strides=[2]]\noutput z"},
    {"average_pool_ceil", 13,
     "HEAD\ny = AveragePool(a) [kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 0, 0, 1], count_include_pad=1]\noutput y"},
    {"average_pool_dilated", 19, "HEAD\ny = AveragePool(a) [kernel_shape=[2, 2], dilations=[2, 3]]\noutput y"},
    {"max_pool_dilated_ceil", 13,
     "HEAD\ny = MaxPool(a) [kernel_shape=[2, 2], dilations=[2, 2], strides=[2, 3], ceil_mode=1, pads=[1, 1, 1, 1]]\noutput y"},
    {"max_pool_valid_ceil", 13, "HEAD\ny = MaxPool(a) [kernel_shape=[4, 2], strides=[3, 2], auto_pad=\"VALID\", ceil_mode=1]\noutput y"},
    {"average_pool_valid_ceil", 13,
     "HEAD\ny = AveragePool(a) [kernel_shape=[4, 2], strides=[3, 2], auto_pad=\"VALID\", ceil_mode=1]\noutput y"},
    {"conv_valid_with_pads", 13, "HEAD\ny = Conv(a, w_draw) [pads=[1, 1, 1, 1], auto_pad=\"VALID\"]\noutput y"},
    {"transposed_valid_with_pads", 13,
     "HEAD\nconst v_draw float32[4,3,3,3] splat 0\ny = ConvTranspose(a, v_draw) [pads=[1, 1, 1, 1], auto_pad=\"VALID\"]\noutput y"},
    {"transposed_empty_output_shape", 13,
     "HEAD\nconst v_draw float32[4,3,3,3] splat 0\ny = ConvTranspose(a, v_draw) [output_shape=[], output_padding=[]]\noutput y"},
    {"transposed_whole_output_shape", 13,
     "HEAD\nconst v_draw float32[4,3,3,3] splat 0\ny = ConvTranspose(a, v_draw) [strides=[2, 2], output_shape=[2, 3, 12, 10]]\noutput y"},
    {"max_pool_same", 11, "HEAD\ny = MaxPool(a) [kernel_shape=[3, 2], strides=[2, 2], auto_pad=\"SAME_LOWER\"]\noutput y"},
    {"average_pool_same", 11, "HEAD\ny = AveragePool(a) [kernel_shape=[3, 2], strides=[2, 2], auto_pad=\"SAME_UPPER\"]\noutput y"},
    {"max_pool_indices", 13, "HEAD\ny, i = MaxPool(a) [kernel_shape=[2, 2]]\noutput y\noutput i"},
    {"mean_of_channels", 13, "HEAD\ny = ReduceMean(a) [axes=[1], keepdims=1]\noutput y"},
    {"mean_of_neighbours", 13, "HEAD\ny = ReduceMean(a) [axes=[1, 2], keepdims=0]\noutput y"},
    {"mean_of_distant_axes", 13, "HEAD\ny = ReduceMean(a) [axes=[1, -1], keepdims=1]\noutput y"},
    {"mean_of_rows", 13, "HEAD\ny = ReduceMean(a) [axes=[2], keepdims=1]\nz = Conv(y, w_draw)\noutput z"},
    {"mean_of_nothing", 18, "HEAD\nconst axes int64[0] splat 0\ny = ReduceMean(a, axes) [noop_with_empty_axes=1]\noutput y"},
    {"mean_axes_input", 18, "HEAD\nconst axes int64[2] = {-1, -2}\ny = ReduceMean(a, axes) [keepdims=0]\noutput y"},
    {"odd_groups", 13, R"(input x float32[batch,9,6,5]
const w_draw float32[15,3,3,3] splat 0
const b_draw float32[15] splat 0
a = Conv(x, w_draw, b_draw) [group=3, pads=[1, 1, 1, 1]]
r = Relu(a)
output r)"},
    {"depth_multiplier", 13, R"(input x float32[batch,5,6,5]
const w_draw float32[15,1,3,3] splat 0
a = Conv(x, w_draw) [group=5]
output a)"},
    {"transposed_depthwise", 13, R"(input x float32[batch,5,6,5]
const w_draw float32[5,1,3,3] splat 0
const b_draw float32[5] splat 0
a = ConvTranspose(x, w_draw, b_draw) [group=5, strides=[2, 2]]
output a)"},
    {"transposed_same_upper", 13, R"(input x float32[batch,5,6,5]
const w_draw float32[5,3,3,4] splat 0
a = ConvTranspose(x, w_draw) [strides=[2, 3], auto_pad="SAME_UPPER"]
output a)"},
    {"transposed_same_lower", 13, R"(input x float32[batch,5,6,5]
const w_draw float32[5,3,4,3] splat 0
a = ConvTranspose(x, w_draw) [strides=[2, 3], auto_pad="SAME_LOWER"]
output a)"},
    {"transposed_output_shape", 13, R"(input x float32[batch,5,6,5]
const w_draw float32[5,3,3,3] splat 0
a = ConvTranspose(x, w_draw) [strides=[2, 2], output_shape=[12, 10]]
output a)"},
    {"transposed_larger_output", 13, R"(input x float32[batch,2,3,3]
const w_draw float32[2,3,2,2] splat 0
a = ConvTranspose(x, w_draw) [strides=[3, 3], output_padding=[2, 1]]
output a)"},
    {"transposed_cropped", 13, R"(input x float32[batch,5,6,5]
const w_draw float32[5,3,3,3] splat 0
a = ConvTranspose(x, w_draw) [pads=[3, 2, 2, 3], dilations=[1, 2]]
output a)"},
    {"transposed_3d", 13, R"(input x float32[batch,2,3,4,3]
const w_draw float32[2,3,2,2,2] splat 0
a = ConvTranspose(x, w_draw) [strides=[2, 1, 2]]
r = Relu(a)
output r)"},
    {"one_bias_for_all", 13, R"(input x float32[batch,24]
const w_draw float32[24,10] splat 0
const b_draw float32[1] splat 0
a = Gemm(x, w_draw, b_draw)
output a)"},
    {"bias_row", 13, R"(input x float32[batch,24]
const w_draw float32[24,10] splat 0
const b_draw float32[1,10] splat 0
a = Gemm(x, w_draw, b_draw)
output a)"},
    {"bias_scalar", 13, R"(input x float32[batch,24]
const w_draw float32[24,10] splat 0
const b_draw float32[] = {0.7}
a = Gemm(x, w_draw, b_draw)
output a)"},
    {"prelu", 13, "HEAD\nconst s_draw float32[4,1,1] splat 0\np = PRelu(a, s_draw)\ny = Conv(p, w_draw)\noutput y"},
    {"clip_runtime_bounds", 13,
     "HEAD\nconst k float32[1] = {0.25}\nlo = ReduceMin(a) [keepdims=0]\nhi = ReduceMax(a) [keepdims=0]\n"
     "h = Mul(hi, k)\nhs = Squeeze(h)\nc = Clip(a, lo, hs)\ny = Conv(c, w_draw)\noutput y"},
    {"clip_attributes", 10, "HEAD\nc = Clip(a) [min=-0.5, max=0.75]\nm = MaxPool(c) [kernel_shape=[2, 2]]\noutput m"},
    {"clip_one_bound", 13, "HEAD\nconst hi float32[] = {0.5}\nm = MaxPool(a) [kernel_shape=[2, 2]]\nc = Clip(m, _, hi)\noutput c"},
    {"intermediate_outputs", 13, "HEAD\nr = Relu(a)\ny = Conv(r, w_draw)\nz = Add(y, r)\noutput z\noutput r\noutput a"},
    {"output_twice", 13, "HEAD\nr = Relu(a)\noutput r\noutput r"},
    {"input_is_output", 13, "HEAD\noutput x\noutput a"},
    {"constant_is_output", 13, "HEAD\nconst k float32[2] = {1, 2}\noutput k\noutput a"},
    {"concat_constant_channels", 13,
     "HEAD\nconst k_draw float32[2,3,6,5] splat 0\nc = Concat(a, k_draw) [axis=1]\nm = MaxPool(c) [kernel_shape=[2, 2]]\noutput m"},
    {"concat_constant_first", 13,
     "HEAD\nconst k_draw float32[2,4,6,2] splat 0\nc = Concat(k_draw, a) [axis=-1]\nm = MaxPool(c) [kernel_shape=[2, 2]]\noutput m"},
    {"concat_itself", 13, "HEAD\nc = Concat(a, a, a) [axis=2]\nm = MaxPool(c) [kernel_shape=[2, 2]]\noutput m"},
    {"concat_batch", 13, "HEAD\nr = Relu(a)\nc = Concat(a, r) [axis=0]\noutput c"},
    {"pad_negative", 13, "HEAD\nconst p int64[8] = {0, 1, -1, 2, 0, -1, 1, -2}\ny = Pad(a, p)\noutput y"},
    {"pad_reflect", 13, "HEAD\nconst p int64[8] = {0, 0, 1, 2, 0, 0, 1, 2}\ny = Pad(a, p) [mode=\"reflect\"]\noutput y"},
    {"pad_edge_axes", 18,
     "HEAD\nconst p int64[4] = {1, 2, 0, 1}\nconst k int64[2] = {-1, 1}\ny = Pad(a, p, _, k) [mode=\"edge\"]\noutput y"},
    {"pad_wrap", 19, "HEAD\nconst p int64[8] = {0, 0, 1, 2, 0, 0, 1, 2}\ny = Pad(a, p) [mode=\"wrap\"]\noutput y"},
    {"pad_attributes", 10, "HEAD\ny = Pad(a) [pads=[0, 0, 1, 2, 0, 0, 1, 2], value=0.5]\nm = MaxPool(y) [kernel_shape=[2, 2]]\noutput m"},
    {"reshape_minus_one", 13, "HEAD\nconst s int64[3] = {0, -1, 10}\ny = Reshape(a, s)\nz = Relu(y)\noutput z"},
    {"reshape_of_shape", 13,
     "HEAD\nconst i int64[1] = {0}\nconst t int64[1] = {-1}\ns = Shape(a)\nb = Gather(s, i)\nc = Concat(b, t) [axis=0]\n"
     "f = Reshape(a, c)\nconst v_draw float32[120,7] splat 0\ny = MatMul(f, v_draw)\noutput y"},
    {"flatten_axes", 13, "HEAD\ny = Flatten(a) [axis=2]\nz = Flatten(a) [axis=-1]\noutput y\noutput z"},
    {"squeeze", 13,
     "HEAD\ng = GlobalAveragePool(a)\nconst axes int64[2] = {2, 3}\ns = Squeeze(g, axes)\nconst v_draw float32[4,7] splat 0\n"
     "y = MatMul(s, v_draw)\noutput y"},
    {"unsqueeze", 13, "HEAD\nconst axes int64[2] = {1, -1}\ns = Unsqueeze(a, axes)\nr = Sigmoid(s)\noutput r"},
    {"transpose_twice", 13,
     "HEAD\nt = Transpose(a) [perm=[0, 2, 3, 1]]\nm = Sigmoid(t)\nu = Transpose(m) [perm=[0, 3, 1, 2]]\ny = Conv(u, w_draw)\noutput y"},
    {"transpose_default", 13, "HEAD\nt = Transpose(a)\nr = Sigmoid(t)\noutput r"},
    {"upsample_9", 9, "HEAD\nconst s float32[4] = {1, 1, 2, 3}\ny = Upsample(a, s)\nm = MaxPool(y) [kernel_shape=[2, 2]]\noutput m"},
    {"upsample_7", 7, "HEAD\ny = Upsample(a) [scales=[1.0, 1.0, 2.0, 2.0]]\nm = MaxPool(y) [kernel_shape=[2, 2]]\noutput m"},
    {"resize_10", 10, "HEAD\nconst s float32[4] = {1, 1, 0.5, 1.7}\ny = Resize(a, s)\nm = Sigmoid(y)\noutput m"},
    {"resize_sizes", 13,
     "HEAD\nconst s int64[4] = {2, 4, 11, 3}\ny = Resize(a, _, _, s) [nearest_mode=\"ceil\", "
     "coordinate_transformation_mode=\"align_corners\"]\noutput y"},
    {"resize_channels", 13, "HEAD\nconst s float32[4] = {1, 2, 1, 2}\ny = Resize(a, _, s) [nearest_mode=\"floor\"]\noutput y"},
    {"resize_linear", 13, "HEAD\nconst s float32[4] = {1, 1, 2, 2}\ny = Resize(a, _, s) [mode=\"linear\"]\nz = Conv(y, w_draw)\noutput z"},
    {"resize_axes", 18, "HEAD\nconst s float32[2] = {2, 3}\ny = Resize(a, _, s) [axes=[2, 3]]\nz = Conv(y, w_draw)\noutput z"},
    {"split_attribute", 11, "HEAD\nb, c = Split(a) [axis=1, split=[1, 3]]\nr = Relu(b)\noutput r\noutput c"},
    {"split_even", 18, "HEAD\nb, c, d = Split(a) [axis=2, num_outputs=3]\ns = Sub(b, d)\noutput s\noutput c"},
    {"split_first_left_out", 13, "HEAD\n_, c = Split(a) [axis=1]\nr = Sigmoid(c)\noutput r"},
    {"slice_attributes", 9, "HEAD\ny = Slice(a) [starts=[1, 0], ends=[3, -1], axes=[1, 3]]\noutput y"},
    {"slice_backwards", 13,
     "HEAD\nconst s int64[1] = {-1}\nconst e int64[1] = {-100}\nconst k int64[1] = {3}\nconst t int64[1] = {-2}\ny = Slice(a, s, e, k, "
     "t)\noutput y"},
    {"gather_and_its_kin", 13,
     "HEAD\nconst i int64[2] = {-1, 0}\nconst e int64[2,1,1,5] = {0, 1, 2, 3, 0, 1, 1, 1, 1, 1}\ny = Gather(a, i) [axis=1]\n"
     "z = GatherElements(a, e) [axis=1]\nr = Sigmoid(y)\noutput r\noutput z"},
    {"gather_scalar", 13, "HEAD\nconst i int64[] = {1}\ny = Gather(a, i) [axis=2]\nr = Sigmoid(y)\noutput r"},
    {"depth_and_space", 13,
     "HEAD\nconst v_draw float32[3,1,1,1] splat 0\ny = DepthToSpace(a) [blocksize=2, mode=\"CRD\"]\nz = Conv(y, v_draw)\noutput z"},
    {"space_to_depth", 13,
     "input x float32[batch,2,6,4]\nconst w_draw float32[2,2,1,1] splat 0\na = Conv(x, w_draw)\ny = SpaceToDepth(a) [blocksize=2]\nr = "
     "Sigmoid(y)\noutput r"},
    {"expand_and_tile", 13,
     "HEAD\ng = GlobalAveragePool(a)\nconst s int64[4] = {1, 4, 2, 3}\ny = Expand(g, s)\nconst t int64[4] = {1, 1, 2, 1}\nz = Tile(y, "
     "t)\nr = Sigmoid(z)\noutput r"},
    {"matmul_vector", 13, "HEAD1D\nconst v_draw float32[12] splat 0\ny = MatMul(a, v_draw)\noutput y"},
    {"matmul_constant_left", 13, "HEAD1D\nconst v_draw float32[3,4] splat 0\ny = MatMul(v_draw, a)\noutput y"},
    {"matmul_batched_constant", 13, "HEAD\nconst v_draw float32[4,5,3] splat 0\ny = MatMul(a, v_draw)\nr = Relu(y)\noutput r"},
    {"matmul_both_vectors", 13, "input x float32[8]\ninput z float32[8]\ny = MatMul(x, z)\noutput y"},
    {"multiply_smaller_first", 13, "HEAD\ng = GlobalAveragePool(a)\ns = Sigmoid(g)\ny = Mul(s, a)\noutput y"},
    {"subtract_constant_first", 13, "HEAD\nconst k_draw float32[4,1,1] splat 0\ny = Sub(k_draw, a)\nz = Add(k_draw, y)\noutput z"},
    {"add_row_and_column", 13,
     "HEAD\nm = ReduceMean(a) [axes=[2], keepdims=1]\nn = ReduceMean(a) [axes=[3], keepdims=1]\ny = Add(m, n)\noutput y"},
    {"add_larger_rank", 13, "HEAD\nconst k_draw float32[1,1,1,1,5] splat 0\ny = Add(a, k_draw)\noutput y"},
    {"float_and_integer_readers", 13,
     "HEAD\nr = Relu(a)\ne = Sqrt(r)\ny = Conv(r, w_draw)\nz = Add(y, e)\nq = Conv(e, w_draw)\noutput z\noutput q"},
    {"island_with_softmax", 13, "HEAD\ns = Softmax(a) [axis=1]\ny = Conv(s, w_draw)\noutput y"},
    {"dropout_7", 7, "HEAD\nd = Dropout(a)\ny = Conv(d, w_draw)\noutput y"},
    {"min_of_channels", 13, "HEAD\nconst k_draw float32[1,4,1,1] splat 0\nm = Min(a, k_draw)\ny = Conv(m, w_draw)\noutput y"},
    {"max_of_channels_first", 13, "HEAD\nconst k_draw float32[4,1,1] splat 0\nm = Max(k_draw, a)\ny = Conv(m, w_draw)\noutput y"},
    {"min_of_one_bound", 13, "HEAD\nconst k float32[1,1,1,1] splat 0.3\nr = Relu(a)\nm = Min(r, k)\ny = Conv(m, w_draw)\noutput y"},
    {"min_of_rows_and_columns", 13,
     "HEAD\nconst k_draw float32[6,1] splat 0\nconst l_draw float32[5] splat 0\nm = Min(a, k_draw)\nn = Max(a, l_draw)\noutput m\noutput n"},
    {"min_of_several_axes", 13, "HEAD\nconst k_draw float32[4,6,1] splat 0\nm = Min(a, k_draw)\ny = Conv(m, w_draw)\noutput y"},
    {"min_enlarges", 13, "HEAD\ng = GlobalAveragePool(a)\nconst k_draw float32[1,4,6,5] splat 0\nm = Min(g, k_draw)\ny = Conv(m, w_draw)\noutput y"},
    {"min_of_more_axes", 13, "HEAD1D\nconst k_draw float32[1,1,4,1] splat 0\ny = Min(a, k_draw)\noutput y"},
    {"min_and_max_1d", 13,
     "HEAD1D\nconst k_draw float32[4,1] splat 0.5\nconst l_draw float32[12] splat 0\nm = Min(a, k_draw)\nn = Max(m, l_draw)\ny = Conv(n, w_draw)\noutput y"},
    {"min_3d", 13, "HEAD3D\nconst k_draw float32[4,1,1,1] splat 0\nm = Min(a, k_draw)\ny = Conv(m, w_draw)\noutput y"},
    {"min_of_a_matrix", 13, R"(input x float32[batch,24]
const w_draw float32[24,10] splat 0
const v_draw float32[10,5] splat 0
const k_draw float32[1,10] splat 0
a = Gemm(x, w_draw)
m = Min(a, k_draw)
y = MatMul(m, v_draw)
output y)"},
    {"min_of_tokens", 13, R"(input x float32[batch,7,24]
const w_draw float32[24,10] splat 0
const k_draw float32[10] splat 0
const l_draw float32[7,1] splat 0
a = MatMul(x, w_draw)
m = Min(a, k_draw)
y = Max(m, l_draw)
output y)"},
    {"min_joined_and_read_elsewhere", 13,
     "HEAD\nconst k_draw float32[4,1,1] splat 0\nm = Min(a, k_draw)\nc = Concat(m, a) [axis=1]\ns = Add(a, m)\ny = Conv(s, w_draw)\noutput c\noutput y"},
    {"min_of_two_values", 13, "HEAD\nr = Relu(a)\ns = Sigmoid(a)\nm = Min(r, s)\ny = Conv(m, w_draw)\noutput y"},
    {"min_without_end", 13, "HEAD\nconst k float32[4,1,1] = {0.25, inf, 0.5, 1000}\nm = Min(a, k)\ny = Conv(m, w_draw)\noutput y"},
    {"batch_norm_island", 13,
     "HEAD\nconst s_draw float32[4] splat 0\nconst b_draw float32[4] splat 0\nconst v float32[4] splat 2\nr = Relu(a)\n"
     "n = BatchNormalization(r, s_draw, b_draw, b_draw, v)\ny = Conv(n, w_draw)\noutput y"},
};

class UnusualForm : public testing::TestWithParam<Form> {};

TEST_P(UnusualForm, AgreesAndIsClose) {
  const Graph graph = graph_of(GetParam());
  for (const bool is_signed : {false, true}) {
    QuantScheme scheme;
    scheme.defaults.activations.type.is_signed = is_signed;
    scheme.law = is_signed ? RequantizeLaw::kFixedPoint : RequantizeLaw::kFloat32;
    SCOPED_TRACE(to_string(scheme.law));
    Graph canonical = graph;
    canonicalize(canonical);
    const auto inputs = test::random_inputs(graph, 1, -1.0F, 1.0F, 2);
    const QuantizedGraph model = quantize(canonical, test::observe_ranges(canonical, std::array{inputs}), scheme);
    EXPECT_GT(test::expect_agreement(model, inputs, 2), 0);
    Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
    const auto expected = interpreter.run(inputs);
    const auto outputs = simulate(model, inputs);
    ASSERT_EQ(outputs.size(), expected.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      ASSERT_EQ(outputs[i].shape(), expected[i].shape()) << "output " << i;
      if (outputs[i].type() != DataType::kFloat32) continue;
      EXPECT_GT(sqnr(expected[i], outputs[i]), kLeastSqnr) << "output " << i;
    }
  }
}

// A batch without images is a batch.
TEST_P(UnusualForm, EmptyBatch) {
  Graph graph = graph_of(GetParam());
  canonicalize(graph);
  const QuantizedGraph model = quantize(graph, test::observe_ranges(graph, std::array{test::random_inputs(graph, 1, -1.0F, 1.0F, 2)}), {});
  const auto inputs = test::random_inputs(model.graph, 1, -1.0F, 1.0F, 0);
  try {
    simulate(model, inputs);
  } catch (const Error&) {
    GTEST_SKIP() << "this form needs an image";
  }
  test::expect_agreement(model, inputs, 2);
}

INSTANTIATE_TEST_SUITE_P(All, UnusualForm, testing::ValuesIn(kForms), [](const auto& test) { return std::string(test.param.name); });

// Sizes that no memory holds are refused, not wrapped around.
TEST(UnusualForms, SizesThatFitNoMemory) {
  for (const char* node : {
           // 65536 rows and columns of zeros between two pixels, and as many pads: the output is 2 x 2, what is spread out is not.
           "y = ConvTranspose(x, w) [dilations=[4294967296, 4294967296], pads=[2147483648, 2147483648, 2147483648, 2147483648]]\n",
           "y = Conv(x, w) [pads=[1073741824, 1073741824, 536870912, 1073741824]]\n",
       }) {
    SCOPED_TRACE(node);
    const std::string head =
        "graph g\nopset ai.onnx 13\ninput x0 uint8[1,1,2,2]\nconst s float32[] = {0.0078125}\nconst z uint8[] = {128}\nconst zw int8[] = {0}\n"
        "const wq int8[1,1,2,2] = {1, 50, -50, 25}\nx = DequantizeLinear(x0, s, z)\nw = DequantizeLinear(wq, s, zw)\n";
    const auto run = [&] {
      const QuantizedGraph model = quantized_from_onnx_graph(parse_graph_text(head + node + "q = QuantizeLinear(y, s, z)\nd = DequantizeLinear(q, s, z)\noutput d\n"));
      Session session(lower(QuantizedGraph(model)));
      session.run(std::vector<Tensor>{Tensor::zeros(DataType::kUInt8, {1, 1, 2, 2})});
    };
    EXPECT_THROW(run(), Error);
  }
}

// Sums of no products are the bias.
TEST(UnusualForms, ProductsOfNothing) {
  const QuantizedGraph model = quantized_from_onnx_graph(
      parse_graph_text("graph g\nopset ai.onnx 13\ninput x0 uint8[3,0]\nconst s float32[] = {0.0078125}\nconst z uint8[] = {128}\nconst zw int8[] = {0}\n"
                       "const wq int8[0,5] = {}\nx = DequantizeLinear(x0, s, z)\nw = DequantizeLinear(wq, s, zw)\n"
                       "y = MatMul(x, w)\nq = QuantizeLinear(y, s, z)\nd = DequantizeLinear(q, s, z)\noutput d\n"));
  const std::vector<Tensor> inputs = {Tensor::zeros(DataType::kUInt8, {3, 0})};
  test::expect_agreement(model, inputs);
}

}  // namespace
}  // namespace nibble
