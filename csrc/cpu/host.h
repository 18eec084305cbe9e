// What the operators share on the side of torch: which calls are ours, memory formats, allocation, and
// the way to the reference for everything else. Stable ABI only.
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels.h"

namespace adapool {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using IntList = std::vector<int64_t>;

enum class Format { kContiguous, kChannelsLast };

inline bool has_kernels(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::BFloat16;
}

inline bool is_2x2(const IntList& kernel, const IntList& stride, const IntList& padding) {
  const IntList two{2, 2};
  return kernel == two && stride == two && padding == IntList{0, 0};
}

inline bool fits(const Tensor& t, const Tensor& like) {
  return t.dim() == 4 && t.scalar_type() == like.scalar_type() && t.is_cpu();
}

inline bool fits(const std::optional<Tensor>& t, const Tensor& like) {
  return !t.has_value() || fits(*t, like);
}

// Number of windows along a side: the last one starts inside the image.
inline int64_t window_count(int64_t size, bool ceil_mode) {
  return ceil_mode ? (size + 1) / 2 : size / 2;
}

inline bool has_shape(const Tensor& t, const Tensor& like, int64_t rows, int64_t cols) {
  return t.size(0) == like.size(0) && t.size(1) == like.size(1) && t.size(2) == rows &&
         t.size(3) == cols;
}

// The format that results keep: `memory_format_of` in ops/geometry.py.
inline Format format_of(const Tensor& t) {
  if (t.is_contiguous() || t.size(1) == 1 || t.stride(1) != 1) return Format::kContiguous;
  return Format::kChannelsLast;
}

inline std::array<int64_t, 4> dense_strides(const std::array<int64_t, 4>& s, Format format) {
  if (format == Format::kContiguous) return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
  return {s[1] * s[2] * s[3], 1, s[3] * s[1], s[1]};
}

inline std::array<int64_t, 4> sizes_of(const Tensor& t) {
  const auto s = t.sizes();
  return {s[0], s[1], s[2], s[3]};
}

// Fresh memory is handed out page by page at its first touch, which for a large result takes longer
// than the arithmetic: 2 MiB pages, where the system leaves the choice, take a small part of that.
inline void ask_for_huge_pages(const Tensor& t) {
#ifdef __linux__
  constexpr uintptr_t kPage = uintptr_t{1} << 21;
  const size_t bytes = static_cast<size_t>(t.numel()) * t.element_size();
  if (bytes < 4 * kPage) return;
  const auto begin = reinterpret_cast<uintptr_t>(t.data_ptr());
  const uintptr_t first = (begin + kPage - 1) & ~(kPage - 1);
  const uintptr_t last = (begin + bytes) & ~(kPage - 1);
  // Advice: where it is refused nothing is lost.
  (void)madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

inline Tensor new_tensor(const std::array<int64_t, 4>& sizes, Format format, ScalarType type) {
  const auto strides = dense_strides(sizes, format);
  AtenTensorHandle handle = nullptr;
  const int32_t dtype =
      type == ScalarType::Float ? aoti_torch_dtype_float32() : aoti_torch_dtype_bfloat16();
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      4, sizes.data(), strides.data(), dtype, aoti_torch_device_type_cpu(), 0, &handle));
  Tensor result(handle);
  ask_for_huge_pages(result);
  return result;
}

// The tensor itself if it is dense in `format`, else a copy: the kernels read dense maps of one format.
inline Tensor in_format(const Tensor& t, Format format) {
  const auto sizes = sizes_of(t);
  const auto wanted = dense_strides(sizes, format);
  const auto strides = t.strides();
  bool dense = true;
  for (int i = 0; i < 4; ++i) dense = dense && (sizes[i] == 1 || strides[i] == wanted[i]);
  if (dense) return t;
  Tensor copy = new_tensor(sizes, format, t.scalar_type());
  torch::stable::copy_(copy, t);
  return copy;
}

inline Map map_of(const Tensor& t) { return {t.data_ptr(), t.size(2), t.size(3)}; }

// beta (1|N, 1|C, 1|oH, 1|oW), read by strides.
inline Beta beta_of(const Tensor& beta) {
  const auto stride = [&beta](int dim) { return beta.size(dim) == 1 ? 0 : beta.stride(dim); };
  return {beta.data_ptr(), stride(0), stride(1), stride(2), stride(3)};
}

