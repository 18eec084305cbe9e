// The last step of a super-resolution network in one pass over memory: the input enlarged by a filter
// of five taps a phase, plus the residual, whose channels become pixels (a pixel shuffle).
#pragma once

#include "problem.h"
#include "scalars.h"

namespace adapool::ADAPOOL_ISA {

constexpr int kChunk = 64;  // columns at a time: everything stays in the first cache
constexpr int kReach = 2;   // taps on either side
constexpr int kPadded = kChunk + 2 * kReach + kLanes;
// Columns from `first - kReach` on that whole registers read.
constexpr int kRead = (kChunk + 2 * kReach + kLanes - 1) / kLanes * kLanes;

// The residual's columns [first, first + count) of one row, a plane after another, kChunk apart.
template <class T>
void gather(const Enlargement& p, int64_t n, int64_t row, int64_t first, int64_t count,
            float* planes) {
  const int64_t channels = p.channels * p.scale * p.scale;
  const T* from = static_cast<const T*>(p.residual);
  if (p.channels_last) {
    from += ((n * p.height + row) * p.width + first) * channels;
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t k = 0; k < channels; ++k) planes[k * kChunk + j] = to_float(*from++);
    }
    return;
  }
  from += (n * channels * p.height + row) * p.width + first;
  for (int64_t k = 0; k < channels; ++k, from += p.height * p.width) {
    for (int64_t j = 0; j < count; ++j) planes[k * kChunk + j] = to_float(from[j]);
  }
}

// One row of `count` columns of the input, kReach more on either side, edges replicated.
ADAPOOL_INLINE void pad_row(const float* row, int64_t width, int64_t first, int64_t count,
                            float* out) {
  for (int64_t j = -kReach; j < count + kReach; ++j) {
    const int64_t at = first + j;
    out[j + kReach] = row[at < 0 ? 0 : at < width ? at : width - 1];
  }
}

template <class T>
ADAPOOL_INLINE void enlarge_chunk(const Enlargement& p, int64_t n, int64_t row, int64_t first,
                                  int64_t count, float* planes) {
  const int64_t s = p.scale;
  gather<T>(p, n, row, first, count, planes);
  float padded[2 * kReach + 1][kPadded] = {};
  float mixed[kPadded];
  float out[kMaxEnlargement][kChunk];
  const float* rows[2 * kReach + 1];
  const bool inside = first >= kReach && first - kReach + kRead <= p.width;
  for (int64_t c = 0; c < p.channels; ++c) {
    const float* plane = p.lr + (n * p.channels + c) * p.height * p.width;
    for (int u = 0; u <= 2 * kReach; ++u) {
      int64_t at = row + u - kReach;
      at = at < 0 ? 0 : at < p.height ? at : p.height - 1;
      const float* line = plane + at * p.width;
      if (!inside) pad_row(line, p.width, first, count, padded[u]);
      rows[u] = inside ? line + first - kReach : padded[u];
    }
    for (int64_t a = 0; a < s; ++a) {
      const float* down = p.taps + a * (2 * kReach + 1);
      for (int64_t j = 0; j < count + 2 * kReach; j += kLanes) {
        Vec sum = load(rows[0] + j) * down[0];
        for (int u = 1; u <= 2 * kReach; ++u) sum = fma(load(rows[u] + j), splat(down[u]), sum);
        store(mixed + j, sum);
      }
      for (int64_t b = 0; b < s; ++b) {
        const float* across = p.taps + b * (2 * kReach + 1);
        const float* residual = planes + ((c * s + a) * s + b) * kChunk;
        for (int64_t j = 0; j < count; j += kLanes) {
          Vec sum = load(residual + j);
          for (int v = 0; v <= 2 * kReach; ++v) {
            sum = fma(load(mixed + j + v), splat(across[v]), sum);
          }
          store(out[b] + j, sum);
        }
      }
      float* to =
          p.out + (((n * p.channels + c) * p.height + row) * s + a) * p.width * s + first * s;
      int64_t j = 0;
      if (s == 2) {
        for (; j + kLanes <= count; j += kLanes) {
          store_pairs(to + 2 * j, load(out[0] + j), load(out[1] + j));
        }
      } else if (s == 4) {
        float even[2 * kLanes];
        float odd[2 * kLanes];
        for (; j + kLanes <= count; j += kLanes) {
          store_pairs(even, load(out[0] + j), load(out[2] + j));
          store_pairs(odd, load(out[1] + j), load(out[3] + j));
          store_pairs(to + 4 * j, load(even), load(odd));
          store_pairs(to + 4 * j + 2 * kLanes, load(even + kLanes), load(odd + kLanes));
        }
      }
      for (; j < count; ++j) {
        for (int64_t b = 0; b < s; ++b) to[j * s + b] = out[b][j];
      }
    }
  }
}

// Rows [begin, end) of the input, counted through the batch.
inline void enlarge_rows(const Enlargement& p, int64_t begin, int64_t end) {
  float planes[kMaxEnlargedChannels * kChunk] = {};
  for (int64_t at = begin; at < end; ++at) {
    const int64_t n = at / p.height;
    const int64_t row = at % p.height;
    for (int64_t first = 0; first < p.width; first += kChunk) {
      const int64_t count = p.width - first < kChunk ? p.width - first : kChunk;
      if (p.bfloat16) {
        enlarge_chunk<BFloat16>(p, n, row, first, count, planes);
      } else {
        enlarge_chunk<float>(p, n, row, first, count, planes);
      }
    }
  }
}

}  // namespace adapool::ADAPOOL_ISA
