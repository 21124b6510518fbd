#include "train/checkpoint.h"

#include <torch/torch.h>

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "data/hasher.h"

namespace nibble::train {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little, "checkpoints are little endian");

constexpr std::string_view kMagic = "nibble checkpoint 1\n", kAnyVersion = "nibble checkpoint ";
constexpr std::size_t kChecksumBytes = 32;

std::string checksum(std::string_view bytes) {
  Hasher hasher;
  hasher.add(bytes);
  return hasher.hex();
}

const std::map<std::string, torch::Dtype>& types() {
  static const std::map<std::string, torch::Dtype> kTypes = {
      {"float32", torch::kFloat32}, {"float64", torch::kFloat64}, {"int64", torch::kInt64}, {"int32", torch::kInt32},
      {"int8", torch::kInt8},       {"uint8", torch::kUInt8},     {"bool", torch::kBool}};
  return kTypes;
}

std::string type_name(const StateTensor& tensor) {
  for (const auto& [name, type] : types()) {
    if (tensor.value.scalar_type() == type) return name;
  }
  fail(ErrorCode::kUnsupported, "{}: a tensor of a type that checkpoints do not hold", tensor.name);
}

void put(json& header, std::string& body, const char* section, const std::vector<StateTensor>& tensors) {
  json& list = header[section] = json::array();
  for (const StateTensor& tensor : tensors) {
    const torch::Tensor values = tensor.value.detach().to(torch::kCPU).contiguous();
    list.push_back({{"name", tensor.name}, {"type", type_name(tensor)}, {"shape", values.sizes().vec()}});
    body.append(static_cast<const char*>(values.data_ptr()), values.nbytes());
  }
}

std::vector<StateTensor> take(const json& list, std::string_view& body) {
  std::vector<StateTensor> tensors;
  for (const json& entry : list) {
    torch::Tensor value = torch::empty(entry.at("shape").get<std::vector<std::int64_t>>(), types().at(entry.at("type").get<std::string>()));
    if (value.nbytes() > body.size()) throw std::out_of_range("too few bytes");
    std::memcpy(value.data_ptr(), body.data(), value.nbytes());
    body.remove_prefix(value.nbytes());
    tensors.push_back({entry.at("name").get<std::string>(), value});
  }
  return tensors;
}

json to_json(const EpochReport& report) {
  return {{"epoch", report.epoch},
          {"loss", report.loss},
          {"train_top1", report.train_top1},
          {"eval_top1", report.eval_top1},
          {"learning_rate", report.learning_rate},
          {"seconds", report.seconds},
          {"images_per_second", report.images_per_second}};
}

EpochReport epoch_report(const json& object) {
  return {.epoch = object.at("epoch").get<std::int64_t>(),
          .loss = object.at("loss").get<double>(),
          .train_top1 = object.at("train_top1").get<double>(),
          .eval_top1 = object.at("eval_top1").get<double>(),
          .learning_rate = object.at("learning_rate").get<double>(),
          .seconds = object.at("seconds").get<double>(),
          .images_per_second = object.at("images_per_second").get<double>()};
}

}  // namespace

