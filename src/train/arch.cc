// Networks to start from nothing: small classifiers with batch normalization, as their papers have them.
#include <torch/torch.h>

#include <cmath>
#include <numbers>

#include "base/fail.h"
#include "nibble/train.h"
#include "train/quantizer.h"

namespace nibble {
namespace {

// Adds layers one behind the other; weights by Kaiming He's initialization (normal, fan-in) of a seeded counter-based generator.
class Builder {
 public:
  Builder(const std::string& name, const Shape& input, std::uint64_t seed) : editor_(graph_), seed_(seed), channels_(input[0]) {
    editor_.set_name(name);
    editor_.set_opset("", 13);
    TensorType type = make_type(DataType::kFloat32, {1, input[0], input[1], input[2]});
    type.dims[0] = {.size = -1, .symbol = "N"};
    at_ = editor_.add_input("input", type);
    height_ = input[1];
    width_ = input[2];
  }

  std::int64_t channels() const { return channels_; }
  ValueId here() const { return at_; }
  void go_to(ValueId value, std::int64_t channels) {
    at_ = value;
    channels_ = channels;
  }

  void conv(std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t pad, std::int64_t groups = 1) {
    const std::int64_t fan_in = channels_ / groups * kernel * kernel;
    const std::string name = fresh("conv");
    const ValueId weight = editor_.add_constant(
        name + ".weight", normal({out, channels_ / groups, kernel, kernel}, std::sqrt(2.0 / static_cast<double>(fan_in))));
    Node node{.name = name, .domain = "", .op_type = "Conv", .inputs = {at_, weight}, .outputs = {}, .attributes = {}};
    node.attributes["kernel_shape"] = std::vector<std::int64_t>{kernel, kernel};
    node.attributes["strides"] = std::vector<std::int64_t>{stride, stride};
    node.attributes["pads"] = std::vector<std::int64_t>{pad, pad, pad, pad};
    node.attributes["group"] = groups;
    add(std::move(node));
    channels_ = out;
    height_ = shrunk(height_, kernel, stride, pad);
    width_ = shrunk(width_, kernel, stride, pad);
  }
  void batch_norm() {
    const std::string name = fresh("bn");
    std::vector<ValueId> inputs = {at_};
    const std::pair<const char*, float> parts[] = {{".gamma", 1.0F}, {".beta", 0.0F}, {".mean", 0.0F}, {".var", 1.0F}};
    for (const auto& [part, value] : parts) {
      const std::vector<float> values(static_cast<std::size_t>(channels_), value);
      inputs.push_back(editor_.add_constant(name + part, Tensor::from<float>({channels_}, values)));
    }
    add({.name = name, .domain = "", .op_type = "BatchNormalization", .inputs = inputs, .outputs = {}, .attributes = {}});
  }
  void relu() { add({.name = fresh("relu"), .domain = "", .op_type = "Relu", .inputs = {at_}, .outputs = {}, .attributes = {}}); }
  void relu6() {
    const ValueId low = editor_.add_constant(editor_.fresh_value_name("low"), Tensor::scalar(0.0F));
    const ValueId high = editor_.add_constant(editor_.fresh_value_name("high"), Tensor::scalar(6.0F));
    add({.name = fresh("relu6"), .domain = "", .op_type = "Clip", .inputs = {at_, low, high}, .outputs = {}, .attributes = {}});
  }
  void max_pool() {
    Node node{.name = fresh("pool"), .domain = "", .op_type = "MaxPool", .inputs = {at_}, .outputs = {}, .attributes = {}};
    node.attributes["kernel_shape"] = std::vector<std::int64_t>{2, 2};
    node.attributes["strides"] = std::vector<std::int64_t>{2, 2};
    add(std::move(node));
    height_ /= 2;
    width_ /= 2;
  }
  void global_pool() {
    add({.name = fresh("global_pool"), .domain = "", .op_type = "GlobalAveragePool", .inputs = {at_}, .outputs = {}, .attributes = {}});
    height_ = width_ = 1;
  }
  void flatten() {
    Node node{.name = fresh("flatten"), .domain = "", .op_type = "Flatten", .inputs = {at_}, .outputs = {}, .attributes = {}};
    node.attributes["axis"] = std::int64_t{1};
    add(std::move(node));
    if (height_ < 1 || width_ < 1) too_small();
    channels_ *= height_ * width_;
    height_ = width_ = 1;
  }
  void dense(std::int64_t out, bool bias) {
    const std::string name = fresh("dense");
    std::vector<ValueId> inputs = {
        at_,
        editor_.add_constant(name + ".weight", normal({out, channels_}, std::sqrt((bias ? 1.0 : 2.0) / static_cast<double>(channels_))))};
    if (bias) inputs.push_back(editor_.add_constant(name + ".bias", Tensor::zeros(DataType::kFloat32, {out})));
    Node node{.name = name, .domain = "", .op_type = "Gemm", .inputs = inputs, .outputs = {}, .attributes = {}};
    node.attributes["transB"] = std::int64_t{1};
    add(std::move(node));
    channels_ = out;
  }
  void plus(ValueId other) {
    add({.name = fresh("add"), .domain = "", .op_type = "Add", .inputs = {at_, other}, .outputs = {}, .attributes = {}});
  }
  // Every second row and column of `from`, and channels of zeros on both sides (He et al. 2015, option A).
  ValueId halved(ValueId from, std::int64_t more) {
    const auto ints = [&](const char* what, std::initializer_list<std::int64_t> values) {
      return editor_.add_constant(editor_.fresh_value_name(what),
                                  Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values));
    };
    const ValueId back = at_;
    constexpr std::int64_t kEnd = INT64_MAX;
    add({.name = fresh("slice"),
         .domain = "",
         .op_type = "Slice",
         .inputs = {from, ints("starts", {0, 0}), ints("ends", {kEnd, kEnd}), ints("axes", {2, 3}), ints("steps", {2, 2})},
         .outputs = {},
         .attributes = {}});
    add({.name = fresh("pad"),
         .domain = "",
         .op_type = "Pad",
         .inputs = {at_, ints("pads", {0, more / 2, 0, 0, 0, more / 2, 0, 0})},
         .outputs = {},
         .attributes = {}});
    return std::exchange(at_, back);
  }
  Graph finish(std::int64_t classes) {
    dense(classes, true);
    editor_.rename_value(at_, "logits");
    editor_.set_outputs({at_});
    editor_.finish();
    return std::move(graph_);
  }

