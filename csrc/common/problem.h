// What a kernel is told: plain data shared by the host code, which knows torch, and the inner code,
// which is compiled once per instruction set and must not (see cpu/kernels.cpp).
#pragma once

#include <cstdint>

namespace adapool {

enum class Type { kFloat, kDouble, kBFloat16, kHalf };

// How a tensor with one value for each position of each window lies.
enum class Lie {
  kMap,     // as an image; windows may share positions
  kShared,  // the same, each position divided by the number of its windows where gain is "area"
  kMask,    // window by window
};

// beta by strides in elements; 0 where it is broadcast.
struct Beta {
  const void* data = nullptr;
  int64_t batch = 0;
  int64_t channel = 0;
  int64_t space[3] = {0, 0, 0};
};

constexpr int kMaxWindows = 3;  // maps with one value a position: x, masks, their gradients

// One call over windows of three dimensions; fewer come as ones of size 1 in front. All tensors are
// dense, contiguous (N, C, *space) or, all of them, channels_last.
struct Problem {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t size[3] = {1, 1, 1};  // the input's
  int64_t out[3] = {1, 1, 1};   // windows along each dimension
  int64_t kernel[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1};
  int64_t padding[3] = {0, 0, 0};
  bool channels_last = false;
  Type type = Type::kFloat;
  // A factor of unpooling; 0 stands for "area".
  double gain = 0.0;
  bool weight_grad = true;  // whether the weights are differentiated or held constant
  bool drop = false;        // of IDW
  bool huber = false;
  double delta = 1.0;

  void* windows_in[kMaxWindows] = {};
  void* cell_in = nullptr;  // y or its gradient, one value a window
  void* windows_out[2] = {};
  void* cell_out = nullptr;
  Beta beta;
  // The gradient of beta, float or double as it is computed: a map of cells, or sums over each row of
  // windows laid out (N, rows, C), which the host adds up. At most one of the two is set.
  void* beta_map = nullptr;
  void* beta_rows = nullptr;

  // Inlined always: a copy of its own could be that of another instruction set (see vector.h).
  __attribute__((always_inline)) int64_t planes() const { return channels_last ? batch : batch * channels; }
  // 2x2 windows of stride 2 without padding over images, which have a walk of their own; the last row
  // or column of windows may stick out (ceil_mode), or the input's last may lie in no window.
  __attribute__((always_inline)) bool is_2x2() const {
    return (type == Type::kFloat || type == Type::kBFloat16) && size[0] == 1 && kernel[0] == 1 && padding[0] == 0 &&
           kernel[1] == 2 && kernel[2] == 2 && stride[1] == 2 && stride[2] == 2 && padding[1] == 0 &&
           padding[2] == 0;
  }
};

// The enlarged input plus the residual, see common/enlarge.h. Work is shared out by rows of the input,
// (n, row).
constexpr int kMaxEnlargement = 8;
constexpr int kMaxEnlargedChannels = 3 * kMaxEnlargement * kMaxEnlargement;

struct Enlargement {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t scale = 0;
  bool channels_last = false;  // of the residual
  bool bfloat16 = false;       // of the residual
  const float* lr = nullptr;   // (N, C, H, W), contiguous
  const void* residual = nullptr;  // (N, C·scale², H, W), dense
  const float* taps = nullptr;     // (scale, 5)
  float* out = nullptr;            // (N, C, scale·H, scale·W), contiguous

  __attribute__((always_inline)) int64_t work_rows() const { return batch * height; }
};

}  // namespace adapool
