// From one call to the kernels that it takes: which items, in which order, with which memory. Plain
// C++: the host code launches what run() says on a device, the tests' emulation in a loop.
#pragma once

#include <algorithm>
#include <cstddef>

#include "problem.h"

namespace adapool::cuda {

enum class Operation : int { kPool, kPoolBackward, kLike, kLikeBackward, kUnpool, kUnpoolBackward };
enum class Weighting : int { kAda, kEdscw, kEm, kIdw };
enum class Type : int { kFloat, kHalf, kBfloat16, kDouble };
// kItem: windows, or pixels for kUnpool; kState and kGather: windows that overlap; kTile: see
// tiles.h.
enum class Step : int { kItem, kState, kGather, kTile };

constexpr int kTileSteps = 4;
constexpr int kSumGroup = 64;
// Windows at once.
constexpr int tile_lanes(int64_t scalar_size, bool channels_last) {
  return channels_last || scalar_size == 2 ? 4 : 2;
}

constexpr int64_t kMostItems = 0x7fffffff;

inline int64_t scalar_size(Type type) {
  return type == Type::kDouble ? 8 : (type == Type::kFloat ? 4 : 2);
}
inline int64_t accumulator_size(Type type) { return type == Type::kDouble ? 8 : 4; }

struct Call {
  Operation operation;
  Weighting weighting;
  Type type;
  Problem problem;      // but for what a slice fills in
  void* beta_sums;      // (N, C) of the accumulator's type: the gradient of a constant beta
  bool beta_gradient;   // whether there is one
  int64_t most_items;   // numbered by 32 bits; larger calls are done in slices
};

struct Launch {
  Operation operation;
  Weighting weighting;
  Type type;
  Step step;
  bool masks;  // tiles that write masks, or read their gradients
};

// 2x2 windows side by side in the last two dimensions, of a type that lanes.h has.
inline bool has_pairs(const Geometry& g, Type type) {
  bool pairs = type != Type::kDouble && g.kernel[0] == 1 && g.stride[0] == 1;
  for (int dim = 1; dim < 3; ++dim) pairs = pairs && g.kernel[dim] == 2 && g.stride[dim] == 2;
  return pairs && g.padding[0] == 0 && g.padding[1] == 0 && g.padding[2] == 0;
}

inline int64_t product(const int32_t (&v)[3]) { return int64_t{v[0]} * v[1] * v[2]; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline bool is_window_map(int role) { return role == kY || role == kGradY; }

// The strides of a dense (N, C, *space).
inline Map dense_map(void* data, int64_t channels, const int64_t (&space)[3], bool channels_last) {
  const int64_t all = space[0] * space[1] * space[2];
  const int64_t step = channels_last ? channels : 1;
  return {data,
          channels * all,
          channels_last ? 1 : all,
          {space[1] * space[2] * step, space[2] * step, step}};
}

class Planner {
 public:
  explicit Planner(const Call& call) : call_(call), g_(call.problem.geometry) {
    overlap_ = false;
    for (int dim = 0; dim < 3; ++dim) overlap_ = overlap_ || g_.stride[dim] < g_.kernel[dim];
    tiled_ = is_tiled();
    const Problem& p = call_.problem;
    const int64_t most = std::max(product(g_.size), product(g_.out));
    supported_ = most <= call_.most_items;
    if (!supported_) return;
    slice_channels_ = static_cast<int32_t>(std::min<int64_t>(p.channels, call_.most_items / most));
    slice_batch_ = slice_channels_ < p.channels
                       ? 1
                       : static_cast<int32_t>(std::min<int64_t>(
                             p.batch, call_.most_items / (most * p.channels)));
    // A tile must not be cut.
    tiled_ = tiled_ && slice_channels_ == p.channels;
  }

  // Whether items can be numbered at all.
  bool supported() const { return supported_; }
  bool tiled() const { return tiled_; }

  // Bytes of memory that run() needs, aligned to 256.
  int64_t workspace() const { return state_bytes() + sum_bytes(0) + sum_bytes(1); }

  // launcher.run(launch, problem, items) and launcher.sum(type, problem, items), in this order.
  template <class Launcher>
  void run(char* workspace, const Launcher& launcher) const {
    const Problem& p = call_.problem;
    for (int32_t n = 0; n < p.batch; n += slice_batch_) {
      for (int32_t c = 0; c < p.channels; c += slice_channels_) {
        Problem slice = p;
        slice.batch = std::min(slice_batch_, p.batch - n);
        slice.channels = std::min(slice_channels_, p.channels - c);
        move_to(slice, n, c);
        char* to = static_cast<char*>(call_.beta_sums) +
                   (int64_t{n} * p.channels + c) * accumulator_size(call_.type);
        run_slice(slice, workspace, to, launcher);
      }
    }
  }

 private:
  // The gradient of a beta that doesn't vary over space is a sum.
  bool sums_beta() const { return call_.beta_gradient && !call_.problem.beta_varies; }
  bool keeps_states() const {
    return overlap_ && (call_.operation == Operation::kPoolBackward ||
                        call_.operation == Operation::kLike ||
                        call_.operation == Operation::kLikeBackward);
  }
  int lanes() const { return tile_lanes(scalar_size(call_.type), call_.problem.channels_last); }
  bool has(Role role) const { return call_.problem.maps[role].data != nullptr; }

  // Whether tiles.h can do it.
  bool is_tiled() const {
    const Problem& p = call_.problem;
    if (!p.pairs || call_.type == Type::kDouble || g_.size[0] != 1 || g_.size[1] % 2 != 0 ||
        g_.size[2] % 2 != 0) {
      return false;
    }
    const int aligned = p.channels_last ? p.channels : g_.out[2];
    if (aligned % lanes() != 0) return false;
    for (int role = 0; role < kRoles; ++role) {
      if (role == kBeta || role == kGradBeta || !has(static_cast<Role>(role))) continue;
      const auto& from = is_window_map(role) || (role == kGradient && call_.operation ==
                                                 Operation::kPoolBackward) ? g_.out : g_.size;
      const int64_t space[3] = {from[0], from[1], from[2]};
      if (!is_aligned_dense(p.maps[role], space)) return false;
    }
    // Masks of one method alone, and the gradient of one mask of two, are rare enough to go the
    // other way.
    const bool ada = call_.weighting == Weighting::kAda;
    if (call_.operation == Operation::kPool) return ada || !has(kMask);
    if (call_.operation == Operation::kPoolBackward) {
      return ada ? has(kGradMask) == has(kGradMaskEm) : !has(kGradMask);
    }
    return true;
  }

  bool is_aligned_dense(const Map& map, const int64_t (&space)[3]) const {
    const Problem& p = call_.problem;
    const Map dense = dense_map(map.data, p.channels, space, p.channels_last);
    // The stride of a dimension of size 1 says nothing.
    bool same = reinterpret_cast<uintptr_t>(map.data) % 16 == 0;
    same = same && (p.batch == 1 || map.batch == dense.batch);
    same = same && (p.channels == 1 || map.channel == dense.channel);
    for (int dim = 0; dim < 3; ++dim) {
      same = same && (space[dim] == 1 || map.space[dim] == dense.space[dim]);
    }
    return same;
  }

  void move_to(Problem& slice, int32_t n, int32_t c) const {
    for (int role = 0; role < kRoles; ++role) {
      Map& map = slice.maps[role];
      if (map.data == nullptr) continue;
      const int64_t size =
          role == kGradBeta ? accumulator_size(call_.type) : scalar_size(call_.type);
      map.data = static_cast<char*>(map.data) + (n * map.batch + c * map.channel) * size;
    }
    slice.windows = order_of(g_.out, slice.channels, slice.channels_last);
    slice.pixels = order_of(g_.size, slice.channels, slice.channels_last);
    slice.windows_count =
        static_cast<uint32_t>(product(g_.out) * slice.channels * slice.batch);
    if (!tiled_) return;
    const auto columns = static_cast<int32_t>(
        slice.channels_last ? slice.channels / lanes() : g_.out[2] / lanes());
    const auto steps = static_cast<int32_t>(
        ceil_div(slice.channels_last ? g_.out[2] : g_.out[1], kTileSteps));
    slice.tiles = {{Divider::of(columns), Divider::of(steps),
                    Divider::of(slice.channels_last ? g_.out[1] : slice.channels),
                    Divider::of(1)}};
  }

  // Sums of one slice: `count` values for each of outer·inner.
  int64_t sum_count() const {
    if (!tiled_) return product(g_.out);
    if (call_.problem.channels_last) return int64_t{g_.out[1]} * ceil_div(g_.out[2], kTileSteps);
    return ceil_div(g_.out[1], kTileSteps) * (g_.out[2] / lanes());
  }
  static int64_t aligned(int64_t bytes) { return ceil_div(bytes, 256) * 256; }
  int64_t sum_bytes(int level) const {
    if (!sums_beta()) return 0;
    const int64_t count = level == 0 ? sum_count() : ceil_div(sum_count(), kSumGroup);
    return aligned(count * slice_batch_ * slice_channels_ * accumulator_size(call_.type));
  }
  int64_t state_bytes() const {
    if (!keeps_states()) return 0;
    const int64_t fields = call_.weighting == Weighting::kAda    ? 8
                           : call_.weighting == Weighting::kIdw ? 6
                                                                 : 4;
    return aligned(fields * product(g_.out) * slice_batch_ * slice_channels_ *
                   accumulator_size(call_.type));
  }

  template <class Launcher>
  void run_slice(Problem& p, char* workspace, char* beta_sums,
                 const Launcher& launcher) const {
    char* sums = workspace + state_bytes();
    p.states = workspace;
    p.partial = sums;
    const bool last = p.channels_last;
    if (sums_beta() && !tiled_) {
      const int64_t space[3] = {g_.out[0], g_.out[1], g_.out[2]};
      p.maps[kGradBeta] = dense_map(sums, p.channels, space, last);
    }
    const bool masks = has(kMask) || has(kGradMask);
    Launch launch{call_.operation, call_.weighting, call_.type, Step::kItem, masks};
    const int64_t pixels = product(g_.size) * p.channels * p.batch;
    if (tiled_) {
      launch.step = Step::kTile;
      const int64_t tiles = int64_t{p.tiles.by[0].by} * p.tiles.by[1].by * p.tiles.by[2].by;
      launcher.run(launch, p, tiles * p.batch);
    } else if (keeps_states()) {
      launch.step = Step::kState;
      launcher.run(launch, p, p.windows_count);
      launch.step = Step::kGather;
      launcher.run(launch, p, pixels);
    } else {
      const bool by_pixel = call_.operation == Operation::kUnpool;
      launcher.run(launch, p, by_pixel ? pixels : int64_t{p.windows_count});
    }
    if (sums_beta()) add_up(p, sums, beta_sums, launcher);
  }

  template <class Launcher>
  void add_up(const Problem& p, char* sums, char* to, const Launcher& launcher) const {
    const bool last = p.channels_last;
    const int64_t inner = last ? p.channels : 1;
    const int64_t outer = last ? p.batch : int64_t{p.batch} * p.channels;
    char* buffers[2] = {sums, sums + sum_bytes(0)};
    int64_t count = sum_count();
    for (int level = 0;; ++level) {
      const int64_t groups = count <= 2 * kSumGroup ? 1 : ceil_div(count, kSumGroup);
      SumProblem sum{buffers[level % 2], buffers[(level + 1) % 2], static_cast<uint32_t>(count),
                     Divider::of(static_cast<int32_t>(inner)),
                     Divider::of(static_cast<int32_t>(groups))};
      if (groups == 1) sum.out = to;
      launcher.sum(call_.type, sum, outer * groups * inner);
      if (groups == 1) return;
      count = groups;
    }
  }

  const Call& call_;
  const Geometry& g_;
  bool overlap_;
  bool tiled_;
  bool supported_;
  int32_t slice_batch_ = 1;
  int32_t slice_channels_ = 1;
};

}  // namespace adapool::cuda
