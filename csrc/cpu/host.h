// What the operators share on the side of torch: which calls are ours, memory formats and allocation.
// Stable ABI only.
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "../common/reference.h"
#include "../common/shares.h"
#include "kernels.h"

namespace adapool {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using IntList = std::vector<int64_t>;

enum class Format { kContiguous, kChannelsLast };

inline bool is_float(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 ||
         type == ScalarType::Half;
}

inline Type type_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return Type::kDouble;
    case ScalarType::BFloat16: return Type::kBFloat16;
    case ScalarType::Half: return Type::kHalf;
    default: return Type::kFloat;
  }
}

// What half precisions are computed in, the others being that themselves.
inline ScalarType computed(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline bool fits(const Tensor& t, const Tensor& like) {
  return t.dim() == like.dim() && t.scalar_type() == like.scalar_type() && t.is_cpu();
}

inline bool fits(const std::optional<Tensor>& t, const Tensor& like) {
  return !t.has_value() || fits(*t, like);
}

// The format that results keep: `is_channels_last` in ops/geometry.py.
inline Format format_of(const Tensor& t) {
  if (t.dim() < 4 || t.is_contiguous() || t.size(1) == 1 || t.stride(1) != 1) {
    return Format::kContiguous;
  }
  return Format::kChannelsLast;
}

constexpr int kMaxDims = 5;

// Sizes of a tensor, or its strides.
struct Shape {
  int64_t of[kMaxDims];
  int dims;
};

inline Shape shape_of(const Tensor& t) {
  Shape s{{}, static_cast<int>(t.dim())};
  for (int i = 0; i < s.dims; ++i) s.of[i] = t.size(i);
  return s;
}

inline Shape dense_strides(const Shape& s, Format format) {
  Shape strides{{}, s.dims};
  const bool last = format == Format::kChannelsLast;
  int64_t step = last ? s.of[1] : 1;
  for (int i = s.dims - 1; i >= (last ? 2 : 1); --i) {
    strides.of[i] = step;
    step *= s.of[i];
  }
  if (last) strides.of[1] = 1;
  strides.of[0] = step;
  return strides;
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

inline Tensor new_tensor(const Shape& sizes, Format format, ScalarType type) {
  const Shape strides = dense_strides(sizes, format);
  AtenTensorHandle handle = nullptr;
  const int32_t dtype = type == ScalarType::Float      ? aoti_torch_dtype_float32()
                        : type == ScalarType::Double   ? aoti_torch_dtype_float64()
                        : type == ScalarType::BFloat16 ? aoti_torch_dtype_bfloat16()
                                                       : aoti_torch_dtype_float16();
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      sizes.dims, sizes.of, strides.of, dtype, aoti_torch_device_type_cpu(), 0, &handle));
  Tensor result(handle);
  ask_for_huge_pages(result);
  return result;
}

// The tensor itself if it is dense in `format`, else a copy: the kernels read dense maps of one format.
inline Tensor in_format(const Tensor& t, Format format) {
  const Shape sizes = shape_of(t);
  const Shape wanted = dense_strides(sizes, format);
  bool dense = true;
  for (int i = 0; i < sizes.dims; ++i) {
    dense = dense && (sizes.of[i] == 1 || t.stride(i) == wanted.of[i]);
  }
  if (dense) return t;
  Tensor copy = new_tensor(sizes, format, t.scalar_type());
  torch::stable::copy_(copy, t);
  return copy;
}

// beta, each dimension 1 or the output's size, read by strides.
inline Beta beta_of(const Tensor& beta) {
  const int dims = static_cast<int>(beta.dim());
  const auto stride = [&beta](int dim) { return beta.size(dim) == 1 ? 0 : beta.stride(dim); };
  Beta b{beta.data_ptr(), stride(0), stride(1), {0, 0, 0}};
  for (int i = 2; i < dims; ++i) b.space[3 - dims + i] = stride(i);
  return b;
}

inline bool varies_over_space(const Tensor& beta) {
  for (int i = 2; i < static_cast<int>(beta.dim()); ++i) {
    if (beta.size(i) > 1) return true;
  }
  return false;
}

// The windows of a call and the problem but for its tensors; `valid` unless no kernel can run it.
struct Call {
  Problem p;
  int rank = 0;
  bool valid = false;
  Shape map, cells, mask;  // sizes of x, of y and of a mask

