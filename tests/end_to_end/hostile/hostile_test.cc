// The program against wrong command lines, missing and broken files, and an unfriendly system. Whatever happens, a user must get one line
// on stderr that names the culprit, an exit code that scripts can use, and a folder without rubbish.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <ostream>
#include <random>
#include <regex>
#include <sstream>

#include "sandbox.h"

namespace nibble::hostile {
namespace {

// Expected exit codes. kAnyError is for what may be called a wrong command line as well as a wrong file.
constexpr int kOk = 0, kError = 1, kUsage = 2, kAnyError = -1;

struct Case {
  const char* name;
  int code;
  std::vector<std::string> arguments;
  const char* mentions;  // ECMAScript regex, any case, that the error line must hold
  RunOptions options = {};
};
std::ostream& operator<<(std::ostream& out, const Case& item) {
  for (const std::string& word : item.arguments) out << "'" << word << "' ";
  return out;
}

// Common beginnings.
std::vector<std::string> quantize(std::vector<std::string> more) {
  std::vector<std::string> words = {"quantize", "model.onnx", "-o", "out.onnx", "--data", "images"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}
std::vector<std::string> quantize_data(const std::string& data) { return {"quantize", "model.onnx", "-o", "out.onnx", "--data", data}; }
std::vector<std::string> quantize_to(const std::string& output) { return {"quantize", "model.onnx", "-o", output, "--data", "images"}; }
std::vector<std::string> quantize_model(const std::string& model) { return {"quantize", model, "-o", "out.onnx", "--data", "images"}; }
std::vector<std::string> quantize_recipe(const std::string& recipe) { return quantize({"--preprocess", recipe}); }

const Case kCases[] = {
    // The command line itself.
    {"NoArguments", kUsage, {}, "command"},
    {"UnknownCommand", kUsage, {"frobnicate"}, "frobnicate"},
    {"EmptyCommand", kUsage, {""}, "."},
    {"UnknownOption", kUsage, {"inspect", "model.onnx", "--frob"}, "--frob"},
    {"UnknownGlobalOption", kUsage, {"--frob"}, "--frob"},
    {"InspectNothing", kUsage, {"inspect"}, "model"},
    {"InspectTwo", kUsage, {"inspect", "model.onnx", "no_recipe.onnx"}, "no_recipe"},
    {"QuantizeNoOutput", kUsage, {"quantize", "model.onnx", "--data", "images"}, "-o|--output"},
    {"QuantizeNoData", kUsage, {"quantize", "model.onnx", "-o", "out.onnx"}, "--data"},
    {"QuantizeNoModel", kUsage, {"quantize", "-o", "out.onnx", "--data", "images"}, "model"},
    {"EvaluateNoData", kUsage, {"evaluate", "model.onnx"}, "--data"},
    {"CompareOneModel", kUsage, {"compare", "model.onnx", "--data", "images"}, "."},
    {"CompareNoData", kUsage, {"compare", "model.onnx", "no_recipe.onnx"}, "--data"},
    {"RunNoOutput", kUsage, {"run", "model.onnx", "--input", "image=good.npy"}, "--output"},
    {"RunNoInput", kUsage, {"run", "model.onnx", "--output", "out"}, "--input|--data"},
    {"CalibrateNoOutput", kUsage, {"calibrate", "model.onnx", "--data", "images"}, "-o|--output"},
    {"CalibrateNoModel", kUsage, {"calibrate", "-o", "ranges.json", "--data", "images"}, "model"},
    {"BenchmarkNothing", kUsage, {"benchmark"}, "model"},
    {"ListNothing", kUsage, {"list"}, "observers"},
    {"ListUnknown", kUsage, {"list", "frob"}, "frob"},
    {"ValueMissing", kUsage, {"quantize", "model.onnx", "-o"}, "-o|--output"},
    {"SamplesText", kUsage, quantize({"--samples", "many"}), "--samples"},
    {"SamplesNegative", kUsage, quantize({"--samples", "-1"}), "--samples"},
    {"SamplesHuge", kUsage, quantize({"--samples", "99999999999999999999"}), "--samples"},
    {"SamplesFraction", kUsage, quantize({"--samples", "1.5"}), "--samples"},
    {"ThreadsZero", kUsage, quantize({"--threads", "0"}), "--threads"},
    {"ThreadsNegative", kUsage, quantize({"--threads", "-3"}), "--threads"},
    {"ThreadsText", kUsage, quantize({"--threads", "two"}), "--threads"},
    {"ThreadsAbsurd", kUsage, quantize({"--threads", "1000000"}), "--threads"},
    {"SeedText", kUsage, quantize({"--seed", "abc"}), "--seed"},
    {"BatchZero", kUsage, {"benchmark", "model.onnx", "--batch", "0"}, "--batch"},
    {"BatchNegative", kUsage, {"benchmark", "model.onnx", "--batch", "-1"}, "--batch"},
    {"BatchAbsurd", kAnyError, {"benchmark", "model.onnx", "--batch", "4611686018427387904"}, "batch|memory|overflow"},
    {"BothGranularities", kUsage, quantize({"--per-channel", "--per-tensor"}), "--per-(channel|tensor)"},
    {"BothWeightSymmetries", kUsage, quantize({"--weight-symmetric", "--weight-affine"}), "--weight-"},
    {"BothActivationSymmetries", kUsage, quantize({"--activation-symmetric", "--activation-affine"}), "--activation-"},
    {"BothRanges", kUsage, quantize({"--narrow-range", "--full-range"}), "-range"},
    // Names that nibble does not know: the message lists those that it does.
    {"MethodUnknown", kAnyError, quantize({"--calibrate-method", "frob"}), "frob.*min_max|min_max.*frob"},
    {"MethodEmpty", kAnyError, quantize({"--calibrate-method", ""}), "min_max"},
    {"MethodOptionUnknown", kAnyError, quantize({"--calibrate-method", "percentile:frob=1"}), "frob"},
    {"MethodOptionRange", kAnyError, quantize({"--calibrate-method", "percentile:percentile=200"}), "percentile"},
    {"MethodOptionText", kAnyError, quantize({"--calibrate-method", "percentile:percentile=abc"}), "percentile|abc"},
    {"WeightType", kAnyError, quantize({"--weight-type", "int3"}), "int3.*int8|int8.*int3"},
    {"ActivationType", kAnyError, quantize({"--activation-type", "float"}), "float.*uint8|uint8.*float"},
    {"Law", kAnyError, quantize({"--law", "frob"}), "frob.*fixed_point|fixed_point.*frob"},
    {"Format", kAnyError, quantize({"--quant-format", "frob"}), "frob.*qdq|qdq.*frob"},
    {"Target", kAnyError, quantize({"--target", "frob"}), "frob.*ort-cpu|ort-cpu.*frob"},
    {"Regex", kAnyError, quantize({"--nodes-to-exclude", "("}), "nodes-to-exclude|regular expression|regex"},
    {"OpType", kAnyError, quantize({"--op-types-to-quantize", "Frob"}), "Frob"},
    {"ForcedIsa", kAnyError, {"list", "kernels"}, "frob.*reference|reference.*frob", {.environment = {"NIBBLE_FORCE_ISA=frob"}}},
    // Models.
    {"InspectMissing", kError, {"inspect", "not_there.onnx"}, "not_there\\.onnx"},
    {"QuantizeMissing", kError, quantize_model("not_there.onnx"), "not_there\\.onnx"},
    {"EvaluateMissing", kError, {"evaluate", "not_there.onnx", "--data", "images"}, "not_there\\.onnx"},
    {"RunMissing", kError, {"run", "not_there.onnx", "--input", "a=good.npy", "--output", "out"}, "not_there\\.onnx"},
    {"CompareMissing", kError, {"compare", "model.onnx", "not_there.onnx", "--data", "images"}, "not_there\\.onnx"},
    {"BenchmarkMissing", kError, {"benchmark", "not_there.onnx"}, "not_there\\.onnx"},
    {"CalibrateMissing", kError, {"calibrate", "not_there.onnx", "--data", "images", "-o", "ranges.json"}, "not_there\\.onnx"},
    {"ReferenceMissing", kError, {"evaluate", "model.onnx", "--data", "images", "--reference", "not_there.onnx"}, "not_there\\.onnx"},
    {"ModelIsFolder", kError, {"inspect", "folder.onnx"}, "folder\\.onnx"},
    {"ModelIsEmpty", kError, {"inspect", "empty.onnx"}, "empty\\.onnx"},
    {"ModelIsText", kError, {"inspect", "text.onnx"}, "text\\.onnx"},
    {"ModelIsHalf", kError, {"inspect", "half.onnx"}, "half\\.onnx"},
    {"ModelIsZeros", kError, {"inspect", "zeros.onnx"}, "zeros\\.onnx"},
    {"ModelIsPicture", kError, {"inspect", "images/circle/000.png"}, "000\\.png"},
    {"ModelIsLoop", kError, {"inspect", "loop.onnx"}, "loop\\.onnx"},
    {"ModelIsDangling", kError, {"inspect", "dangling.onnx"}, "dangling\\.onnx"},
    {"ModelPathEmpty", kAnyError, {"inspect", ""}, "."},
    {"ModelPathLong", kError, {"inspect", std::string(5000, 'x')}, "xxxx"},
    {"ModelUnderFile", kError, {"inspect", "model.onnx/inner.onnx"}, "inner\\.onnx"},
    {"QuantizeEmpty", kError, quantize_model("empty.onnx"), "empty\\.onnx"},
    {"QuantizeHalf", kError, quantize_model("half.onnx"), "half\\.onnx"},
    // Outputs.
    {"OutputIsInput", kAnyError, quantize_to("model.onnx"), "model\\.onnx"},
    {"OutputIsInputDotted", kAnyError, quantize_to("./images/../model.onnx"), "model\\.onnx"},
    {"OutputIsLinkToInput", kAnyError, quantize_to("link.onnx"), "link\\.onnx"},
    {"InputIsLinkToOutput",
     kAnyError,
     {"quantize", "link.onnx", "-o", "model.onnx", "--data", "images", "--preprocess", "model.preprocess.json"},
     "model\\.onnx"},
    {"OutputInMissingFolder", kAnyError, quantize_to("not_there/out.onnx"), "not_there"},
    {"OutputIsFolder", kAnyError, quantize_to("folder.onnx"), "folder\\.onnx"},
    {"OutputIsFifo", kAnyError, quantize_to("fifo.onnx"), "fifo\\.onnx"},
    {"OutputIsDevice", kAnyError, quantize_to("/dev/full"), "/dev/full"},
    {"OutputIsDanglingLink", kAnyError, quantize_to("dangling.onnx"), "dangling\\.onnx"},
    {"OutputInProc", kAnyError, quantize_to("/proc/out.onnx"), "/proc"},
    {"OutputEmpty", kAnyError, quantize_to(""), "output|-o"},
    {"OutputUnderFile", kAnyError, quantize_to("old.onnx/out.onnx"), "old\\.onnx"},
    {"OutputDiskFull", kError, quantize_to("out.onnx"), "out\\.onnx", {.file_size_limit = 20'000}},
    {"OutputDiskFullKeepsOld", kError, quantize_to("old.onnx"), "old\\.onnx", {.file_size_limit = 20'000}},
    {"RangesDiskFull",
     kError,
     {"calibrate", "model.onnx", "--data", "images", "-o", "ranges.json"},
     "ranges\\.json",
     {.file_size_limit = 100}},
    {"RangesInMissingFolder", kAnyError, {"calibrate", "model.onnx", "--data", "images", "-o", "not_there/ranges.json"}, "not_there"},
    {"RangesIsModel", kAnyError, {"calibrate", "model.onnx", "--data", "images", "-o", "model.onnx"}, "model\\.onnx"},
    {"ReportInMissingFolder", kAnyError, quantize({"--report", "not_there/report.json"}), "not_there"},
    {"ReportIsFolder", kAnyError, quantize({"--report", "folder.onnx"}), "folder\\.onnx"},
    {"RunOutputIsFile", kAnyError, {"run", "model.onnx", "--input", "image=good.npy", "--output", "old.onnx"}, "old\\.onnx"},
    {"RunDiskFull",
     kError,
     {"run", "model.onnx", "--input", "image=good.npy", "--output", "images"},
     "logits|images",
     {.file_size_limit = 10}},
    {"StdoutFull", kError, {"list", "ops"}, "stdout|standard output|write", {.stdout_full = true}},
    {"StdoutFullJson", kError, {"inspect", "model.onnx", "--json"}, "stdout|standard output|write", {.stdout_full = true}},
    // Data.
    {"DataMissing", kError, quantize_data("not_there"), "not_there"},
    {"DataEmptyFolder", kError, quantize_data("empty_folder"), "empty_folder"},
    {"DataEmptyName", kAnyError, quantize_data(""), "data"},
    {"DataUnknownFile", kError, quantize_data("unknown.dat"), "unknown\\.dat"},
    {"DataIsModel", kError, quantize_data("model.onnx"), "model\\.onnx"},
    {"DataIsFifo", kError, quantize_data("fifo.onnx"), "fifo\\.onnx"},
    {"DataBrokenImage", kError, quantize_data("broken_images"), "broken\\.png"},
    {"DataHalfImage", kError, quantize_data("half_image"), "half\\.png"},
    {"CsvMissingFile", kError, quantize_data("csv_missing_file"), "not_there\\.png"},
    {"CsvBadLabel", kError, quantize_data("csv_bad_label"), "labels\\.csv.*seven|seven.*labels\\.csv"},
    {"CsvNegativeLabel", kError, {"evaluate", "model.onnx", "--data", "csv_negative_label"}, "labels\\.csv|-4"},
    {"CsvHugeLabel", kError, quantize_data("csv_huge_label"), "labels\\.csv"},
    {"CsvNoHeader", kError, quantize_data("csv_no_header"), "labels\\.csv"},
    {"CsvNoLabelColumn", kError, {"evaluate", "model.onnx", "--data", "csv_no_label_column"}, "label"},
    {"CsvShortRow", kError, quantize_data("csv_short_row"), "labels\\.csv"},
    {"CsvOnlyHeader", kError, quantize_data("csv_only_header"), "labels\\.csv|csv_only_header"},
    {"CsvEmpty", kError, quantize_data("csv_empty"), "labels\\.csv"},
    {"CsvOpenQuote", kError, quantize_data("csv_quote"), "labels\\.csv|one\\.png"},
    {"CsvOutside", kError, quantize_data("csv_outside"), "not_there\\.png|labels\\.csv"},
    {"NpyNan", kError, quantize_data("nan_folder"), "nan|finite|0\\.npy"},
    {"NpyInf", kError, quantize_data("inf_folder"), "inf|finite|0\\.npy"},
    {"NpyWrongShape", kError, quantize_data("wrong_shape_folder"), "shape|\\[.*\\]"},
    {"NpyShort", kError, quantize_data("short_folder"), "0\\.npy"},
    {"NpzText", kError, quantize_data("text.npz"), "text\\.npz"},
    {"NpzHalf", kError, quantize_data("half.npz"), "half\\.npz"},
    {"ListMissingFile", kError, quantize_data("list.txt"), "not_there\\.npy"},
    {"ListEmpty", kError, quantize_data("empty_list.txt"), "empty_list\\.txt"},
    {"IdxShort", kError, quantize_data("idx"), "idx"},
    {"CifarShort", kError, quantize_data("cifar"), "cifar|test_batch"},
    {"TestDataSetEmpty", kError, quantize_data("test_data_set_0"), "test_data_set_0"},
    {"RandomSeedText", kError, quantize_data("random:abc"), "abc"},
    {"RandomSeedNegative", kError, quantize_data("random:-1"), "-1"},
    // Preprocessing recipes.
    {"NoRecipe", kError, quantize_model("no_recipe.onnx"), "preprocess"},
    {"RecipeMissing", kError, quantize_recipe("not_there.json"), "not_there\\.json"},
    {"RecipeText", kError, quantize_recipe("recipe_text.json"), "recipe_text\\.json"},
    {"RecipeUnknownKey", kError, quantize_recipe("recipe_unknown_key.json"), "colour"},
    {"RecipeBadType", kError, quantize_recipe("recipe_bad_type.json"), "divide"},
    {"RecipeZeroStd", kError, quantize_recipe("recipe_zero_std.json"), "std"},
    {"RecipeHuge", kError, quantize_recipe("recipe_huge.json"), "recipe_huge\\.json|2000000000"},
    {"RecipeNegative", kError, quantize_recipe("recipe_negative.json"), "short_side"},
    {"RecipeArray", kError, quantize_recipe("recipe_array.json"), "recipe_array\\.json"},
    {"RecipeDeep", kError, quantize_recipe("json_deep.json"), "json_deep\\.json"},
    {"RecipeIsFolder", kError, quantize_recipe("folder.onnx"), "folder\\.onnx"},
    // Quantization recipes and ranges.
    {"SchemeMissing", kError, quantize({"--recipe", "not_there.json"}), "not_there\\.json"},
    {"SchemeText", kError, quantize({"--recipe", "json_text.json"}), "json_text\\.json"},
    {"SchemeArray", kError, quantize({"--recipe", "json_array.json"}), "json_array\\.json"},
    {"SchemeUnknownKey", kError, quantize({"--recipe", "json_unknown_key.json"}), "frobnicate"},
    {"SchemeDeep", kError, quantize({"--recipe", "json_deep.json"}), "json_deep\\.json"},
    {"SchemeBits", kError, quantize({"--recipe", "scheme_bad_bits.json"}), "scheme_bad_bits\\.json|99"},
    {"SchemeRegex", kError, quantize({"--recipe", "scheme_bad_regex.json"}), "scheme_bad_regex\\.json|regular expression|regex"},
    {"RangesMissing", kError, quantize({"--ranges", "not_there.json"}), "not_there\\.json"},
    {"RangesText", kError, quantize({"--ranges", "json_text.json"}), "json_text\\.json"},
    {"RangesArray", kError, quantize({"--ranges", "json_array.json"}), "json_array\\.json"},
    {"RangesUnknownKey", kError, quantize({"--ranges", "json_unknown_key.json"}), "json_unknown_key\\.json"},
    {"ShardZero", kAnyError, {"calibrate", "model.onnx", "--data", "images", "-o", "r.json", "--shard", "0/0"}, "shard"},
    {"ShardBeyond", kAnyError, {"calibrate", "model.onnx", "--data", "images", "-o", "r.json", "--shard", "3/2"}, "shard"},
    {"ShardText", kAnyError, {"calibrate", "model.onnx", "--data", "images", "-o", "r.json", "--shard", "x"}, "shard"},
    {"MergeMissing", kError, {"calibrate", "--merge", "not_there.json", "-o", "r.json"}, "not_there\\.json"},
    {"MergeText", kError, {"calibrate", "--merge", "json_text.json", "-o", "r.json"}, "json_text\\.json"},
    // Single inputs.
    {"InputUnknown", kError, {"run", "model.onnx", "--input", "frob=good.npy", "--output", "out"}, "frob.*image|image.*frob"},
    {"InputNoEquals", kAnyError, {"run", "model.onnx", "--input", "good.npy", "--output", "out"}, "NAME=|good\\.npy"},
    {"InputTwice", kAnyError, {"run", "model.onnx", "--input", "image=good.npy", "--input", "image=good.npy", "--output", "out"}, "image"},
    {"InputMissing", kError, {"run", "model.onnx", "--input", "image=not_there.npy", "--output", "out"}, "not_there\\.npy"},
    {"InputWrongShape", kError, {"run", "model.onnx", "--input", "image=wrong_shape.npy", "--output", "out"}, "image|wrong_shape"},
    {"InputShort", kError, {"run", "model.onnx", "--input", "image=short.npy", "--output", "out"}, "short\\.npy"},
    {"InputHuge", kError, {"run", "model.onnx", "--input", "image=huge.npy", "--output", "out"}, "huge\\.npy"},
    {"InputNegative", kError, {"run", "model.onnx", "--input", "image=negative.npy", "--output", "out"}, "negative\\.npy"},
    {"InputObject", kError, {"run", "model.onnx", "--input", "image=object.npy", "--output", "out"}, "object\\.npy"},
    {"InputText", kError, {"run", "model.onnx", "--input", "image=text.npy", "--output", "out"}, "text\\.npy"},
    {"InputEmpty", kError, {"run", "model.onnx", "--input", "image=empty.npy", "--output", "out"}, "empty\\.npy"},
};

// Lines of stderr that are neither notes, warnings nor progress.
std::vector<std::string> error_lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.empty() || line.rfind("warning:", 0) == 0 || line.rfind("note:", 0) == 0) continue;
    result.push_back(line);
  }
  return result;
}

std::string joined(const std::set<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// No sanitizer spoke, nothing crashed or hung.
void expect_sane(const Outcome& outcome) {
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.signal, 0) << outcome.err;
  for (const char* word : {"Sanitizer", "runtime error:", "terminate called", "Assertion"}) {
    EXPECT_EQ(outcome.err.find(word), std::string::npos) << outcome.err;
  }
}

class Hostile : public testing::TestWithParam<Case> {};

TEST_P(Hostile, EndsWithOneClearLine) {
  const Case& item = GetParam();
  const Sandbox sandbox;
  const auto before = sandbox.listing();
  const Outcome outcome = sandbox.run(item.arguments, item.options);
  expect_sane(outcome);
  if (item.code == kAnyError) {
    EXPECT_TRUE(outcome.exit_code == kError || outcome.exit_code == kUsage) << outcome.exit_code;
  } else {
    EXPECT_EQ(outcome.exit_code, item.code);
  }
  const auto lines = error_lines(outcome.err);
  EXPECT_EQ(lines.size(), 1U) << outcome.err;
  if (!lines.empty()) {
    EXPECT_EQ(lines[0].rfind("error: ", 0), 0U) << lines[0];
    EXPECT_TRUE(std::regex_search(lines[0], std::regex(item.mentions, std::regex::icase)))
        << "not mentioned: " << item.mentions << "\nin: " << lines[0];
  }
  // Also says that a file that existed has its old size, and that no temporary file was left.
  EXPECT_EQ(joined(before), joined(sandbox.listing()));
}

INSTANTIATE_TEST_SUITE_P(Cases, Hostile, testing::ValuesIn(kCases), [](const auto& test) { return std::string(test.param.name); });

// What must work although it looks odd.
class Odd : public testing::Test {
 protected:
  void expect_ok(const std::vector<std::string>& arguments) {
    const Outcome outcome = sandbox_.run(arguments);
    expect_sane(outcome);
    EXPECT_EQ(outcome.exit_code, kOk) << outcome.err;
  }
  Sandbox sandbox_;
};

TEST_F(Odd, Help) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"--help"}, {"quantize", "--help"}, {"--version"}}) {
    const Outcome outcome = sandbox_.run(words);
    expect_sane(outcome);
    EXPECT_EQ(outcome.exit_code, kOk) << outcome.err;
    EXPECT_FALSE(outcome.out.empty());
  }
}

