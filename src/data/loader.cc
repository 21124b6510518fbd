#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/fail.h"

namespace nibble {

namespace {

struct Slot {
  std::optional<Sample> sample;
  std::exception_ptr error;
  bool ready = false;
};

}  // namespace

// Sample i lives in slots[i % ahead] from the moment a thread claims it until it is taken: i - taken < ahead keeps slots apart.
struct DataLoader::State {
  explicit State(const Dataset& data) : dataset(data), size(data.size()) {}
  const Dataset& dataset;
  const std::int64_t size;
  std::mutex mutex;
  std::condition_variable room;   // a slot became free, or stop
  std::condition_variable ready;  // a slot was filled
  std::vector<Slot> slots;
  std::int64_t claimed = 0;
  std::int64_t taken = 0;
  bool stop = false;
  std::vector<std::thread> threads;

  std::int64_t ahead() const { return static_cast<std::int64_t>(slots.size()); }
  Slot& slot(std::int64_t index) { return slots[static_cast<std::size_t>(index % ahead())]; }

  void work() {
    for (;;) {
      std::int64_t index = 0;
      {
        std::unique_lock lock(mutex);
        room.wait(lock, [&] { return stop || claimed == size || claimed - taken < ahead(); });
        if (stop || claimed == size) return;
        index = claimed++;
      }
      Slot filled;
      try {
        filled.sample = dataset.sample(index);
      } catch (...) {
        filled.error = std::current_exception();
      }
      filled.ready = true;
      const std::lock_guard lock(mutex);
      slot(index) = std::move(filled);
      ready.notify_one();
    }
  }
};

DataLoader::DataLoader(const Dataset& dataset, LoaderOptions options) : state_(std::make_unique<State>(dataset)) {
  const int threads = static_cast<int>(std::min<std::int64_t>(std::max(0, options.threads), state_->size));
  if (threads == 0) return;
  const std::int64_t ahead = std::max<std::int64_t>(threads, options.ahead > 0 ? options.ahead : 2 * std::int64_t{threads});
  state_->slots.resize(static_cast<std::size_t>(std::min(ahead, state_->size)));
  for (int i = 0; i < threads; ++i) state_->threads.emplace_back([state = state_.get()] { state->work(); });
}

DataLoader::~DataLoader() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->room.notify_all();
  for (auto& thread : state_->threads) thread.join();
}

bool DataLoader::done() const {
  const std::lock_guard lock(state_->mutex);
  return state_->taken == state_->size;
}

Sample DataLoader::next() {
  State& state = *state_;
  Slot slot;
  {
    std::unique_lock lock(state.mutex);
    if (state.taken == state.size)
      fail(ErrorCode::kInvalidArgument, "all {} samples of {} were taken", state.size, state.dataset.description());
    if (state.threads.empty()) {
      const std::int64_t index = state.taken++;
      lock.unlock();
      return state.dataset.sample(index);
    }
    Slot& wanted = state.slot(state.taken);
    state.ready.wait(lock, [&] { return wanted.ready; });
    slot = std::move(wanted);
    wanted = {};
    ++state.taken;
  }
  state.room.notify_all();
  if (slot.error) std::rethrow_exception(slot.error);
  return std::move(*slot.sample);
}

}  // namespace nibble
