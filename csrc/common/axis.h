// One row of a map cut into the lines of a method, and lines put together to a row.
//
// With windows of `kernel` every `stride`, position j of window q is element q·stride + j - padding of the
// row. Of a row's elements each stride-th belongs to one *phase*: position j of all windows is then a
// line of its own, that of phase j % stride from its element j / stride on. An element is a block of
// numbers: one, or all channels of a pixel.
#pragma once

#include "scalars.h"

namespace adapool::ADAPOOL_ISA {

struct Axis {
  int64_t kernel, stride, padding, out;
  int64_t size;   // elements of the row
  int64_t block;  // numbers of an element

  int64_t phases() const { return kernel < stride ? kernel : stride; }
  int64_t length() const { return out + (kernel - 1) / stride; }  // elements of a phase
  // Memory of a phase in numbers; whole vectors may be read from its last number on.
  int64_t pitch() const { return length() * block + 2 * kLanes; }
  int64_t offset(int64_t j) const { return j % stride * pitch() + j / stride * block; }
  // The elements q of phase r that lie in the row: [low, high).
  int64_t low(int64_t r) const { return r < padding ? (padding - r + stride - 1) / stride : 0; }
  int64_t high(int64_t r) const {
    const int64_t end = size + padding - r <= 0 ? 0 : (size + padding - r - 1) / stride + 1;
    return end < length() ? end : length();
  }
};

template <class T, class S>
ADAPOOL_INLINE void convert(const T* from, S* to, int64_t count) {
  constexpr int kCount = Simd<typename Computed<T>::S>::kCount;
  int64_t i = 0;
  for (; i + kCount <= count; i += kCount) store(to + i, load(from + i));
  if (i == count) return;
  T last[kCount] = {};
  S found[kCount];
  __builtin_memcpy(last, from + i, (count - i) * sizeof(T));
  store(found, load(last));
  __builtin_memcpy(to + i, found, (count - i) * sizeof(S));
}

template <class S>
ADAPOOL_INLINE void clear(S* to, int64_t count) {
  if (count > 0) __builtin_memset(to, 0, count * sizeof(S));
}

// The row cut into phases, 0 outside of it; all 0 where there is no row.
template <class T, class S>
void cut(const T* row, const Axis& axis, S* to) {
  const int64_t pitch = axis.pitch();
  const int64_t block = axis.block;
  if (row == nullptr) return clear(to, axis.phases() * pitch);
  int64_t paired_begin = 0;
  int64_t paired_end = 0;  // elements that two phases get at once
  if (block == 1 && axis.stride == 2 && axis.kernel > 1) {
    constexpr int kCount = Simd<S>::kCount;
    paired_begin = axis.low(0);
    const int64_t end = axis.high(0) < axis.high(1) ? axis.high(0) : axis.high(1);
    paired_end = paired_begin;
    for (; paired_end + kCount <= end; paired_end += kCount) {
      typename Simd<S>::V even, odd;
      load_pairs(row + 2 * paired_end - axis.padding, even, odd);
      store(to + paired_end, even);
      store(to + pitch + paired_end, odd);
    }
  }
  for (int64_t r = 0; r < axis.phases(); ++r, to += pitch) {
    const int64_t low = axis.low(r);
    const int64_t high = axis.high(r) > low ? axis.high(r) : low;
    clear(to, low * block);
    clear(to + high * block, pitch - high * block);
    if (block > 1) {
      for (int64_t q = low; q < high; ++q) {
        convert(row + (q * axis.stride + r - axis.padding) * block, to + q * block, block);
      }
    } else if (axis.stride == 1) {
      convert(row + low + r - axis.padding, to + low, high - low);
    } else {
      for (int64_t q = low; q < high; ++q) {
        if (q == paired_begin && paired_end > q) q = paired_end;
        if (q < high) to[q] = to_number(row[q * axis.stride + r - axis.padding]);
      }
    }
  }
}

// Phases put together to a row of numbers, or added to it; 0 where no window reaches. `phases` point at
// whole phases.
template <bool kAdd, class S>
void put(const S* const* phases, const Axis& axis, S* row) {
  constexpr int kCount = Simd<S>::kCount;
  const int64_t block = axis.block;
  int64_t covered = axis.length() * axis.stride - axis.padding;
  if (covered > axis.size) covered = axis.size;
  const auto element = [&](int64_t w, int64_t r, int64_t q) {
    S* to = row + w * block;
    if (r >= axis.phases()) {
      if (!kAdd) clear(to, block);
      return;
    }
    const S* from = phases[r] + q * block;
    int64_t i = 0;
    for (; i + kCount <= block; i += kCount) {
      store(to + i, kAdd ? load(to + i) + load(from + i) : load(from + i));
    }
    for (; i < block; ++i) to[i] = kAdd ? to[i] + from[i] : from[i];
  };
  int64_t w = 0;
  if (block == 1 && axis.stride == 2 && axis.kernel > 1) {
    if (axis.padding % 2 == 1 && w < covered) element(w++, axis.padding % 2, axis.padding / 2);
    for (; w + 2 * kCount <= covered; w += 2 * kCount) {
      const int64_t q = (w + axis.padding) / 2;
      typename Simd<S>::V even = load(phases[0] + q), odd = load(phases[1] + q);
      if constexpr (kAdd) {
        typename Simd<S>::V even_before, odd_before;
        load_pairs(row + w, even_before, odd_before);
        even = even_before + even;
        odd = odd_before + odd;
      }
      store_pairs(row + w, even, odd);
    }
  } else if (block == 1 && axis.stride == 1) {
    const S* from = phases[0] + axis.padding;
    for (; w + kCount <= covered; w += kCount) {
      store(row + w, kAdd ? load(row + w) + load(from + w) : load(from + w));
    }
  } else if (block == 1 && axis.phases() == axis.stride) {
    for (int64_t r = 0; r < axis.stride; ++r) {
      const S* from = phases[r];
      S* to = row + r - axis.padding;
      const int64_t high = axis.high(r);
      for (int64_t q = axis.low(r); q < high; ++q) {
        to[q * axis.stride] = kAdd ? to[q * axis.stride] + from[q] : from[q];
      }
    }
    w = covered;
  }
  int64_t r = (w + axis.padding) % axis.stride;
  int64_t q = (w + axis.padding) / axis.stride;
  for (; w < covered; ++w) {
    element(w, r, q);
    if (++r == axis.stride) {
      r = 0;
      ++q;
    }
  }
  if (!kAdd && covered < axis.size) clear(row + covered * block, (axis.size - covered) * block);
}

}  // namespace adapool::ADAPOOL_ISA
