// Numbers as they lie in memory, and vectors of them: float, double, bfloat16, float16.
#pragma once

#include "vector.h"

namespace adapool::ADAPOOL_ISA {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// What a type is computed in.
template <class T>
struct Computed {
  typedef float S;
};
template <>
struct Computed<double> {
  typedef double S;
};

ADAPOOL_INLINE Vec widen(Halves h) {
  return floats_of(__builtin_convertvector(h, Bits) << 16);
}
// To bfloat16 in the upper half of each lane, rounded to nearest even; NaN stays NaN.
ADAPOOL_INLINE Bits rounded(Vec a) {
  Bits b = bits_of(a);
  Bits up = b + 0x7fffU + ((b >> 16) & 1U);
  return bits_of(select(equal(a, a), floats_of(up), floats_of(Bits{} + 0x7fc00000U)));
}

ADAPOOL_INLINE Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
ADAPOOL_INLINE Vec load(const BFloat16* p) {
  Halves h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen(h);
}
ADAPOOL_INLINE void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
ADAPOOL_INLINE void store(BFloat16* p, Vec v) {
  Halves h = __builtin_convertvector(rounded(v) >> 16, Halves);
  __builtin_memcpy(p, &h, sizeof h);
}
ADAPOOL_INLINE float to_float(float v) { return v; }
ADAPOOL_INLINE float to_float(BFloat16 v) {
  uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return f;
}

// float16 by arithmetic on its bits: no instruction for it is as old as the baseline.
ADAPOOL_INLINE Vec widen_half(Halves h) {
  const Bits bits = __builtin_convertvector(h, Bits);
  const Bits size = (bits & 0x7fffU) << 13;
  // 2^112 moves the exponent's bias; denormals come out right too.
  const Vec value = floats_of(size) * 0x1p112F;
  const Mask special = at_most(splat(65536.0F), value);
  const Bits kept = bits_of(select(special, floats_of(bits_of(value) | 0x7f800000U), value));
  return floats_of(kept | ((bits & 0x8000U) << 16));
}
ADAPOOL_INLINE Halves narrow_half(Vec a) {
  const Bits sign = (bits_of(a) >> 16) & 0x8000U;
  const Vec size = absolute(a);
  const Bits b = bits_of(size);
  const Bits normal = (b + 0xc8000fffU + ((b >> 13) & 1U)) >> 13;
  // Below 2^-14: the addition itself rounds to the last bit of a denormal.
  const Bits denormal = bits_of(size + 0.5F) - 0x3f000000U;
  Vec found = select(less(size, splat(0x1p-14F)), floats_of(denormal), floats_of(normal));
  found = select(less(size, splat(65536.0F)), found, floats_of(Bits{} + 0x7c00U));
  found = select(equal(a, a), found, floats_of(Bits{} + 0x7e00U));
  return __builtin_convertvector(bits_of(found) | sign, Halves);
}
#if defined(__AVX512F__) && defined(__AVX512BW__)
ADAPOOL_INLINE Vec widen(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
ADAPOOL_INLINE void narrow(Half* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#else
ADAPOOL_INLINE Vec widen(const Half* p) {
  Halves h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen_half(h);
}
ADAPOOL_INLINE void narrow(Half* p, Vec v) {
  const Halves h = narrow_half(v);
  __builtin_memcpy(p, &h, sizeof h);
}
#endif

ADAPOOL_INLINE Vec load(const Half* p) { return widen(p); }
ADAPOOL_INLINE void store(Half* p, Vec v) { narrow(p, v); }
ADAPOOL_INLINE Wide load(const double* p) {
  Wide v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
ADAPOOL_INLINE void store(double* p, Wide v) { __builtin_memcpy(p, &v, sizeof v); }
ADAPOOL_INLINE double to_number(double v) { return v; }
ADAPOOL_INLINE float to_number(float v) { return v; }
ADAPOOL_INLINE float to_number(BFloat16 v) { return to_float(v); }
ADAPOOL_INLINE float to_number(Half v) {
  Half several[kLanes] = {v};
  return load(several)[0];
}

// Pairs of neighbours, as they lie in a contiguous row: the even places and the odd ones.
#if defined(__AVX512F__) && defined(__AVX512BW__)
ADAPOOL_INLINE void load_pairs(const float* p, Vec& even, Vec& odd) {
  const Vec a = load(p);
  const Vec b = load(p + kLanes);
  even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
ADAPOOL_INLINE void store_pairs(float* p, Vec even, Vec odd) {
  store(p, __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                   23));
  store(p + kLanes, __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29,
                                            14, 30, 15, 31));
}
#elif defined(__AVX2__) && defined(__FMA__)
ADAPOOL_INLINE void load_pairs(const float* p, Vec& even, Vec& odd) {
  const Vec a = load(p);
  const Vec b = load(p + kLanes);
  even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
  odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
ADAPOOL_INLINE void store_pairs(float* p, Vec even, Vec odd) {
  store(p, __builtin_shufflevector(even, odd, 0, 8, 1, 9, 2, 10, 3, 11));
  store(p + kLanes, __builtin_shufflevector(even, odd, 4, 12, 5, 13, 6, 14, 7, 15));
}
#else
ADAPOOL_INLINE void load_pairs(const float* p, Vec& even, Vec& odd) {
  const Vec a = load(p);
  const Vec b = load(p + kLanes);
  even = __builtin_shufflevector(a, b, 0, 2, 4, 6);
  odd = __builtin_shufflevector(a, b, 1, 3, 5, 7);
}
ADAPOOL_INLINE void store_pairs(float* p, Vec even, Vec odd) {
  store(p, __builtin_shufflevector(even, odd, 0, 4, 1, 5));
  store(p + kLanes, __builtin_shufflevector(even, odd, 2, 6, 3, 7));
}
#endif
// Two bfloat16 are one 32-bit word: its halves need no shuffle (little-endian).
ADAPOOL_INLINE void load_pairs(const BFloat16* p, Vec& even, Vec& odd) {
  Bits words;
  __builtin_memcpy(&words, p, sizeof words);
  even = floats_of(words << 16);
  odd = floats_of(words & 0xffff0000U);
}
ADAPOOL_INLINE void store_pairs(BFloat16* p, Vec even, Vec odd) {
  const Bits words = (rounded(even) >> 16) | (rounded(odd) & 0xffff0000U);
  __builtin_memcpy(p, &words, sizeof words);
}

ADAPOOL_INLINE void load_pairs(const Half* p, Vec& even, Vec& odd) {
  float values[2 * kLanes];
  store(values, load(p));
  store(values + kLanes, load(p + kLanes));
  load_pairs(values, even, odd);
}
ADAPOOL_INLINE void store_pairs(Half* p, Vec even, Vec odd) {
  float values[2 * kLanes];
  store_pairs(values, even, odd);
  store(p, load(values));
  store(p + kLanes, load(values + kLanes));
}
ADAPOOL_INLINE void load_pairs(const double* p, Wide& even, Wide& odd) {
  for (int i = 0; i < kWideLanes; ++i) {
    even[i] = p[2 * i];
    odd[i] = p[2 * i + 1];
  }
}
ADAPOOL_INLINE void store_pairs(double* p, Wide even, Wide odd) {
  for (int i = 0; i < kWideLanes; ++i) {
    p[2 * i] = even[i];
    p[2 * i + 1] = odd[i];
  }
}

}  // namespace adapool::ADAPOOL_ISA
