#include "nibble/calibrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>

#include "memory_dataset.h"
#include "nibble/error.h"

namespace nibble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MemoryDataset;
using testing::normal_samples;

Graph small_graph() {
  return parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,8,n]
const two float32[] = {2}
const three float32[1] = {3}
a = Mul(x, two) name double
b = Relu(a) name relu
c = Add(b, three) name shift
s = Shape(x) name shape
output c
output s
)");
}

const std::vector<std::string> kAll = {
    "min_max", "average", "moving_average:momentum=0.1", "mean_std", "percentile:percentile=99.5", "entropy", "mse", "aciq"};

CalibrateOptions all_methods(int threads = 1) {
  CalibrateOptions options;
  options.methods = kAll;
  options.threads = threads;
  return options;
}

TEST(Calibrate, ObservesEveryFloatValueThatIsNotConstant) {
  const auto data = normal_samples(5, 1);
  const auto tables = calibrate(small_graph(), data, all_methods());
  ASSERT_EQ(tables.size(), kAll.size());
  for (std::size_t m = 0; m < kAll.size(); ++m) {
    EXPECT_EQ(tables[m].method, kAll[m]);
    EXPECT_EQ(tables[m].samples, 5);
    EXPECT_EQ(tables[m].data_hash, "hash-of-5");
    std::vector<std::string> names;
    for (const auto& [name, entry] : tables[m].entries) {
      names.push_back(name);
      EXPECT_EQ(entry.samples, 5);
      ASSERT_TRUE(entry.range.has_value());
      EXPECT_EQ(entry.states.size(), 1U);
    }
    EXPECT_THAT(names, ::testing::ElementsAre("a", "b", "c", "x"));  // no constants, no shape
  }
}

// Each table is what the observers say that are fed by hand, sample by sample.
TEST(Calibrate, EqualsObserversFedByHand) {
  const auto data = normal_samples(7, 2, true);
  const auto tables = calibrate(small_graph(), data, all_methods());
  for (std::size_t m = 0; m < kAll.size(); ++m) {
    const auto x = make_observer(kAll[m]), b = make_observer(kAll[m]);
    for (std::int64_t i = 0; i < data.size(); ++i) {
      const Tensor tensor = data.sample(i).inputs[0];
      x->observe(tensor.data<float>());
      std::vector<float> relu;
      for (const float v : tensor.data<float>()) relu.push_back(std::max(0.0F, 2 * v));
      b->observe(relu);
    }
    EXPECT_EQ(tables[m].entries.at("x").range, x->range({})) << kAll[m];
    EXPECT_EQ(tables[m].entries.at("b").range, b->range({})) << kAll[m];
    EXPECT_EQ(tables[m].entries.at("b").states.at(kAll[m]), b->save()) << kAll[m];
  }
}

TEST(Calibrate, AnswersAreNotClipped) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,8,n]
h = Relu(x) name relu
l = Abs(h) name logits
f = Flatten(l) name flatten
p = Softmax(f) name softmax
output p
)");
  const auto data = normal_samples(4, 12);
  CalibrateOptions options;
  options.methods = {"min_max", "percentile:percentile=90"};
  const auto tables = calibrate(graph, data, options);
  for (const char* name : {"l", "f", "p"}) EXPECT_EQ(tables[1].entries.at(name).range, tables[0].entries.at(name).range) << name;
  EXPECT_LT(tables[1].entries.at("h").range->hi, tables[0].entries.at("h").range->hi);
  const RangeTable merged = merge_ranges(std::vector<RangeTable>{tables[1], range_table_from_json(to_json(tables[1]), "test")});
  for (const auto& [name, entry] : tables[1].entries) EXPECT_EQ(merged.entries.at(name).range, entry.range) << name;
}

TEST(Calibrate, ThreadsDoNotShow) {
  const auto data = normal_samples(33, 3, true);
  const Graph graph = small_graph();
  const auto one = calibrate(graph, data, all_methods(1));
  for (const int threads : {2, 3, 8, 100}) {
    const auto many = calibrate(graph, data, all_methods(threads));
    for (std::size_t m = 0; m < kAll.size(); ++m) EXPECT_EQ(to_json(many[m]), to_json(one[m])) << kAll[m] << " " << threads;
  }
}

TEST(Calibrate, MergedShardsEqualOnePass) {
  const auto data = normal_samples(23, 4, true);
  const Graph graph = small_graph();
  const auto whole = calibrate(graph, data, all_methods());
  for (const std::int64_t count : {1, 2, 5}) {
    std::vector<std::vector<RangeTable>> shards(kAll.size());
    for (std::int64_t i = 1; i <= count; ++i) {
      const auto tables = calibrate(graph, data.part(shard_indices(data.size(), {i, count})), all_methods());
      for (std::size_t m = 0; m < kAll.size(); ++m) shards[m].push_back(range_table_from_json(to_json(tables[m]), "shard"));
    }
    for (std::size_t m = 0; m < kAll.size(); ++m) {
      const RangeTable merged = merge_ranges(shards[m]);
      EXPECT_EQ(merged.samples, 23);
      EXPECT_EQ(merged.entries.size(), whole[m].entries.size());
      for (const auto& [name, entry] : whole[m].entries) {
        const RangeEntry& other = merged.entries.at(name);
        EXPECT_EQ(other.samples, entry.samples);
        const double size = std::max(std::abs(entry.range->lo), std::abs(entry.range->hi));
        const bool exact = m == 0 || m >= 4;
        EXPECT_NEAR(other.range->lo, entry.range->lo, exact ? 0 : 1e-12 * size) << kAll[m] << " " << name;
        EXPECT_NEAR(other.range->hi, entry.range->hi, exact ? 0 : 1e-12 * size) << kAll[m] << " " << name;
      }
    }
  }
}