TEST_F(Odd, OverwritesARegularFile) { expect_ok({"quantize", "model.onnx", "-o", "old.onnx", "--data", "images"}); }

TEST_F(Odd, LinkedModel) {
  expect_ok({"quantize", "link.onnx", "-o", "out.onnx", "--data", "images", "--preprocess", "model.preprocess.json"});
}

TEST_F(Odd, SpacesAndUnicodeInNames) {
  std::filesystem::rename(sandbox_.path() / "model.onnx", sandbox_.path() / "my möbel 模型.onnx");
  std::filesystem::rename(sandbox_.path() / "model.preprocess.json", sandbox_.path() / "my möbel 模型.preprocess.json");
  std::filesystem::rename(sandbox_.path() / "images", sandbox_.path() / "Bilder für später");
  expect_ok({"quantize", "my möbel 模型.onnx", "-o", "aus gabe.onnx", "--data", "Bilder für später"});
  expect_ok({"evaluate", "aus gabe.onnx", "--data", "Bilder für später"});
}

TEST_F(Odd, MoreSamplesThanThereAre) { expect_ok({"quantize", "model.onnx", "-o", "out.onnx", "--data", "images", "--samples", "1000"}); }

TEST_F(Odd, RandomDataIsSaidLoudly) {
  const Outcome outcome = sandbox_.run({"quantize", "model.onnx", "-o", "out.onnx", "--data", "random", "--samples", "4"});
  expect_sane(outcome);
  EXPECT_EQ(outcome.exit_code, kOk) << outcome.err;
  EXPECT_NE((outcome.err + outcome.out).find("RANDOM"), std::string::npos);
}