std::string serialize(const Checkpoint& checkpoint) {
  json header;
  header["model"] = checkpoint.model_hash;
  header["options"] = checkpoint.options;
  header["epoch"] = checkpoint.epoch;
  header["step_in_epoch"] = checkpoint.step_in_epoch;
  header["step"] = checkpoint.step;
  header["epoch_loss"] = checkpoint.epoch_loss;
  header["epoch_correct"] = checkpoint.epoch_correct;
  header["epoch_samples"] = checkpoint.epoch_samples;
  header["epoch_seconds"] = checkpoint.epoch_seconds;
  header["log_bytes"] = checkpoint.log_bytes;
  header["initial_top1"] = checkpoint.initial_top1;
  header["eval_predictions"] = checkpoint.eval_predictions;
  json& epochs = header["epochs"] = json::array();
  for (const EpochReport& report : checkpoint.epochs) epochs.push_back(to_json(report));
  std::string body;
  put(header, body, "parameters", checkpoint.parameters);
  put(header, body, "state", checkpoint.state);
  put(header, body, "optimizer", checkpoint.optimizer);

  const std::string text = header.dump();
  const auto length = static_cast<std::uint64_t>(text.size());
  std::string bytes(kMagic);
  bytes.append(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += text;
  bytes += body;
  bytes += checksum(bytes);
  return bytes;
}

Checkpoint parse_checkpoint(std::string_view bytes, const std::string& origin) {
  if (!bytes.starts_with(kAnyVersion)) fail(ErrorCode::kInvalidData, "{}: is no checkpoint of nibble train", origin);
  if (!bytes.starts_with(kMagic))
    fail(ErrorCode::kInvalidData, "{}: is a checkpoint of another version of nibble; begin anew without --resume", origin);
  const auto damaged = [&]() {
    fail(ErrorCode::kInvalidData,
         "{}: the checkpoint is truncated or damaged ({} bytes, its checksum does not fit); begin anew without --resume", origin,
         bytes.size());
  };
  if (bytes.size() < kMagic.size() + sizeof(std::uint64_t) + kChecksumBytes) damaged();
  const std::string_view content = bytes.substr(0, bytes.size() - kChecksumBytes);
  if (checksum(content) != bytes.substr(content.size())) damaged();

  Checkpoint checkpoint;
  try {
    std::string_view rest = content.substr(kMagic.size());
    std::uint64_t length = 0;
    std::memcpy(&length, rest.data(), sizeof length);
    rest.remove_prefix(sizeof length);
    if (length > rest.size()) damaged();
    const json header = json::parse(rest.substr(0, length));
    rest.remove_prefix(length);
    checkpoint.model_hash = header.at("model").get<std::string>();
    checkpoint.options = header.at("options").get<std::map<std::string, std::string>>();
    checkpoint.epoch = header.at("epoch").get<std::int64_t>();
    checkpoint.step_in_epoch = header.at("step_in_epoch").get<std::int64_t>();
    checkpoint.step = header.at("step").get<std::int64_t>();
    checkpoint.epoch_loss = header.at("epoch_loss").get<double>();
    checkpoint.epoch_correct = header.at("epoch_correct").get<std::int64_t>();
    checkpoint.epoch_samples = header.at("epoch_samples").get<std::int64_t>();
    checkpoint.epoch_seconds = header.at("epoch_seconds").get<double>();
    checkpoint.log_bytes = header.at("log_bytes").get<std::int64_t>();
    checkpoint.initial_top1 = header.at("initial_top1").get<double>();
    checkpoint.eval_predictions = header.at("eval_predictions").get<std::vector<std::int64_t>>();
    for (const json& report : header.at("epochs")) checkpoint.epochs.push_back(epoch_report(report));
    checkpoint.parameters = take(header.at("parameters"), rest);
    checkpoint.state = take(header.at("state"), rest);
    checkpoint.optimizer = take(header.at("optimizer"), rest);
    if (!rest.empty()) damaged();
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {  // a checksum that fits over content that does not: written by something else
    damaged();
  }
  return checkpoint;
}

std::string checkpoint_path(const std::string& folder) { return folder + (folder.ends_with('/') ? "" : "/") + "checkpoint.nibble"; }

void check_same_run(const Checkpoint& found, const Checkpoint& expected, const std::string& origin) {
  if (found.model_hash != expected.model_hash)
    fail(ErrorCode::kInvalidArgument,
         "{}: is the checkpoint of another model; give the model that it was made from, or begin anew without --resume", origin);
  for (const auto& [name, value] : expected.options) {
    const auto it = found.options.find(name);
    const std::string was = it == found.options.end() ? "unknown" : it->second;
    if (was != value)
      fail(ErrorCode::kInvalidArgument, "{}: was made with {} {}, not {}; --resume goes on with the same options alone", origin, name,
           was.empty() ? "none" : was, value.empty() ? "none" : value);
  }
}

void restore(const std::vector<StateTensor>& from, const std::vector<StateTensor>& targets, const std::string& origin) {
  torch::NoGradGuard guard;
  std::map<std::string, torch::Tensor> values;
  for (const StateTensor& tensor : from) values[tensor.name] = tensor.value;
  if (values.size() != targets.size())
    fail(ErrorCode::kInvalidData, "{}: holds {} tensors where the network has {}; it is of another version or network", origin,
         values.size(), targets.size());
  for (const StateTensor& target : targets) {
    const auto it = values.find(target.name);
    torch::Tensor value = target.value;
    if (it == values.end() || it->second.sizes() != value.sizes() || it->second.scalar_type() != value.scalar_type())
      fail(ErrorCode::kInvalidData, "{}: holds no fitting tensor {}; it is of another version or network", origin, target.name);
    value.copy_(it->second);
  }
}

}  // namespace nibble::train