 private:
  static std::int64_t shrunk(std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
    const std::int64_t room = size + 2 * pad - kernel;
    if (room < 0) too_small();
    return room / stride + 1;
  }
  [[noreturn]] static void too_small() { fail(ErrorCode::kInvalidArgument, "the samples are too small for this architecture"); }
  std::string fresh(const std::string& kind) { return kind + std::to_string(++count_[kind]); }
  void add(Node node) {
    at_ = editor_.add_value(node.name + "_out");
    node.outputs = {at_};
    editor_.add_node(std::move(node));
  }
  // Box and Muller: two uniform draws make two normal ones.
  Tensor normal(const Shape& shape, double deviation) {
    const std::int64_t count = element_count(shape), pairs = (count + 1) / 2;
    const torch::Tensor draws = train::uniform_draws(seed_, 0, site_++, {2 * pairs});
    const double* u = draws.data_ptr<double>();
    Tensor result(DataType::kFloat32, shape);
    const auto out = result.mutable_data<float>();
    for (std::int64_t i = 0; i < count; ++i) {
      const double radius = std::sqrt(-2 * std::log1p(-u[i / 2 * 2])), angle = 2 * std::numbers::pi * u[i / 2 * 2 + 1];
      out[static_cast<std::size_t>(i)] = static_cast<float>(deviation * radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle)));
    }
    return result;
  }

  Graph graph_;
  GraphEditor editor_;
  std::uint64_t seed_;
  std::int64_t site_ = 0;
  std::int64_t channels_, height_ = 0, width_ = 0;
  ValueId at_ = kNoValue;
  std::map<std::string, int> count_;
};

