// Vectors of float in the widest registers that this translation unit may use.
//
// The arithmetic is written with the compilers' vector extensions; only what they cannot say (fused
// multiply-add, a NaN-keeping maximum, lane masks, approximate reciprocals) is spelled per instruction
// set. A file that includes this is compiled once per set with ADAPOOL_ISA naming it, and everything
// lives in a namespace of that name: were two copies of an inline function to share a name, the linker
// could hand AVX-512 code to a processor without it. For the same reason no standard header with
// inline code is included. Compile with -ffp-contract=off: a result must not depend on which
// neighbouring expression the compiler fused.
#pragma once

#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#ifndef ADAPOOL_ISA
#define ADAPOOL_ISA baseline
#endif

#define ADAPOOL_INLINE inline __attribute__((always_inline))
// A loop over the four values of a window, unrolled so that they stay in registers.
#define ADAPOOL_EACH(i) _Pragma("GCC unroll 4") for (int i = 0; i < 4; ++i)

namespace adapool::ADAPOOL_ISA {

#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int kLanes = 16;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

// A bfloat16 as it lies in memory.
struct BFloat16 {
  uint16_t bits;
};

ADAPOOL_INLINE Vec splat(float value) { return Vec{} + value; }
ADAPOOL_INLINE Vec zero() { return Vec{}; }
ADAPOOL_INLINE Bits bits_of(Vec a) { return reinterpret_cast<Bits>(a); }
ADAPOOL_INLINE Vec floats_of(Bits a) { return reinterpret_cast<Vec>(a); }
ADAPOOL_INLINE Vec absolute(Vec a) { return floats_of(bits_of(a) & 0x7fffffffU); }

ADAPOOL_INLINE Vec lane_numbers() {
  Vec v{};
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(i);
  return v;
}

// --- per instruction set -------------------------------------------------------------------------
// larger(a, b) gives b where either is NaN.

#if defined(__AVX512F__) && defined(__AVX512BW__)

typedef __mmask16 Mask;
ADAPOOL_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
ADAPOOL_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
ADAPOOL_INLINE Vec larger(Vec a, Vec b) { return _mm512_max_ps(a, b); }
ADAPOOL_INLINE Mask less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
ADAPOOL_INLINE Mask at_most(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
ADAPOOL_INLINE Mask equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
ADAPOOL_INLINE Vec select(Mask m, Vec a, Vec b) { return _mm512_mask_blend_ps(m, b, a); }
ADAPOOL_INLINE Vec where(Mask m, Vec a) { return _mm512_maskz_mov_ps(m, a); }
ADAPOOL_INLINE bool all(Mask m) { return m == 0xffff; }
ADAPOOL_INLINE Mask every() { return 0xffff; }
// a / b within 1 ulp, exact where the quotient is: for b and a / b well inside the normal range.
ADAPOOL_INLINE Vec divide(Vec a, Vec b) {
  Vec r = _mm512_rcp14_ps(b);
  Vec q = a * r;
  return fma(fnma(q, b, a), r, q);
}
// p * 2^n for integral n ≤ 0, down to denormals and 0.
ADAPOOL_INLINE Vec scale(Vec p, Vec n) { return _mm512_scalef_ps(p, n); }

#else

#if defined(__AVX2__) && defined(__FMA__)
typedef Vec Mask;
ADAPOOL_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
ADAPOOL_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
ADAPOOL_INLINE Vec larger(Vec a, Vec b) { return _mm256_max_ps(a, b); }
ADAPOOL_INLINE Vec select(Mask m, Vec a, Vec b) { return _mm256_blendv_ps(b, a, m); }
ADAPOOL_INLINE bool all(Mask m) { return _mm256_movemask_ps(m) == 0xff; }
#elif defined(__SSE2__)
typedef Vec Mask;
ADAPOOL_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
ADAPOOL_INLINE Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
ADAPOOL_INLINE Vec larger(Vec a, Vec b) { return _mm_max_ps(a, b); }
ADAPOOL_INLINE Vec select(Mask m, Vec a, Vec b) {
  return floats_of((bits_of(m) & bits_of(a)) | (~bits_of(m) & bits_of(b)));
}
ADAPOOL_INLINE bool all(Mask m) { return _mm_movemask_ps(m) == 0xf; }
#else
typedef Vec Mask;
#if defined(__ARM_NEON) && defined(__aarch64__)
ADAPOOL_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
ADAPOOL_INLINE Vec fnma(Vec a, Vec b, Vec c) {
  return (Vec)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
ADAPOOL_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
ADAPOOL_INLINE Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
#endif
ADAPOOL_INLINE Vec select(Mask m, Vec a, Vec b) {
  return floats_of((bits_of(m) & bits_of(a)) | (~bits_of(m) & bits_of(b)));
}
ADAPOOL_INLINE Vec larger(Vec a, Vec b) { return select(reinterpret_cast<Vec>(a > b), a, b); }
ADAPOOL_INLINE bool all(Mask m) {
  Bits b = bits_of(m);
  uint32_t both = b[0];
  for (int i = 1; i < kLanes; ++i) both &= b[i];
  return both == 0xffffffffU;
}
#endif

ADAPOOL_INLINE Mask less(Vec a, Vec b) { return reinterpret_cast<Mask>(a < b); }
ADAPOOL_INLINE Mask at_most(Vec a, Vec b) { return reinterpret_cast<Mask>(a <= b); }
ADAPOOL_INLINE Mask equal(Vec a, Vec b) { return reinterpret_cast<Mask>(a == b); }
ADAPOOL_INLINE Vec where(Mask m, Vec a) { return floats_of(bits_of(m) & bits_of(a)); }
ADAPOOL_INLINE Mask every() { return floats_of(Bits{} + 0xffffffffU); }
ADAPOOL_INLINE Vec divide(Vec a, Vec b) { return a / b; }
ADAPOOL_INLINE Vec scale(Vec p, Vec n) {
  // In two steps, since 2^n itself may be too small for a normal float; the first is exact.
  Ints whole = __builtin_convertvector(n, Ints);
  Ints half = whole >> 1;
  Vec first = reinterpret_cast<Vec>((half + 127) << 23);
  Vec second = reinterpret_cast<Vec>((whole - half + 127) << 23);
  return p * first * second;
}

#endif

ADAPOOL_INLINE Mask both(Mask a, Mask b) {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  return a & b;
#else
  return floats_of(bits_of(a) & bits_of(b));
#endif
}
ADAPOOL_INLINE Mask either(Mask a, Mask b) {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  return a | b;
#else
  return floats_of(bits_of(a) | bits_of(b));
#endif
}

// --- memory --------------------------------------------------------------------------------------

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

}  // namespace adapool::ADAPOOL_ISA