inline bool varies_over_space(const Tensor& beta) { return beta.size(2) > 1 || beta.size(3) > 1; }

inline bool broadcasts(const Tensor& beta, const Tensor& like, int64_t rows, int64_t cols) {
  const std::array<int64_t, 4> full{like.size(0), like.size(1), rows, cols};
  for (int i = 0; i < 4; ++i) {
    if (beta.size(i) != 1 && beta.size(i) != full[i]) return false;
  }
  return true;
}

inline Problem problem_for(const Tensor& like, Format format, int64_t height, int64_t width,
                           int64_t out_height, int64_t out_width) {
  Problem p;
  p.batch = like.size(0);
  p.channels = like.size(1);
  p.height = height;
  p.width = width;
  p.out_height = out_height;
  p.out_width = out_width;
  p.channels_last = format == Format::kChannelsLast;
  p.bfloat16 = like.scalar_type() == ScalarType::BFloat16;
  return p;
}

// Shares the rows out among torch's threads. Which thread computes a row makes no difference to it.
inline void run(Kernel kernel, const Problem& problem) {
  const int64_t rows = problem.work_rows();
  const int64_t windows = problem.batch * problem.channels * problem.out_height * problem.out_width;
  const int64_t grain = 4096 * rows / (windows > 0 ? windows : 1) + 1;  // 4096 windows: ~10 µs
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    kernel(problem, begin, end);
  });
}

// The gradient of beta as the schemas want it: (N, C, oH, oW) where beta varies over space, else
// (N, C, 1, 1), float32 and contiguous.
class BetaGradient {
 public:
  BetaGradient(const Tensor& beta, Format format, Problem& problem)
      : map_(varies_over_space(beta)) {
    const int64_t n = problem.batch;
    const int64_t c = problem.channels;
    buffer_ = map_ ? new_tensor({n, c, problem.out_height, problem.out_width}, format,
                                ScalarType::Float)
                   : new_tensor({n, problem.out_height, c, 1}, Format::kContiguous,
                                ScalarType::Float);
    float* data = static_cast<float*>(buffer_.mutable_data_ptr());
    (map_ ? problem.beta_map : problem.beta_rows) = data;
  }

  // After the kernel has run.
  Tensor result(const Problem& problem) const {
    if (map_) return in_format(buffer_, Format::kContiguous);
    Tensor sums = new_tensor({problem.batch, problem.channels, 1, 1}, Format::kContiguous,
                             ScalarType::Float);
    float* out = static_cast<float*>(sums.mutable_data_ptr());
    const float* rows = problem.beta_rows;
    for (int64_t n = 0; n < problem.batch; ++n) {
      for (int64_t c = 0; c < problem.channels; ++c) {
        double sum = 0.0;
        for (int64_t oh = 0; oh < problem.out_height; ++oh) {
          sum += rows[(n * problem.out_height + oh) * problem.channels + c];
        }
        out[n * problem.channels + c] = static_cast<float>(sum);
      }
    }
    return sums;
  }

 private:
  bool map_;
  Tensor buffer_;
};

// Runs the operator of the same name that is the reference alone (ops/library.py).
template <size_t kResults, class... Arguments>
auto reference(const char* name, const Arguments&... arguments) {
  constexpr size_t kSize =
      sizeof...(Arguments) > kResults ? sizeof...(Arguments) : kResults;
  std::array<StableIValue, kSize> stack{torch::stable::detail::from(arguments)...};
  const std::string full_name = std::string("adapool_reference::") + name;
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher(full_name.c_str(), "", stack.data(), TORCH_ABI_VERSION));
  const auto take = [&stack](size_t i) { return torch::stable::detail::to<Tensor>(stack[i]); };
  if constexpr (kResults == 1) {
    return take(0);
  } else if constexpr (kResults == 2) {
    return std::make_tuple(take(0), take(1));
  } else if constexpr (kResults == 3) {
    return std::make_tuple(take(0), take(1), take(2));
  } else {
    return std::make_tuple(take(0), take(1), take(2), take(3));
  }
}

}  // namespace adapool
