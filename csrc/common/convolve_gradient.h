// The gradient of a 3x3 convolution's weights, the convolution backwards (convolve.h): patches of the input
// and tiles of the result's gradient to the 36 points, products of matrices summed up over the tiles, and
// the sums back to 3x3 filters.
#pragma once

#include "convolve.h"

namespace adapool::ADAPOOL_ISA {

// Channels of the input whose sums stay in registers, a divisor of kLanes.
#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int kGradientSums = 8;
#else
constexpr int kGradientSums = 4;
#endif

ADAPOOL_INLINE void gradient_points(const Vec (&y)[kTile], Vec (&m)[kPatch]) {
  const Vec even = y[0] + y[2];
  const Vec odd = y[1] + y[3];
  const Vec far_even = fma(splat(4.0F), y[2], y[0]);
  const Vec far_odd = splat(2.0F) * fma(splat(4.0F), y[3], y[1]);
  m[0] = y[0];
  m[1] = even + odd;
  m[2] = even - odd;
  m[3] = far_even + far_odd;
  m[4] = far_even - far_odd;
  m[5] = y[3];
}

// A tile of the result's gradient at the points; outside the map it is 0.
ADAPOOL_APART void load_gradient(const Convolution& p, Tile tile, float* points) {
  const int64_t rows = p.height - tile.row;
  const int64_t columns = p.width - tile.column;
  const float* from =
      p.grad + ((tile.n * p.height + tile.row) * p.width + tile.column) * p.out;
  for (int64_t c = 0; c < p.out; c += kLanes, points += kPointsSize) {
    Vec half[kPatch][kTile];
    ADAPOOL_UNROLL for (int j = 0; j < kTile; ++j) {
      Vec y[kTile];
      Vec m[kPatch];
      ADAPOOL_UNROLL for (int i = 0; i < kTile; ++i) {
        const bool inside = i < rows && j < columns;
        y[i] = inside ? load_part(from + (i * p.width + j) * p.out + c, p.out - c) : Vec{};
      }
      gradient_points(y, m);
      ADAPOOL_UNROLL for (int i = 0; i < kPatch; ++i) half[i][j] = m[i];
    }
    ADAPOOL_UNROLL for (int i = 0; i < kPatch; ++i) {
      Vec m[kPatch];
      gradient_points(half[i], m);
      ADAPOOL_UNROLL for (int j = 0; j < kPatch; ++j) {
        store(points + (i * kPatch + j) * kLanes, m[j]);
      }
    }
  }
}

// At one point sums (in, out) += v (tiles, in)ᵀ · d (tiles, out), for kGradientSums channels of in and
// kColumns vectors of out.
template <int kColumns>
ADAPOOL_APART void accumulate(const float* v, int64_t v_step, const float* d, int64_t d_step,
                               int64_t tiles, float* sums, int64_t out) {
  Vec sum[kGradientSums][kColumns];
  ADAPOOL_UNROLL_ALL for (int r = 0; r < kGradientSums; ++r) {
    ADAPOOL_UNROLL_ALL for (int j = 0; j < kColumns; ++j) {
      sum[r][j] = load(sums + r * out + j * kLanes);
    }
  }
  for (int64_t i = 0; i < tiles; ++i, v += v_step, d += d_step) {
    Vec b[kColumns];
    ADAPOOL_UNROLL_ALL for (int j = 0; j < kColumns; ++j) b[j] = load(d + j * kPointsSize);
    ADAPOOL_UNROLL_ALL for (int r = 0; r < kGradientSums; ++r) {
      const Vec a = broadcast(v + r);
      ADAPOOL_UNROLL_ALL for (int j = 0; j < kColumns; ++j) sum[r][j] = fma(a, b[j], sum[r][j]);
    }
  }
  ADAPOOL_UNROLL_ALL for (int r = 0; r < kGradientSums; ++r) {
    ADAPOOL_UNROLL_ALL for (int j = 0; j < kColumns; ++j) {
      store(sums + r * out + j * kLanes, sum[r][j]);
    }
  }
}

// Shares [begin, end) of the sums at the points.
inline void gradient_blocks(const Convolution& p, int64_t begin, int64_t end) {
  const int64_t out = vectors(p.out) * kLanes;
  const int64_t in = vectors(p.in) * kLanes;
  const int64_t v_step = vectors(p.in) * kPointsSize;
  const int64_t d_step = vectors(p.out) * kPointsSize;
  const int64_t size = p.block() * (v_step + d_step) + kTilePoints * p.in + 16;
  float* memory = static_cast<float*>(__builtin_calloc(size, sizeof(float)));
  float* v = memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64 / sizeof(float);
  float* d = v + p.block() * v_step;
  float* edge = d + p.block() * d_step;
  for (int64_t share = begin; share < end; ++share) {
    float* sums = p.sums + share * p.share_size();
    float* bias = sums + kTilePoints * in * out;
    const int64_t last = (share + 1) * p.blocks() / p.shares();
    for (int64_t block = share * p.blocks() / p.shares(); block < last; ++block) {
      const int64_t first = block * p.block();
      const int64_t tiles = p.tiles() - first < p.block() ? p.tiles() - first : p.block();
      Tile tile = tile_at(p, first);
      for (int64_t i = 0; i < tiles; ++i, to_next(p, tile)) {
        load_patch<0>(p, tile, edge, v + i * v_step);
        load_gradient(p, tile, d + i * d_step);
        // The point at 1, 1 is the sum of the tile.
        for (int64_t c = 0; c < out; c += kLanes) {
          const float* point = d + i * d_step + c / kLanes * kPointsSize + (kPatch + 1) * kLanes;
          store(bias + c, load(bias + c) + load(point));
        }
      }
      for (int point = 0; point < kTilePoints; ++point) {
        for (int64_t k = 0; k < in; k += kGradientSums) {
          const float* left = v + k / kLanes * kPointsSize + point * kLanes + k % kLanes;
          const float* right = d + point * kLanes;
          float* to = sums + (point * in + k) * out;
          int64_t c = 0;
          for (; c + kVectors * kLanes <= out; c += kVectors * kLanes) {
            accumulate<kVectors>(left, v_step, right, d_step, tiles, to + c, out);
            right += kVectors * kPointsSize;
          }
          if (c < out) accumulate<1>(left, v_step, right, d_step, tiles, to + c, out);
        }
      }
    }
  }
  __builtin_free(memory);
}

ADAPOOL_INLINE void filter_gradient(const float* u, int64_t stride, float* g) {
  const float near = u[stride] + u[2 * stride];
  const float far = u[3 * stride] + u[4 * stride];
  g[0] = u[0] * 0.25F - near * (1.0F / 6) + far * (1.0F / 24);
  g[1] = (u[2 * stride] - u[stride]) * (1.0F / 6) + (u[3 * stride] - u[4 * stride]) * (1.0F / 12);
  g[2] = (far - near) * (1.0F / 6) + u[5 * stride];
}

// The shares' sums back to the gradients of weight and bias.
inline void gradient_filters(const Convolution& p) {
  const int64_t out = vectors(p.out) * kLanes;
  const int64_t in = vectors(p.in) * kLanes;
  const int64_t used = (kTilePoints * in + 1) * out;
  for (int64_t share = 1; share < p.shares(); ++share) {
    const float* more = p.sums + share * p.share_size();
    for (int64_t i = 0; i < used; i += kLanes) store(p.sums + i, load(p.sums + i) + load(more + i));
  }
  for (int64_t c = 0; c < p.in; ++c) {
    for (int64_t k = 0; k < p.out; ++k) {
      const float* points = p.sums + c * out + k;
      float* weight = p.grad_weight + (k * p.in + c) * 9;
      float half[kPatch][3];
      float column[3];
      for (int i = 0; i < kPatch; ++i) {
        filter_gradient(points + i * kPatch * in * out, in * out, half[i]);
      }
      for (int j = 0; j < 3; ++j) {
        filter_gradient(&half[0][j], 3, column);
        for (int i = 0; i < 3; ++i) weight[i * 3 + j] = column[i];
      }
    }
  }
  for (int64_t k = 0; k < p.out; ++k) p.grad_bias[k] = p.sums[kTilePoints * in * out + k];
}

}  // namespace adapool::ADAPOOL_ISA
