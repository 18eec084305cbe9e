// The kernels without a device, for the tests alone: built with ADAPOOL_EMULATE, the host's code
// registers with the CPU in the namespace adapool_emulated, and a launch runs the items in a loop
// over blocks and threads. Items must not depend on their order, so it can be turned round.
#include "dispatch.h"
#include "kernels.h"

#define ADAPOOL_EXPORT extern "C" __attribute__((visibility("default")))

namespace adapool::cuda {
namespace {

constexpr int64_t kThreads = 128;

int64_t the_most_items = kMostItems;
int64_t turned = 0;  // bit 0: blocks, bit 1: threads
int64_t launches = 0;
int64_t tiles = 0;

template <class Function>
void each_thread(int64_t items, const Function& function) {
  ++launches;
  const int64_t blocks = ceil_div(items, kThreads);
  for (int64_t k = 0; k < blocks; ++k) {
    const int64_t block = (turned & 1) == 0 ? k : blocks - 1 - k;
    for (int64_t t = 0; t < kThreads; ++t) {
      const int64_t item = block * kThreads + ((turned & 2) == 0 ? t : kThreads - 1 - t);
      if (item < items) function(static_cast<uint32_t>(item));
    }
  }
}

struct Runner {
  template <class Item>
  void run(const Problem& p, int64_t items) {
    each_thread(items, [&](uint32_t item) { Item::run(p, item); });
  }
};

template <class Scalar>
int launch_items(const Launch& launch, const Problem& p, int64_t items) {
  // What a device can number, and what place_of can divide.
  if (items < 1 || items > kMostItems) return 1;
  tiles += launch.step == Step::kTile ? 1 : 0;
  Runner runner;
  dispatch<Scalar>(launch, p, items, runner);
  return 0;
}

}  // namespace

int launch_float32(const Launch& launch, const Problem& p, int64_t items, void*) {
  return launch_items<float>(launch, p, items);
}
int launch_float16(const Launch& launch, const Problem& p, int64_t items, void*) {
  return launch_items<Half>(launch, p, items);
}
int launch_bfloat16(const Launch& launch, const Problem& p, int64_t items, void*) {
  return launch_items<Bfloat16>(launch, p, items);
}
int launch_float64(const Launch& launch, const Problem& p, int64_t items, void*) {
  return launch_items<double>(launch, p, items);
}
int launch_sum(Type type, const SumProblem& p, int64_t items, void*) {
  each_thread(items, [&](uint32_t item) {
    type == Type::kDouble ? SumItem<double>::run(p, item) : SumItem<float>::run(p, item);
  });
  return 0;
}
const char* error_string(int) { return "no items"; }

// All bits set are a NaN in every type.
void poison(void* data, int64_t bytes) { memset(data, 0xff, static_cast<size_t>(bytes)); }
int64_t most_items() { return the_most_items; }

}  // namespace adapool::cuda

// How many items may be numbered at once (more are done in slices), and the order that they run in.
ADAPOOL_EXPORT void adapool_emulate(int64_t most_items, int64_t turn) {
  adapool::cuda::the_most_items = most_items;
  adapool::cuda::turned = turn;
}
// Launches since the last call, and how many of them were of tiles.
ADAPOOL_EXPORT void adapool_emulated(int64_t* launches, int64_t* tiles) {
  *launches = adapool::cuda::launches;
  *tiles = adapool::cuda::tiles;
  adapool::cuda::launches = adapool::cuda::tiles = 0;
}
// n / d and n % d as the kernels work them out.
ADAPOOL_EXPORT void adapool_divide(int32_t by, uint32_t n, uint32_t* quotient, uint32_t* rest) {
  *rest = n;
  *quotient = adapool::cuda::Divider::of(by).divide(*rest);
}
