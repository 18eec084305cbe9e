// The kernels without a device, for tests/ops/test_cuda_emulation.py: the same items, planned by the same
// code, run in a loop over blocks and threads. Only blocks that a shuffle picks come next, forwards or
// backwards: items must not depend on their order. Not part of any library.
#include "dispatch.h"

#define ADAPOOL_EXPORT extern "C" __attribute__((visibility("default")))

namespace adapool::cuda {
namespace {

constexpr int64_t kThreads = 128;

struct Loop {
  uint64_t seed;
  int64_t launches = 0;
  int64_t tiles = 0;

  // Every block of a grid once, in an order that depends on the seed.
  template <class Function>
  void grid(int64_t items, const Function& function) {
    ++launches;
    const int64_t blocks = ceil_div(items, kThreads);
    for (int64_t k = 0; k < blocks; ++k) {
      const int64_t block = seed % 2 == 0 ? k : blocks - 1 - k;
      for (int64_t t = 0; t < kThreads; ++t) {
        const int64_t thread = seed % 4 < 2 ? t : kThreads - 1 - t;
        const int64_t item = block * kThreads + thread;
        if (item < items) function(static_cast<uint32_t>(item));
      }
    }
  }
  template <class Item>
  void run(const Problem& p, int64_t items) {
    grid(items, [&](uint32_t item) { Item::run(p, item); });
  }
  void run(const Launch& launch, const Problem& p, int64_t items) {
    tiles += launch.step == Step::kTile ? 1 : 0;
    if (launch.type == Type::kFloat) return dispatch<float>(launch, p, items, *this);
    if (launch.type == Type::kHalf) return dispatch<Half>(launch, p, items, *this);
    if (launch.type == Type::kBfloat16) return dispatch<Bfloat16>(launch, p, items, *this);
    return dispatch<double>(launch, p, items, *this);
  }
  void sum(Type type, const SumProblem& p, int64_t items) {
    grid(items, [&](uint32_t item) {
      type == Type::kDouble ? SumItem<double>::run(p, item) : SumItem<float>::run(p, item);
    });
  }
};

}  // namespace
}  // namespace adapool::cuda

using namespace adapool::cuda;

// What a test says of one call, in the order of EmulatedCall in tests/ops/cuda_emulator.py.
struct EmulatedCall {
  int32_t operation, weighting, type, channels_last;
  int32_t batch, channels;
  Geometry geometry;
  int32_t weight_grad, huber, drop, beta_gradient, beta_varies;
  int64_t most_items, seed;
  double delta, gain;
  Map maps[kRoles];
  void* beta_sums;
};

namespace {
Call call_of(const EmulatedCall& e) {
  Call call{};
  call.operation = static_cast<Operation>(e.operation);
  call.weighting = static_cast<Weighting>(e.weighting);
  call.type = static_cast<Type>(e.type);
  call.beta_sums = e.beta_sums;
  call.beta_gradient = e.beta_gradient != 0;
  call.most_items = e.most_items;
  Problem& p = call.problem;
  p.geometry = e.geometry;
  std::copy(e.maps, e.maps + kRoles, p.maps);
  p.batch = e.batch;
  p.channels = e.channels;
  p.channels_last = e.channels_last != 0;
  p.weight_grad = e.weight_grad != 0;
  p.pairs = has_pairs(e.geometry, call.type);
  p.beta_varies = e.beta_varies != 0;
  p.rule = {e.huber != 0, e.drop != 0, e.delta};
  p.gain = e.gain;
  return call;
}
}  // namespace

// Bytes of workspace, or -1 where the call is too large to number its items.
ADAPOOL_EXPORT int64_t adapool_cuda_workspace(const EmulatedCall* e) {
  const Call call = call_of(*e);
  const Planner plan(call);
  return plan.supported() ? plan.workspace() : -1;
}

// The number of launches, plus 1000 for each of tiles.
ADAPOOL_EXPORT int64_t adapool_cuda_run(const EmulatedCall* e, char* workspace) {
  const Call call = call_of(*e);
  Loop loop{static_cast<uint64_t>(e->seed)};
  Planner(call).run(workspace, loop);
  return loop.launches + 1000 * loop.tiles;
}

// n / d and n % d as the kernels work them out.
ADAPOOL_EXPORT void adapool_cuda_divide(int32_t by, uint32_t n, uint32_t* quotient, uint32_t* rest) {
  *rest = n;
  *quotient = Divider::of(by).divide(*rest);
}
