// Vectors of float, and of double, in the widest registers that this translation unit may use.
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
#define ADAPOOL_LAMBDA __attribute__((always_inline))
// Before a short loop over values that shall stay in registers.
#define ADAPOOL_UNROLL _Pragma("GCC unroll 9")

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

ADAPOOL_INLINE Vec splat(float value) { return Vec{} + value; }
// The same of a value in memory, by one instruction.
ADAPOOL_INLINE Vec broadcast(const float* p) {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  return _mm512_set1_ps(*p);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_broadcast_ss(p);
#elif defined(__SSE2__)
  return _mm_set1_ps(*p);
#else
  return splat(*p);
#endif
}
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
ADAPOOL_INLINE Mask every(float) { return 0xffff; }
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
ADAPOOL_INLINE Mask every(float) { return floats_of(Bits{} + 0xffffffffU); }
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

// --- double --------------------------------------------------------------------------------------
// In the compilers' extensions alone: exactness is what double is for.

constexpr int kWideLanes = kLanes / 2;
typedef double Wide __attribute__((vector_size(8 * kWideLanes)));
typedef int64_t WideMask __attribute__((vector_size(8 * kWideLanes)));

ADAPOOL_INLINE Wide splat(double value) { return Wide{} + value; }
ADAPOOL_INLINE WideMask wide_bits(Wide a) { return reinterpret_cast<WideMask>(a); }
ADAPOOL_INLINE Wide absolute(Wide a) {
  return reinterpret_cast<Wide>(wide_bits(a) & 0x7fffffffffffffffLL);
}
ADAPOOL_INLINE Wide fma(Wide a, Wide b, Wide c) { return a * b + c; }
ADAPOOL_INLINE Wide fnma(Wide a, Wide b, Wide c) { return c - a * b; }
ADAPOOL_INLINE Wide select(WideMask m, Wide a, Wide b) {
  return reinterpret_cast<Wide>((m & wide_bits(a)) | (~m & wide_bits(b)));
}
ADAPOOL_INLINE Wide where(WideMask m, Wide a) { return reinterpret_cast<Wide>(m & wide_bits(a)); }
ADAPOOL_INLINE WideMask less(Wide a, Wide b) { return a < b; }
ADAPOOL_INLINE WideMask at_most(Wide a, Wide b) { return a <= b; }
ADAPOOL_INLINE WideMask equal(Wide a, Wide b) { return a == b; }
ADAPOOL_INLINE WideMask both(WideMask a, WideMask b) { return a & b; }
ADAPOOL_INLINE WideMask either(WideMask a, WideMask b) { return a | b; }
ADAPOOL_INLINE WideMask every(double) { return ~WideMask{}; }
ADAPOOL_INLINE Wide larger(Wide a, Wide b) { return select(a > b, a, b); }
ADAPOOL_INLINE Wide divide(Wide a, Wide b) { return a / b; }
ADAPOOL_INLINE bool all(WideMask m) {
  int64_t both = m[0];
  for (int i = 1; i < kWideLanes; ++i) both &= m[i];
  return both == -1;
}

// --- either --------------------------------------------------------------------------------------

template <class S>
struct Simd;
template <>
struct Simd<float> {
  typedef Vec V;
  typedef Mask M;
  static constexpr int kCount = kLanes;
  static constexpr float kLargest = 0x1.fffffep127F;
  // Added to x² + m², which is 0 in a window of zeros. To nothing else: its quotients are denormal.
  static constexpr float kTiny = 0x1p-126F;
  // Squares between these neither over- nor underflow, nor do their quotients.
  static constexpr float kSmallSquare = 0x1p-60F;
  static constexpr float kLargeSquare = 0x1p60F;
};
template <>
struct Simd<double> {
  typedef Wide V;
  typedef WideMask M;
  static constexpr int kCount = kWideLanes;
  static constexpr double kLargest = 0x1.fffffffffffffp1023;
  static constexpr double kTiny = 0x1p-1022;
  static constexpr double kSmallSquare = 0x1p-500;
  static constexpr double kLargeSquare = 0x1p500;
};

// |value| with its sign flipped where `sign` is negative.
ADAPOOL_INLINE Vec flip_sign_by(Vec value, Vec sign) {
  return floats_of(bits_of(value) ^ (bits_of(sign) & 0x80000000U));
}
ADAPOOL_INLINE Wide flip_sign_by(Wide value, Wide sign) {
  return reinterpret_cast<Wide>(wide_bits(value) ^ (wide_bits(sign) & (1LL << 63)));
}
// smaller(a, b) gives b where either is NaN.
ADAPOOL_INLINE Vec smaller(Vec a, Vec b) { return select(less(a, b), a, b); }
ADAPOOL_INLINE Wide smaller(Wide a, Wide b) { return select(less(a, b), a, b); }
ADAPOOL_INLINE Vec root(Vec a) {
  for (int i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
ADAPOOL_INLINE Wide root(Wide a) {
  for (int i = 0; i < kWideLanes; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}

}  // namespace adapool::ADAPOOL_ISA