std::string refusal(const std::function<void()>& action, ErrorCode code) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "nothing was thrown";
}

TEST(Calibrate, NaNInTheDataNamesValueAndSample) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const int threads : {1, 4}) {
      auto data = normal_samples(20, 5);
      data.samples()[17].mutable_data<float>()[3] = bad;
      data.samples()[13].mutable_data<float>()[500] = bad;
      const std::string message = refusal([&] { calibrate(small_graph(), data, all_methods(threads)); }, ErrorCode::kInvalidData);
      EXPECT_THAT(message, AllOf(HasSubstr("value x"), HasSubstr("sample 13 (sample_13)"), HasSubstr("element 500")));
    }
  }
}

TEST(Calibrate, NaNMadeInsideNamesTheNode) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,8,n]
y = Sqrt(x) name root
output y
)");
  const std::string message = refusal([&] { calibrate(graph, normal_samples(3, 6), {}); }, ErrorCode::kInvalidData);
  EXPECT_THAT(message, AllOf(HasSubstr("value y"), HasSubstr("node root"), HasSubstr("NaN"), HasSubstr("sample_0")));
}

TEST(Calibrate, NoDataNoMethodUnknownMethod) {
  const Graph graph = small_graph();
  EXPECT_THAT(refusal([&] { calibrate(graph, normal_samples(0, 1), {}); }, ErrorCode::kInvalidData), HasSubstr("no samples"));
  CalibrateOptions options;
  options.methods = {};
  EXPECT_THAT(refusal([&] { calibrate(graph, normal_samples(1, 1), options); }, ErrorCode::kInvalidArgument), HasSubstr("no method"));
  options.methods = {"min_max", "kl"};
  EXPECT_THAT(refusal([&] { calibrate(graph, normal_samples(1, 1), options); }, ErrorCode::kInvalidArgument), HasSubstr("entropy"));
}

TEST(Calibrate, ConstantAndEmptyValuesAreWarnings) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,8,n]
const zero float32[] = {0}
const begin int64[1] = {0}
z = Mul(x, zero) name dead
e = Slice(x, begin, begin) name nothing
output z
output e
)");
  const auto tables = calibrate(graph, normal_samples(3, 7), all_methods());
  for (const RangeTable& table : tables) {
    EXPECT_EQ(table.entries.at("z").range, (Range{0, 0}));
    EXPECT_EQ(table.entries.at("e").range, (Range{0, 0}));
    EXPECT_EQ(table.entries.at("e").samples, 0);
    EXPECT_THAT(table.warnings, ::testing::UnorderedElementsAre(AllOf(HasSubstr("value z"), HasSubstr("single point")),
                                                                AllOf(HasSubstr("value e"), HasSubstr("never reached"))));
  }
}

class CountingSink final : public ProgressSink {
 public:
  explicit CountingSink(std::int64_t cancel_at) : cancel_at_(cancel_at) {}
  void begin(std::string_view stage, std::int64_t total) override {
    stage_ = stage;
    total_ = total;
  }
  void advance(std::int64_t done) override {
    EXPECT_GE(done, done_);
    done_ = done;
  }
  void end() override { ended_ = true; }
  bool cancelled() override { return done_ >= cancel_at_; }

  std::string stage_;
  std::int64_t total_ = 0, done_ = 0, cancel_at_;
  bool ended_ = false;
};

TEST(Calibrate, TellsItsProgress) {
  for (const int threads : {1, 3}) {
    CountingSink sink(1000);
    CalibrateOptions options = all_methods(threads);
    options.progress = &sink;
    calibrate(small_graph(), normal_samples(12, 8), options);
    EXPECT_EQ(sink.stage_, "calibrate");
    EXPECT_EQ(sink.total_, 12);
    EXPECT_TRUE(sink.ended_);
    EXPECT_EQ(sink.done_, 12);
  }
}

TEST(Calibrate, StopsOnRequest) {
  for (const int threads : {1, 3}) {
    CountingSink sink(4);
    CalibrateOptions options = all_methods(threads);
    options.progress = &sink;
    refusal([&] { calibrate(small_graph(), normal_samples(5000, 9), options); }, ErrorCode::kInterrupted);
    EXPECT_LT(sink.done_, 5000);
  }
}

}  // namespace
}  // namespace nibble
