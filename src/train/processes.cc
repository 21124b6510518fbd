#include "train/processes.h"

#include <torch/torch.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>

#include "base/fail.h"
#include "nibble/train.h"

#ifdef C10_USE_GLOG
#include <glog/logging.h>
#endif

#ifdef USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif

namespace nibble::train {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return text;
}

std::int64_t number(const char* name, std::int64_t least, std::int64_t most) {
  const std::optional<std::string> text = variable(name);
  if (!text)
    fail(ErrorCode::kInvalidArgument,
         "RANK is set, {} is not: a run of several processes needs RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT", name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < least || value > most)
    fail(ErrorCode::kInvalidArgument, "{} is '{}'; a whole number from {} to {} is needed", name, *text, least, most);
  return value;
}

}  // namespace

Rendezvous rendezvous_from_environment() {
  constexpr std::int64_t kMostProcesses = 65536, kHighestPort = 65535;
  Rendezvous rendezvous;
  if (!variable("RANK")) return rendezvous;
  rendezvous.world_size = static_cast<int>(number("WORLD_SIZE", 1, kMostProcesses));
  rendezvous.rank = static_cast<int>(number("RANK", 0, rendezvous.world_size - 1));
  if (rendezvous.world_size == 1) return rendezvous;
  rendezvous.port = static_cast<std::uint16_t>(number("MASTER_PORT", 1, kHighestPort));
  const std::optional<std::string> address = variable("MASTER_ADDR");
  if (!address) fail(ErrorCode::kInvalidArgument, "RANK is set, MASTER_ADDR is not: it names the machine of rank 0");
  rendezvous.address = *address;
  rendezvous.agent_store = variable("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  rendezvous.attempt = variable("TORCHELASTIC_RESTART_COUNT").value_or("0");
  return rendezvous;
}

#ifdef USE_C10D_GLOO
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr seconds kJoin{60};        // to find each other
constexpr seconds kCollective{45};  // for one collective: a process that stands still for longer is taken for dead
constexpr milliseconds kRollCall{3000};

// The first line of what torch says.
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

class ProcessGroupReducer final : public Reducer {
 public:
  ProcessGroupReducer(c10::intrusive_ptr<c10d::Store> store, c10::intrusive_ptr<c10d::ProcessGroup> group, int rank, int world_size)
      : store_(std::move(store)), group_(std::move(group)), rank_(rank), world_size_(world_size) {}

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  void sum(torch::Tensor& tensor) override { reduce(tensor, c10d::ReduceOp::SUM); }
  void min(torch::Tensor& tensor) override { reduce(tensor, c10d::ReduceOp::MIN); }
  void max(torch::Tensor& tensor) override { reduce(tensor, c10d::ReduceOp::MAX); }
  void broadcast(torch::Tensor& tensor, int root) override {
    run(tensor, [&](std::vector<torch::Tensor>& tensors) {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return group_->broadcast(tensors, options);
    });
  }
  void barrier() override {
    torch::Tensor nothing = torch::zeros({1});
    sum(nothing);
  }

 private:
  void reduce(torch::Tensor& tensor, c10d::ReduceOp::RedOpType operation) {
    run(tensor, [&](std::vector<torch::Tensor>& tensors) {
      c10d::AllreduceOptions options;
      options.reduceOp = c10d::ReduceOp(operation);
      return group_->allreduce(tensors, options);
    });
  }

  template <typename Collective>
  void run(torch::Tensor& tensor, Collective&& collective) {
    torch::NoGradGuard guard;
    std::vector<torch::Tensor> tensors = {tensor.detach().contiguous()};
    try {
      collective(tensors)->wait();
    } catch (const std::exception& error) {
      fail(ErrorCode::kIo, "{} ({})", who_is_gone(), first_line(error));
    }
    if (tensors[0].data_ptr() != tensor.data_ptr()) tensor.detach().copy_(tensors[0]);
  }

  // Who still lives says so in the store; the others are gone.
  std::string who_is_gone() {
    const auto place = [](int rank) { return "saw_failure/" + std::to_string(rank); };
    std::string gone;
    try {
      store_->set(place(rank_), std::vector<std::uint8_t>{1});
      std::this_thread::sleep_for(kRollCall);
      for (int rank = 0; rank < world_size_; ++rank) {
        if (!store_->check({place(rank)})) gone += (gone.empty() ? "" : ", ") + std::to_string(rank);
      }
    } catch (const std::exception&) {
      return "the process that hosts the store (rank 0, or who started this run) is gone";
    }
    if (gone.empty()) return "the processes of this run lost each other";
    return fmt::format("rank {} of {} processes is gone or stands still", gone, world_size_);
  }

  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  int rank_, world_size_;
};

std::shared_ptr<::gloo::transport::Device> device_for(const std::string& address) {
  if (const auto interface = variable("GLOO_SOCKET_IFNAME")) return c10d::ProcessGroupGloo::createDeviceForInterface(*interface);
  if (address == "127.0.0.1" || address == "localhost") return c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

bool is_busy(const std::string& text) { return text.find("in use") != std::string::npos || text.find("EADDRINUSE") != std::string::npos; }

}  // namespace

std::unique_ptr<Reducer> join_processes(const Rendezvous& rendezvous) {
#ifdef C10_USE_GLOG
  FLAGS_minloglevel = google::GLOG_FATAL;  // what goes wrong is said once, in our words
#endif
  try {
    c10d::TCPStoreOptions options;
    options.port = rendezvous.port;
    options.isServer = rendezvous.rank == 0 && !rendezvous.agent_store;
    options.waitWorkers = false;
    options.timeout = kJoin;
    const c10::intrusive_ptr<c10d::Store> tcp = c10::make_intrusive<c10d::TCPStore>(rendezvous.address, options);
    const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::PrefixStore>("nibble/" + rendezvous.attempt, tcp);
    store->setTimeout(kJoin);
    const auto gloo = c10d::ProcessGroupGloo::Options::create(kCollective);
    gloo->devices.push_back(device_for(rendezvous.address));
    gloo->threads = 2;
    return std::make_unique<ProcessGroupReducer>(
        store, c10::make_intrusive<c10d::ProcessGroupGloo>(store, rendezvous.rank, rendezvous.world_size, gloo), rendezvous.rank,
        rendezvous.world_size);
  } catch (const std::exception& error) {
    if (is_busy(error.what()))
      fail(ErrorCode::kIo, "port {} of {} is in use by another program; choose another MASTER_PORT", rendezvous.port, rendezvous.address);
    fail(ErrorCode::kIo, "rank {} of {} found no others at {}:{} (MASTER_ADDR, MASTER_PORT) within {} s: {}", rendezvous.rank,
         rendezvous.world_size, rendezvous.address, rendezvous.port, kJoin.count(), first_line(error));
  }
}

#else

std::unique_ptr<Reducer> join_processes(const Rendezvous&) {
  fail(ErrorCode::kUnsupported,
       "this build trains in one process alone: Gloo's headers (Debian: libgloo-dev) were missing when it was built");
}

#endif

}  // namespace nibble::train

namespace nibble {

TrainProcesses train_processes() {
  const train::Rendezvous rendezvous = train::rendezvous_from_environment();
  return {.rank = rendezvous.rank, .world_size = rendezvous.world_size};
}

struct TrainStoreHost::Impl {
#ifdef USE_C10D_GLOO
  c10::intrusive_ptr<c10d::TCPStore> store;
#endif
};

TrainStoreHost::TrainStoreHost() : impl_(std::make_unique<Impl>()) {
#ifdef USE_C10D_GLOO
  try {
    c10d::TCPStoreOptions options;
    options.port = 0;  // any free one
    options.isServer = true;
    options.waitWorkers = false;
    impl_->store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  } catch (const std::exception& error) {
    fail(ErrorCode::kIo, "no port for the processes to meet at: {}", train::first_line(error));
  }
#else
  train::join_processes({});
#endif
}
TrainStoreHost::~TrainStoreHost() = default;

int TrainStoreHost::port() const {
#ifdef USE_C10D_GLOO
  return impl_->store->getPort();
#else
  return 0;
#endif
}

}  // namespace nibble
