// What a kernel is told: plain data shared by the host code, which knows torch, and the inner code,
// which is compiled once per instruction set and must not (see cpu/kernels.cpp).
#pragma once

#include <cstdint>

namespace adapool {

// A dense tensor (N, C, rows, cols), contiguous or channels_last as its Problem says.
struct Map {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
};

// beta by strides in elements; 0 where it is broadcast.
struct Beta {
  const void* data = nullptr;
  int64_t batch = 0;
  int64_t channel = 0;
  int64_t row = 0;
  int64_t col = 0;
};

constexpr int kMaxWindows = 3;  // maps with one value a pixel: x, masks, their gradients
constexpr int kMaxCells = 2;    // maps with one value a window: y, its gradient

// One call over 2x2 windows of stride 2 without padding. `height` and `width` are the input's; the
// last row or column of windows may stick out (ceil_mode), or the input's last may lie in no window.
struct Problem {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t out_height = 0;
  int64_t out_width = 0;
  bool channels_last = false;
  bool bfloat16 = false;
  // A factor of unpooling; 0 stands for "area", the number of pixels in the window.
  float gain = 0.0F;
  // Whether the weights are differentiated or held constant.
  bool weight_grad = true;

  Map windows_in[kMaxWindows];
  Map cells_in[kMaxCells];
  Map windows_out[kMaxWindows];
  Map cells_out[1];
  Beta beta;
  // The gradient of beta, always float32: a map of cells, or sums over each row of windows laid out
  // (N, out_height, C), which the host adds up. At most one of the two is set.
  float* beta_map = nullptr;
  float* beta_rows = nullptr;

  // Work is shared out by rows of windows, (n, oh) or (n, c, oh): nothing is written by two threads.
  int64_t work_rows() const { return batch * out_height * (channels_last ? 1 : channels); }
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

  int64_t work_rows() const { return batch * height; }
};

}  // namespace adapool