  // `like` is (N, C, …), `size` the input's space.
  Call(const Tensor& like, const int64_t* size, int64_t dims, const IntList& kernel,
       const IntList& stride, const IntList& padding, bool ceil_mode) {
    rank = static_cast<int>(kernel.size());
    if (rank < 1 || rank > 3 || dims != rank || like.dim() != rank + 2 ||
        stride.size() != kernel.size() || padding.size() != kernel.size() || !like.is_cpu() ||
        !is_float(like.scalar_type()) || like.numel() == 0) {
      return;
    }
    p.batch = like.size(0);
    p.channels = like.size(1);
    p.type = type_of(like);
    for (Shape* s : {&map, &cells, &mask}) *s = {{p.batch, p.channels}, rank + 2};
    for (int i = 0; i < rank; ++i) {
      const int64_t k = kernel[i], s = stride[i], pad = padding[i], n = size[i];
      if (k < 1 || s < 1 || pad < 0 || 2 * pad > k || n < 1) return;
      const int64_t room = n + 2 * pad - k + (ceil_mode ? s - 1 : 0);
      if (room < 0) return;
      int64_t count = room / s + 1;
      // The last window starts inside the input or its left padding.
      if (ceil_mode && (count - 1) * s >= n + pad) --count;
      if (count < 1) return;
      const int at = 3 - rank + i;
      p.size[at] = n;
      p.out[at] = count;
      p.kernel[at] = k;
      p.stride[at] = s;
      p.padding[at] = pad;
      map.of[2 + i] = n;
      cells.of[2 + i] = count;
      mask.of[2 + i] = count * k;
    }
    valid = true;
  }

  bool has(const Tensor& t, const Shape& shape) const {
    if (t.dim() != shape.dims) return false;
    for (int i = 0; i < shape.dims; ++i) {
      if (t.size(i) != shape.of[i]) return false;
    }
    return true;
  }
  bool broadcasts(const Tensor& beta) const {
    if (beta.dim() != cells.dims) return false;
    for (int i = 0; i < cells.dims; ++i) {
      if (beta.size(i) != 1 && beta.size(i) != cells.of[i]) return false;
    }
    return true;
  }
  void set(Format format) { p.channels_last = format == Format::kChannelsLast; }
};

inline bool scatters(Method method) {
  return method == kPoolBackward || method == kPoolMasksBackward;
}
inline bool scatters(UnpoolMethod method) {
  return method == kUnpool || method == kUnpoolSingle || method == kUnpoolLike ||
         method == kUnpoolLikeBackward;
}

// Shares the work out among torch's threads. Which thread does what makes no difference to it.
inline void run_shares(Kernel walk, Kernel general, bool scatters, const Problem& p) {
  const bool small = walk != nullptr && p.is_2x2();
  const int64_t units =
      small ? p.planes() * p.out[1] : baseline::Shares(p, scatters).units;
  const int64_t windows = p.batch * p.channels * p.out[0] * p.out[1] * p.out[2];
  const int64_t values = windows * p.kernel[0] * p.kernel[1] * p.kernel[2];
  const int64_t grain = 16384 * units / (values > 0 ? values : 1) + 1;  // 16384 values: ~10 µs
  const Kernel kernel = small ? walk : general;
  torch::stable::parallel_for(0, units, grain, [&](int64_t begin, int64_t end) {
    kernel(p, begin, end);
  });
}
inline void run(Weighting weighting, Method method, const Problem& p) {
  run_shares(kernels().walks->pool[weighting][method], kernels().general->pool[weighting][method],
             scatters(method), p);
}
inline void run(UnpoolMethod method, const Problem& p) {
  run_shares(kernels().walks->unpool[method], kernels().general->unpool[method], scatters(method),
             p);
}

// The gradient of beta as the schemas want it: (N, C, *out) where beta varies over space, else
// (N, C, 1, …), contiguous, float32 for half precisions.
class BetaGradient {
 public:
  BetaGradient(const Tensor& beta, Format format, Call& call) : map_(varies_over_space(beta)) {
    Problem& p = call.p;
    const ScalarType type = computed(beta.scalar_type());
    rows_ = p.out[0] * p.out[1];
    buffer_ = map_ ? new_tensor(call.cells, format, type)
                   : new_tensor({{p.batch, rows_, p.channels}, 3}, Format::kContiguous, type);
    (map_ ? p.beta_map : p.beta_rows) = buffer_.mutable_data_ptr();
    sums_ = {{p.batch, p.channels, 1, 1, 1}, call.rank + 2};
  }

  // After the kernel has run.
  Tensor result() const {
    if (map_) return in_format(buffer_, Format::kContiguous);
    Tensor sums = new_tensor(sums_, Format::kContiguous, buffer_.scalar_type());
    if (buffer_.scalar_type() == ScalarType::Double) {
      add_up<double>(sums);
    } else {
      add_up<float>(sums);
    }
    return sums;
  }

 private:
  template <class S>
  void add_up(Tensor& sums) const {
    const int64_t channels = sums_.of[1];
    S* out = static_cast<S*>(sums.mutable_data_ptr());
    const S* rows = static_cast<const S*>(buffer_.data_ptr());
    std::vector<double> sum(channels);
    for (int64_t n = 0; n < sums_.of[0]; ++n) {
      for (double& s : sum) s = 0.0;
      for (int64_t row = 0; row < rows_; ++row) {
        for (int64_t c = 0; c < channels; ++c) sum[c] += *rows++;
      }
      for (int64_t c = 0; c < channels; ++c) *out++ = static_cast<S>(sum[c]);
    }
  }

  bool map_;
  int64_t rows_;
  Shape sums_;
  Tensor buffer_;
};

}  // namespace adapool