// LeCun et al. 1998, in the sizes of Li et al. 2016 (TWN): 32 C5, MP2, 64 C5, MP2, 512 FC.
void lenet5(Builder& net) {
  for (const std::int64_t channels : {32, 64}) {
    net.conv(channels, 5, 1, 0);
    net.batch_norm();
    net.relu();
    net.max_pool();
  }
  net.flatten();
  net.dense(512, false);
  net.batch_norm();
  net.relu();
}

// Li et al. 2016 (TWN): 2 x 128 C3, MP2, 2 x 256 C3, MP2, 2 x 512 C3, MP2, 1024 FC.
void vgg7(Builder& net) {
  for (const std::int64_t channels : {128, 256, 512}) {
    for (int i = 0; i < 2; ++i) {
      net.conv(channels, 3, 1, 1);
      net.batch_norm();
      net.relu();
    }
    net.max_pool();
  }
  net.flatten();
  net.dense(1024, false);
  net.batch_norm();
  net.relu();
}

// He et al. 2015, section 4.2, n = 3, shortcuts without weights.
void resnet20(Builder& net) {
  net.conv(16, 3, 1, 1);
  net.batch_norm();
  net.relu();
  for (const std::int64_t channels : {16, 32, 64}) {
    for (int block = 0; block < 3; ++block) {
      const ValueId from = net.here();
      const std::int64_t before = net.channels();
      net.conv(channels, 3, before == channels ? 1 : 2, 1);
      net.batch_norm();
      net.relu();
      net.conv(channels, 3, 1, 1);
      net.batch_norm();
      net.plus(before == channels ? from : net.halved(from, channels - before));
      net.relu();
    }
  }
  net.global_pool();
  net.flatten();
}

// Howard et al. 2017's blocks (depthwise, pointwise), few and narrow.
void mobilenet_small(Builder& net) {
  net.conv(32, 3, 1, 1);
  net.batch_norm();
  net.relu6();
  constexpr std::pair<std::int64_t, std::int64_t> kBlocks[] = {{64, 1}, {128, 2}, {128, 1}, {256, 2}, {256, 1}};
  for (const auto& [channels, stride] : kBlocks) {
    net.conv(net.channels(), 3, stride, 1, net.channels());
    net.batch_norm();
    net.relu6();
    net.conv(channels, 1, 1, 0);
    net.batch_norm();
    net.relu6();
  }
  net.global_pool();
  net.flatten();
}

struct ArchitectureRow {
  std::string_view name;
  void (*build)(Builder&);
};
constexpr ArchitectureRow kArchitectures[] = {
    {"lenet5", lenet5}, {"vgg7", vgg7}, {"resnet20", resnet20}, {"mobilenet-small", mobilenet_small}};

}  // namespace

Graph make_architecture(std::string_view name, const Shape& sample, std::int64_t classes, std::uint64_t seed) {
  std::string known;
  for (const ArchitectureRow& row : kArchitectures) {
    known += (known.empty() ? "" : ", ") + std::string(row.name);
    if (row.name != name) continue;
    if (sample.size() != 3 || element_count(sample) < 1)
      fail(ErrorCode::kInvalidArgument, "architecture '{}' takes images [channels, height, width], not samples of shape {}", name,
           to_string(sample));
    if (classes < 2) fail(ErrorCode::kInvalidArgument, "a classifier has at least 2 classes, not {}", classes);
    Builder net(row.name.data(), sample, seed);
    row.build(net);
    return net.finish(classes);
  }
  fail(ErrorCode::kInvalidArgument, "no architecture is called '{}'; known: {}", name, known);
}

}  // namespace nibble
