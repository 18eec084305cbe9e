// What the operators share on the side of torch: which calls are ours, allocation and launching. Stable
// ABI only; no CUDA headers.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>
#include <vector>

#include "../common/reference.h"
#include "device.h"

namespace adapool::cuda {

using torch::headeronly::ScalarType;
using IntList = std::vector<int64_t>;

inline bool type_of(const Tensor& t, Type& type) {
  switch (t.scalar_type()) {
    case ScalarType::Float: type = Type::kFloat; return true;
    case ScalarType::Half: type = Type::kHalf; return true;
    case ScalarType::BFloat16: type = Type::kBfloat16; return true;
    case ScalarType::Double: type = Type::kDouble; return true;
    default: return false;
  }
}
inline int32_t torch_type(Type type) {
  switch (type) {
    case Type::kFloat: return aoti_torch_dtype_float32();
    case Type::kHalf: return aoti_torch_dtype_float16();
    case Type::kBfloat16: return aoti_torch_dtype_bfloat16();
    default: return aoti_torch_dtype_float64();
  }
}

// kernel, stride, padding and ceil_mode of a call.
struct Windows {
  const IntList& kernel;
  const IntList& stride;
  const IntList& padding;
  bool ceil_mode;
};

// The geometry of windows over `size`, by `output_size` in ops/geometry.py; false where there is
// none.
inline bool geometry_of(const IntList& size, const Windows& w, Geometry& g) {
  const size_t rank = size.size();
  if (rank < 1 || rank > 3 || w.kernel.size() != rank || w.stride.size() != rank ||
      w.padding.size() != rank) {
    return false;
  }
  for (int dim = 0; dim < 3; ++dim) {
    g.size[dim] = g.out[dim] = g.kernel[dim] = g.stride[dim] = 1;
    g.padding[dim] = 0;
  }
  for (size_t i = 0; i < rank; ++i) {
    const int64_t n = size[i], k = w.kernel[i], s = w.stride[i], p = w.padding[i];
    if (n < 1 || k < 1 || s < 1 || p < 0 || 2 * p > k || n > kMostItems / 2 ||
        k > kMostItems / 2 || s > kMostItems / 2) {
      return false;
    }
    const int64_t room = n + 2 * p - k + (w.ceil_mode ? s - 1 : 0);
    if (room < 0) return false;
    int64_t out = room / s + 1;
    if (w.ceil_mode && (out - 1) * s >= n + p) --out;
    if (out < 1) return false;
    const size_t dim = 3 - rank + i;
    g.size[dim] = static_cast<int32_t>(n);
    g.out[dim] = static_cast<int32_t>(out);
    g.kernel[dim] = static_cast<int32_t>(k);
    g.stride[dim] = static_cast<int32_t>(s);
    g.padding[dim] = static_cast<int32_t>(p);
  }
  return true;
}

inline IntList space_of(const Tensor& t) {
  IntList space;
  for (int64_t i = 2; i < t.dim(); ++i) space.push_back(t.size(i));
  return space;
}
// The `rank` last of three sizes.
inline IntList last_of(const int32_t (&sizes)[3], size_t rank) {
  return IntList(sizes + 3 - rank, sizes + 3);
}
inline IntList mask_space(const Geometry& g, size_t rank) {
  IntList space = last_of(g.out, rank);
  for (size_t i = 0; i < rank; ++i) space[i] *= g.kernel[3 - rank + i];
  return space;
}

// Whether `t` goes with `like`: (N, C, *space) of its type, on its device.
inline bool fits(const Tensor& t, const Tensor& like, const IntList& space) {
  return is_here(t) && t.scalar_type() == like.scalar_type() &&
         device_index(t) == device_index(like) && t.dim() == like.dim() &&
         t.size(0) == like.size(0) && t.size(1) == like.size(1) && space_of(t) == space;
}
inline bool fits(const std::optional<Tensor>& t, const Tensor& like, const IntList& space) {
  return !t.has_value() || fits(*t, like, space);
}
inline bool broadcasts(const Tensor& beta, const Tensor& like, const IntList& out) {
  if (!is_here(beta) || beta.scalar_type() != like.scalar_type() || beta.dim() != like.dim() ||
      device_index(beta) != device_index(like)) {
    return false;
  }
  for (int64_t i = 0; i < beta.dim(); ++i) {
    const int64_t full = i < 2 ? like.size(i) : out[i - 2];
    if (beta.size(i) != 1 && beta.size(i) != full) return false;
  }
  return true;
}

// The format that results keep: `is_channels_last` in ops/geometry.py.
inline bool is_channels_last(const Tensor& t) {
  return !t.is_contiguous() && t.dim() > 3 && t.size(1) > 1 && t.stride(1) == 1;
}

inline Tensor new_strided(const Tensor& like, const IntList& sizes, const IntList& strides,
                          int32_t type) {
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), type, device_type(),
      device_index(like), &handle));
  const Tensor result(handle);
  poison(result.data_ptr(), result.numel() * static_cast<int64_t>(result.element_size()));
  return result;
}

