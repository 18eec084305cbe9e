// 3x3 convolution of channels_last maps by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, CVPR
// 2016): sixteen results of a tile take 36 multiplications a pair of channels instead of 144.
//
// A block of tiles at a time: input patches to the 36 points, a product of matrices at each point, and
// back to pixels, where bias, an addition and the ReLU cost nothing more. Between the steps a value lies
// at (tile, vector of channels, point, lane): what a transform touches lies side by side.
#pragma once

#include "problem.h"
#include "scalars.h"

namespace adapool::ADAPOOL_ISA {

constexpr int kPatch = kTile + 2;
constexpr int kPointsSize = kTilePoints * kLanes;  // of one vector of channels

// Sums that stay in registers: tiles times vectors of channels.
#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int kSums = 12;
#else
constexpr int kSums = 6;
#endif
constexpr int kFewSums = 2;
constexpr int kVectors = 2;

#define ADAPOOL_UNROLL_ALL _Pragma("GCC unroll 16")
// Once for all callers: inlined it would be compiled for each, and takes long.
#define ADAPOOL_APART static __attribute__((noinline))

ADAPOOL_INLINE int64_t vectors(int64_t channels) { return (channels + kLanes - 1) / kLanes; }

// The first `count` lanes, the others 0.
ADAPOOL_INLINE Vec load_part(const float* p, int64_t count) {
  if (count >= kLanes) return load(p);
  Vec v{};
  if (count == kLanes / 2) {
    __builtin_memcpy(&v, p, kLanes / 2 * sizeof(float));
  } else {
    for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  }
  return v;
}

ADAPOOL_INLINE void store_part(float* p, Vec v, int64_t count) {
  if (count >= kLanes) {
    store(p, v);
  } else if (count == kLanes / 2) {
    __builtin_memcpy(p, &v, kLanes / 2 * sizeof(float));
  } else {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
  }
}

// --- filters -------------------------------------------------------------------------------------

ADAPOOL_INLINE void filter_points(const float* g, int stride, float* out) {
  const float a = g[0];
  const float b = g[stride];
  const float c = g[2 * stride];
  const float sixth = (a + c) * (-1.0F / 6);
  const float even = a * (1.0F / 24) + c * (1.0F / 6);
  out[0] = a * 0.25F;
  out[1] = sixth - b * (1.0F / 6);
  out[2] = sixth + b * (1.0F / 6);
  out[3] = even + b * (1.0F / 12);
  out[4] = even - b * (1.0F / 12);
  out[5] = c;
}

// The weights at the 36 points, each a matrix (in, out), out filled up with zeros to whole vectors.
inline void convolve_filters(const Convolution& p) {
  const int64_t out = vectors(p.out) * kLanes;
  for (int64_t c = 0; c < p.in; ++c) {
    for (int64_t first = 0; first < out; first += kLanes) {
      float points[kTilePoints][kLanes] = {};
      for (int64_t k = first; k < p.out && k < first + kLanes; ++k) {
        const float* weight = p.weight + (k * p.in + c) * 9;
        float half[3][kPatch];
        float whole[kPatch];
        for (int j = 0; j < 3; ++j) filter_points(weight + j, 3, half[j]);
        for (int i = 0; i < kPatch; ++i) {
          filter_points(&half[0][i], kPatch, whole);
          for (int j = 0; j < kPatch; ++j) points[i * kPatch + j][k - first] = whole[j];
        }
      }
      for (int i = 0; i < kTilePoints; ++i) {
        store(p.filters + (i * p.in + c) * out + first, load(points[i]));
      }
    }
  }
}

// --- tiles ---------------------------------------------------------------------------------------

struct Tile {
  int64_t n, row, column;
};

ADAPOOL_INLINE Tile tile_at(const Convolution& p, int64_t number) {
  const int64_t plane = p.across() * p.down();
  const int64_t in_plane = number % plane;
  return {number / plane, in_plane / p.across() * kTile, in_plane % p.across() * kTile};
}

ADAPOOL_INLINE void to_next(const Convolution& p, Tile& tile) {
  tile.column += kTile;
  if (tile.column < p.width) return;
  tile.column = 0;
  tile.row += kTile;
  if (tile.row < p.height) return;
  tile.row = 0;
  ++tile.n;
}

// One row of a patch's points from six values, on their way across.
ADAPOOL_INLINE void store_points(const Vec (&d)[kPatch], float* points) {
  const Vec four = splat(4.0F);
  const Vec five = splat(5.0F);
  const Vec two = splat(2.0F);
  const Vec a = fnma(four, d[2], d[4]);
  const Vec b = fnma(four, d[1], d[3]);
  const Vec c = d[4] - d[2];
  const Vec e = d[3] - d[1];
  store(points, fnma(five, d[2], fma(four, d[0], d[4])));
  store(points + kLanes, a + b);
  store(points + 2 * kLanes, a - b);
  store(points + 3 * kLanes, fma(two, e, c));
  store(points + 4 * kLanes, fnma(two, e, c));
  store(points + 5 * kLanes, fnma(five, d[3], fma(four, d[1], d[5])));
}

// `count` channels of the patch around a tile, at its points. Down in pairs of rows, which have their terms
// in common: a pair stays in registers, all six rows would not.
ADAPOOL_INLINE void transform_patch(const float* const* rows, int64_t step, float* points,
                                    int64_t count) {
  const auto at = [&](int i, int j) ADAPOOL_LAMBDA { return load_part(rows[i] + j * step, count); };
  constexpr int kRow = kPatch * kLanes;
  const Vec four = splat(4.0F);
  const Vec five = splat(5.0F);
  const Vec two = splat(2.0F);
  Vec one[kPatch];
  Vec other[kPatch];
  ADAPOOL_UNROLL for (int j = 0; j < kPatch; ++j) {
    one[j] = fnma(five, at(2, j), fma(four, at(0, j), at(4, j)));
  }
  store_points(one, points);
  ADAPOOL_UNROLL for (int j = 0; j < kPatch; ++j) {
    const Vec a = fnma(four, at(2, j), at(4, j));
    const Vec b = fnma(four, at(1, j), at(3, j));
    one[j] = a + b;
    other[j] = a - b;
  }
  store_points(one, points + kRow);
  store_points(other, points + 2 * kRow);
  ADAPOOL_UNROLL for (int j = 0; j < kPatch; ++j) {
    const Vec a = at(4, j) - at(2, j);
    const Vec b = at(3, j) - at(1, j);
    one[j] = fma(two, b, a);
    other[j] = fnma(two, b, a);
  }
  store_points(one, points + 3 * kRow);
  store_points(other, points + 4 * kRow);
  ADAPOOL_UNROLL for (int j = 0; j < kPatch; ++j) {
    one[j] = fnma(five, at(3, j), fma(four, at(1, j), at(5, j)));
  }
  store_points(one, points + 5 * kRow);
}

// A tile's patch at its points; `edge` is room for a patch that reaches over the border. kIn: the
// channels, where they are known (0: not), which spares most of the arithmetic of addresses.
template <int kIn>
ADAPOOL_INLINE void load_patch(const Convolution& p, Tile tile, float* edge, float* points) {
  const int64_t in = kIn > 0 ? kIn : p.in;
  const int64_t top = tile.row - 1;
  const int64_t left = tile.column - 1;
  const int64_t begin = left < 0 ? 1 : 0;
  const int64_t end = left + kPatch > p.width ? p.width - left : kPatch;
  const bool inside = top >= 0 && top + kPatch <= p.height && begin == 0 && end == kPatch;
  const float* first = p.x + ((tile.n * p.height + top) * p.width + left) * in;
  const float* rows[kPatch];
  for (int i = 0; i < kPatch; ++i) {
    const float* row = first + i * p.width * in;
    if (!inside) {
      float* copy = edge + i * kPatch * in;
      __builtin_memset(copy, 0, kPatch * in * sizeof(float));
      if (top + i >= 0 && top + i < p.height) {
        __builtin_memcpy(copy + begin * in, row + begin * in, (end - begin) * in * sizeof(float));
      }
      row = copy;
    }
    rows[i] = row;
  }
  int64_t c = 0;
  for (; c + kLanes <= in; c += kLanes, points += kPointsSize) {
    transform_patch(rows, in, points, kLanes);
    ADAPOOL_UNROLL for (int i = 0; i < kPatch; ++i) rows[i] += kLanes;
  }
  if (c < in) transform_patch(rows, in, points, in - c);
}

// --- the products --------------------------------------------------------------------------------

// At one point m (tiles, out) = v (tiles, in) · u (in, out), for kRows tiles and kColumns vectors of out.
template <int kRows, int kColumns>
ADAPOOL_INLINE void multiply(const float* v, int64_t in, const float* u, int64_t out, float* m) {
  const int64_t v_step = vectors(in) * kPointsSize;
  const int64_t m_step = out / kLanes * kPointsSize;
  Vec sum[kRows][kColumns] = {};
  for (int64_t first = 0; first < in; first += kLanes, v += kPointsSize) {
    const int64_t count = in - first < kLanes ? in - first : kLanes;
    for (int64_t k = 0; k < count; ++k, u += out) {
      Vec b[kColumns];
      ADAPOOL_UNROLL_ALL for (int j = 0; j < kColumns; ++j) b[j] = load(u + j * kLanes);
      ADAPOOL_UNROLL_ALL for (int r = 0; r < kRows; ++r) {
        const Vec a = broadcast(v + r * v_step + k);
        ADAPOOL_UNROLL_ALL for (int j = 0; j < kColumns; ++j) sum[r][j] = fma(a, b[j], sum[r][j]);
      }
    }
  }
  ADAPOOL_UNROLL_ALL for (int r = 0; r < kRows; ++r) {
    ADAPOOL_UNROLL_ALL for (int j = 0; j < kColumns; ++j) {
      store(m + r * m_step + j * kPointsSize, sum[r][j]);
    }
  }
}

template <int kColumns>
ADAPOOL_APART void multiply_tiles(const float* v, int64_t in, const float* u, int64_t out, float* m,
                                   int64_t tiles) {
  const int64_t v_step = vectors(in) * kPointsSize;
  const int64_t m_step = out / kLanes * kPointsSize;
  int64_t r = 0;
  for (; r + kSums <= tiles; r += kSums) {
    multiply<kSums, kColumns>(v + r * v_step, in, u, out, m + r * m_step);
  }
  for (; r < tiles; r += kFewSums) {  // of an odd number, one tile too many: there is room
    multiply<kFewSums, kColumns>(v + r * v_step, in, u, out, m + r * m_step);
  }
}

// --- results -------------------------------------------------------------------------------------

// Where a tile's results go: `count` channels from y on, rows and columns inside the map; steps in floats.
struct Place {
  float* y;
  const float* add;
  int64_t row_step, step, rows, columns, count;
  Vec bias, least;
};

// A row of results from six values, on their way across.
template <bool kWhole>
ADAPOOL_INLINE void store_results(const Place& to, int64_t row, const Vec (&m)[kPatch]) {
  if (!kWhole && row >= to.rows) return;
  const Vec s = m[1] + m[2];
  const Vec d = m[1] - m[2];
  const Vec t = m[3] + m[4];
  const Vec e = m[3] - m[4];
  const Vec y[kTile] = {m[0] + s + t, fma(splat(2.0F), e, d), fma(splat(4.0F), t, s),
                        fma(splat(8.0F), e, d) + m[5]};
  ADAPOOL_UNROLL for (int j = 0; j < kTile; ++j) {
    if (!kWhole && j >= to.columns) return;
    const int64_t at = row * to.row_step + j * to.step;
    Vec sum = y[j] + to.bias;
    if (to.add != nullptr) sum = sum + load_part(to.add + at, to.count);
    store_part(to.y + at, larger(to.least, sum), to.count);
  }
}

// A tile's results from its points, kLanes channels of them; in pairs of rows as in transform_patch.
template <bool kWhole>
ADAPOOL_INLINE void transform_results(const Place& to, const float* points) {
  const auto at = [&](int i, int j) ADAPOOL_LAMBDA {
    return load(points + (i * kPatch + j) * kLanes);
  };
  Vec one[kPatch];
  Vec other[kPatch];
  ADAPOOL_UNROLL for (int j = 0; j < kPatch; ++j) {
    const Vec s = at(1, j) + at(2, j);
    const Vec t = at(3, j) + at(4, j);
    one[j] = at(0, j) + s + t;
    other[j] = fma(splat(4.0F), t, s);
  }
  store_results<kWhole>(to, 0, one);
  store_results<kWhole>(to, 2, other);
  ADAPOOL_UNROLL for (int j = 0; j < kPatch; ++j) {
    const Vec d = at(1, j) - at(2, j);
    const Vec e = at(3, j) - at(4, j);
    one[j] = fma(splat(2.0F), e, d);
    other[j] = fma(splat(8.0F), e, d) + at(5, j);
  }
  store_results<kWhole>(to, 1, one);
  store_results<kWhole>(to, 3, other);
}

template <int kOut>
ADAPOOL_INLINE void store_tile(const Convolution& p, Tile tile, const float* points) {
  const int64_t out = kOut > 0 ? kOut : p.out;
  const int64_t at = ((tile.n * p.height + tile.row) * p.width + tile.column) * out;
  Place to{p.y + at, p.add != nullptr ? p.add + at : nullptr, p.width * out, out,
           p.height - tile.row, p.width - tile.column, kLanes, Vec{},
           p.relu ? Vec{} : splat(-__builtin_inff())};
  const bool whole = to.rows >= kTile && to.columns >= kTile;
  for (int64_t c = 0; c < out; c += kLanes, points += kPointsSize) {
    to.count = out - c;
    if (p.bias != nullptr) to.bias = load_part(p.bias + c, to.count);
    if (whole && to.count >= kLanes) {
      to.count = kLanes;
      transform_results<true>(to, points);
    } else {
      transform_results<false>(to, points);
    }
    to.y += kLanes;
    if (to.add != nullptr) to.add += kLanes;
  }
}

// --- blocks --------------------------------------------------------------------------------------

template <int kIn, int kOut>
ADAPOOL_INLINE void convolve_some(const Convolution& p, int64_t begin, int64_t end) {
  const int64_t out = vectors(p.out) * kLanes;
  const int64_t v_step = vectors(p.in) * kPointsSize;
  const int64_t m_step = vectors(p.out) * kPointsSize;
  const int64_t room = p.block() + kFewSums;
  const int64_t size = room * (v_step + m_step) + kTilePoints * p.in + 16;
  float* memory = static_cast<float*>(__builtin_calloc(size, sizeof(float)));
  // To lines of the cache.
  float* v = memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64 / sizeof(float);
  float* m = v + room * v_step;
  float* edge = m + room * m_step;
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * p.block();
    const int64_t tiles = p.tiles() - first < p.block() ? p.tiles() - first : p.block();
    const Tile begun = tile_at(p, first);
    Tile tile = begun;
    for (int64_t i = 0; i < tiles; ++i, to_next(p, tile)) {
      load_patch<kIn>(p, tile, edge, v + i * v_step);
    }
    for (int point = 0; point < kTilePoints; ++point) {
      const float* from = v + point * kLanes;
      const float* filters = p.filters + point * p.in * out;
      float* to = m + point * kLanes;
      int64_t c = 0;
      for (; c + kVectors * kLanes <= out; c += kVectors * kLanes) {
        multiply_tiles<kVectors>(from, p.in, filters + c, out, to, tiles);
        to += kVectors * kPointsSize;
      }
      if (c < out) multiply_tiles<1>(from, p.in, filters + c, out, to, tiles);
    }
    tile = begun;
    for (int64_t i = 0; i < tiles; ++i, to_next(p, tile)) store_tile<kOut>(p, tile, m + i * m_step);
  }
  __builtin_free(memory);
}

// Blocks [begin, end) of tiles.
inline void convolve_blocks(const Convolution& p, int64_t begin, int64_t end) {
  if constexpr (kLanes > 4) {  // the widths of most of our networks
    if (p.in == 32 && p.out == 32) return convolve_some<32, 32>(p, begin, end);
    if (p.in == 16 && p.out == 16) return convolve_some<16, 16>(p, begin, end);
  }
  convolve_some<0, 0>(p, begin, end);
}

}  // namespace adapool::ADAPOOL_ISA
