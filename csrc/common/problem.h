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

// A 3x3 convolution that keeps the size, see common/convolve.h. Work is shared out by blocks of tiles of
// kTile x kTile results, counted through the batch.
constexpr int kTile = 4;
constexpr int kTilePoints = (kTile + 2) * (kTile + 2);

struct Convolution {
  int64_t batch = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t in = 0;   // channels
  int64_t out = 0;  // channels
  bool relu = false;
  const float* x = nullptr;       // (N, H, W, in)
  const float* weight = nullptr;  // (out, in, 3, 3), contiguous
  const float* bias = nullptr;    // (out), or none
  const float* add = nullptr;     // (N, H, W, out), or none: is added before the ReLU
  float* filters = nullptr;       // kTilePoints · in · out, out rounded up to 16: the weights, transformed
  float* y = nullptr;             // (N, H, W, out)
  // For the weights' gradient, which reads x too:
  const float* grad = nullptr;  // of y, (N, H, W, out)
  float* sums = nullptr;        // (shares, share_size()), zeros at first
  float* grad_weight = nullptr;  // (out, in, 3, 3)
  float* grad_bias = nullptr;    // (out)

  __attribute__((always_inline)) int64_t across() const { return (width + kTile - 1) / kTile; }
  __attribute__((always_inline)) int64_t down() const { return (height + kTile - 1) / kTile; }
  __attribute__((always_inline)) int64_t tiles() const { return batch * across() * down(); }
  // Tiles of a block: what lies between the transforms shall stay in the second cache.
  __attribute__((always_inline)) int64_t block() const {
    const int64_t fit = 256 * 1024 / (4 * kTilePoints * (in + out)) / 12 * 12;
    return fit < 12 ? 12 : fit > 48 ? 48 : fit;
  }
  __attribute__((always_inline)) int64_t blocks() const { return (tiles() + block() - 1) / block(); }
  // The gradient is summed up in so many parts, whatever the number of threads: it must not depend on it.
  __attribute__((always_inline)) int64_t shares() const { return blocks() < 16 ? blocks() : 16; }
  __attribute__((always_inline)) int64_t share_size() const {
    const int64_t in_room = (in + 15) / 16 * 16;
    const int64_t out_room = (out + 15) / 16 * 16;
    return (kTilePoints * in_room + 1) * out_room;
  }
};

}  // namespace adapool