// (N, C, *space) of `like`, dense.
inline Tensor new_tensor(const Tensor& like, const IntList& space, bool channels_last,
                         int32_t type) {
  IntList sizes{like.size(0), like.size(1)};
  sizes.insert(sizes.end(), space.begin(), space.end());
  IntList strides(sizes.size());
  int64_t step = channels_last ? sizes[1] : 1;
  for (size_t i = sizes.size() - 1; i >= 2; --i) {
    strides[i] = step;
    step *= sizes[i];
  }
  strides[1] = channels_last ? 1 : step;
  strides[0] = channels_last ? step : step * sizes[1];
  return new_strided(like, sizes, strides, type);
}

struct Launcher {
  void* stream;

  void run(const Launch& launch, const Problem& p, int64_t items) const {
    const auto queue = launch.type == Type::kFloat      ? launch_float32
                       : launch.type == Type::kHalf     ? launch_float16
                       : launch.type == Type::kBfloat16 ? launch_bfloat16
                                                        : launch_float64;
    check(queue(launch, p, items, stream));
  }
  void sum(Type type, const SumProblem& p, int64_t items) const {
    check(launch_sum(type, p, items, stream));
  }
  static void check(int error) {
    STD_TORCH_CHECK(error == 0, "adapool's CUDA kernel failed: ", error_string(error));
  }
};

// One call: what goes in, what comes out, and run(). `like` has the type, the device, N and C.
class Request {
 public:
  Request(Operation operation, Weighting weighting, const Tensor& like, const Geometry& geometry)
      : like_(like), rank_(static_cast<size_t>(like.dim() - 2)) {
    call_ = Call{};
    call_.operation = operation;
    call_.weighting = weighting;
    supported_ = type_of(like, call_.type);
    call_.most_items = most_items();
    Problem& p = call_.problem;
    p.geometry = geometry;
    p.batch = static_cast<int32_t>(like.size(0));
    p.channels = static_cast<int32_t>(like.size(1));
    p.channels_last = is_channels_last(like);
    p.weight_grad = true;
    p.pairs = has_pairs(geometry, call_.type);
    p.rule = {false, false, 1.0};
    p.gain = 1.0;
  }
  // Whether the kernels can do it: types, and sizes that 32 bits can number.
  bool supported() const {
    return supported_ && like_.size(0) <= kMostItems && like_.size(1) <= kMostItems &&
           Planner(call_).supported();
  }
  Problem& problem() { return call_.problem; }

  void in(Role role, const Tensor& t) {
    // Strides of a dimension of size 1 say nothing, and beta is broadcast there.
    const auto stride = [&t](int64_t i) { return t.size(i) == 1 ? 0 : t.stride(i); };
    Map& map = call_.problem.maps[role];
    map = {t.data_ptr(), stride(0), stride(1), {0, 0, 0}};
    for (size_t i = 0; i < rank_; ++i) {
      map.space[3 - rank_ + i] = stride(static_cast<int64_t>(i) + 2);
    }
  }
  void in(Role role, const std::optional<Tensor>& t) {
    if (t.has_value()) in(role, *t);
  }
  void beta(const Tensor& t) {
    in(kBeta, t);
    for (int64_t i = 2; i < t.dim(); ++i) call_.problem.beta_varies |= t.size(i) > 1;
  }
  Tensor out(Role role, const IntList& space, const Tensor& format) {
    const Tensor t = new_tensor(like_, space, is_channels_last(format), torch_type(call_.type));
    in(role, t);
    return t;
  }
  // The gradient of beta as the schemas want it: a map where beta varies over space, else sums over
  // it.
  Tensor beta_gradient() {
    const bool varies = call_.problem.beta_varies;
    const int32_t type =
        call_.type == Type::kDouble ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32();
    const IntList space = varies ? last_of(call_.problem.geometry.out, rank_) : IntList(rank_, 1);
    const Tensor t = new_tensor(like_, space, false, type);
    call_.beta_gradient = true;
    if (varies) {
      in(kGradBeta, t);
    } else {
      call_.beta_sums = t.data_ptr();
    }
    return t;
  }

  // Queues the kernels on the current stream of the tensors' device; waits for nothing.
  void run() {
    const Queue queue(like_);
    const Launcher launcher{queue.stream};
    const Planner plan(call_);
    const int64_t bytes = plan.workspace();
    char* workspace = nullptr;
    // Of torch's allocator, which gives memory back in the order of the stream.
    std::optional<Tensor> memory;
    if (bytes > 0) {
      memory = new_strided(like_, {bytes}, {1}, aoti_torch_dtype_uint8());
      workspace = static_cast<char*>(memory->data_ptr());
    }
    plan.run(workspace, launcher);
  }

 private:
  const Tensor& like_;
  size_t rank_;
  bool supported_;
  Call call_;
};

// A first look at a map: (N, C, *space) with something in it, where the kernels run.
inline bool is_map(const Tensor& t) {
  return is_here(t) && t.dim() >= 3 && t.dim() <= 5 && t.numel() > 0;
}

}  // namespace adapool::cuda