// Same input, same seed: the same bytes.
TEST_F(Odd, TwiceTheSameBytes) {
  expect_ok({"quantize", "model.onnx", "-o", "out.onnx", "--data", "images"});
  const auto read = [&](const char* name) {
    std::ifstream file(sandbox_.path() / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string first = read("out.onnx");
  expect_ok({"quantize", "model.onnx", "-o", "out.onnx", "--data", "images"});
  EXPECT_FALSE(first.empty());
  EXPECT_TRUE(first == read("out.onnx"));
}

TEST_F(Odd, QuantizingTwiceIsRefused) {
  expect_ok({"quantize", "model.onnx", "-o", "out.onnx", "--data", "images"});
  const Outcome outcome = sandbox_.run({"quantize", "out.onnx", "-o", "again.onnx", "--data", "images"});
  expect_sane(outcome);
  EXPECT_NE(outcome.exit_code, kOk);
  const auto lines = error_lines(outcome.err);
  ASSERT_EQ(lines.size(), 1U) << outcome.err;
  EXPECT_NE(lines[0].find("quantized"), std::string::npos) << lines[0];
}

// Damaged models: cut off, or with bits turned over. Some still mean something, so success is allowed; a crash, a hang or an unclear end is
// not.
class Damaged : public testing::TestWithParam<unsigned> {
 protected:
  // What a damaged `path` may do to `arguments`.
  static void expect_clear_end(const Sandbox& sandbox, const std::vector<std::string>& arguments) {
    const auto before = sandbox.listing();
    const Outcome outcome = sandbox.run(arguments);
    expect_sane(outcome);
    const auto lines = error_lines(outcome.err);
    if (outcome.exit_code == kOk) return;
    EXPECT_EQ(outcome.exit_code, kError) << outcome.err;
    EXPECT_EQ(lines.size(), 1U) << outcome.err;
    EXPECT_EQ(joined(before), joined(sandbox.listing()));
  }
  static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void write(const std::filesystem::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
};

constexpr int kDamagesPerCase = 4;

TEST_P(Damaged, Model) {
  const Sandbox sandbox;
  const std::string good = read(sandbox.path() / "model.onnx");
  std::mt19937 random(GetParam());
  for (int i = 0; i < kDamagesPerCase; ++i) {
    std::string bytes = good;
    // The weights are most of the file and any bits do for them, so most damage goes to the nodes, which stand first, and to the end.
    const auto place = [&] { return i % 2 == 0 ? random() % 8000 : bytes.size() - 1 - random() % 2000; };
    std::string what;
    if (i == 0) {
      bytes.resize(random() % bytes.size());
      what = "cut to " + std::to_string(bytes.size());
    } else {
      for (int n = 0; n < i; ++n) {
        const std::size_t at = place();
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
        what += "flip at " + std::to_string(at) + " ";
      }
    }
    SCOPED_TRACE("seed " + std::to_string(GetParam()) + ": " + what);
    write(sandbox.path() / "damaged.onnx", bytes);
    expect_clear_end(sandbox, {"run", "damaged.onnx", "--input", "image=good.npy", "--output", "images"});
    std::filesystem::remove(sandbox.path() / "images/logits.npy");
  }
}

TEST_P(Damaged, Picture) {
  const Sandbox sandbox;
  const std::string good = read(sandbox.path() / "images/circle/000.png");
  std::mt19937 random(GetParam());
  for (int i = 0; i < kDamagesPerCase; ++i) {
    std::string bytes = good;
    if (i == 0) bytes.resize(random() % bytes.size());
    for (int n = 0; n < i; ++n) bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    SCOPED_TRACE("seed " + std::to_string(GetParam()));
    write(sandbox.path() / "images/circle/000.png", bytes);
    expect_clear_end(sandbox, {"evaluate", "model.onnx", "--data", "images"});
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Damaged, testing::Range(0U, 16U));

TEST(Interrupted, LeavesNothingBehind) {
  const Sandbox sandbox;
  const auto before = sandbox.listing();
  const std::string data = std::string(NIBBLE_REPOSITORY) + "/examples/demo/evaluation";
  const Outcome outcome =
      sandbox.run({"quantize", "model.onnx", "-o", "out.onnx", "--data", data, "--samples", "1000", "--calibrate-method", "entropy"},
                  {.interrupt_after_ms = 150});
  EXPECT_FALSE(outcome.timed_out);
  if (outcome.exit_code == kOk) GTEST_SKIP() << "the program was done before it could be interrupted";
  // Either an error like any other, or the end that the shell expects after Ctrl-C.
  EXPECT_TRUE(outcome.signal == 2 || outcome.exit_code == kError || outcome.exit_code == 130) << outcome.exit_code << " " << outcome.err;
  EXPECT_LE(error_lines(outcome.err).size(), 1U) << outcome.err;
  EXPECT_EQ(joined(before), joined(sandbox.listing()));
}

}  // namespace
}  // namespace nibble::hostile
