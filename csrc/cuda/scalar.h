// What the kernels count in. Everything under csrc/cuda but the files that say otherwise compiles
// as CUDA and as plain C++, so that the tests run the kernels' own code without a device
// (emulate.cpp).
//
// Built with -fmad=false (nvcc) and -ffp-contract=off (C++): what is fused is written as fma(), so
// that a window gives the same bits whichever kernel meets it, in any layout and at any place.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define ADAPOOL_HD __host__ __device__ __forceinline__
#define ADAPOOL_UNROLL _Pragma("unroll")
#define ADAPOOL_ROLLED _Pragma("unroll 1")
#else
#define ADAPOOL_HD inline
#define ADAPOOL_UNROLL
#define ADAPOOL_ROLLED
#endif

namespace adapool::cuda {

struct Half {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

// What a type is computed in.
template <class Scalar>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class Scalar>
using Accumulator = typename AccumulatorOf<Scalar>::type;

template <class To, class From>
ADAPOOL_HD To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

ADAPOOL_HD float widen(float x) { return x; }
ADAPOOL_HD double widen(double x) { return x; }
ADAPOOL_HD float widen(Bfloat16 x) { return bits_as<float>(uint32_t{x.bits} << 16); }
#ifdef __CUDACC__
ADAPOOL_HD float widen(Half x) { return __half2float(bits_as<__half>(x.bits)); }
ADAPOOL_HD void narrow(float x, Half& out) { out.bits = bits_as<uint16_t>(__float2half_rn(x)); }
ADAPOOL_HD void narrow(float x, Bfloat16& out) {
  out.bits = bits_as<uint16_t>(__float2bfloat16_rn(x));
}
#else
ADAPOOL_HD float widen(Half x) { return static_cast<float>(bits_as<_Float16>(x.bits)); }
ADAPOOL_HD void narrow(float x, Half& out) {
  out.bits = bits_as<uint16_t>(static_cast<_Float16>(x));
}
ADAPOOL_HD void narrow(float x, Bfloat16& out) {
  uint32_t bits = bits_as<uint32_t>(x);
  // To the nearest, ties to even; a NaN stays one.
  bits = x != x ? 0x7fffffffU : bits + 0x7fffU + ((bits >> 16) & 1U);
  out.bits = static_cast<uint16_t>(bits >> 16);
}
#endif
ADAPOOL_HD void narrow(float x, float& out) { out = x; }
ADAPOOL_HD void narrow(double x, double& out) { out = x; }

// --- arrays of one access --------------------------------------------------------------------

template <class Scalar, int kCount>
struct alignas(sizeof(Scalar) * kCount) Pack {
  Scalar at[kCount];
};

// `kCount` neighbours at an address that is a multiple of their size: one access of up to 16 bytes.
template <int kCount, class Scalar>
ADAPOOL_HD void load(const Scalar* from, float (&to)[kCount]) {
  const auto pack = *reinterpret_cast<const Pack<Scalar, kCount>*>(from);
  ADAPOOL_UNROLL
  for (int i = 0; i < kCount; ++i) to[i] = widen(pack.at[i]);
}

template <int kCount, class Scalar>
ADAPOOL_HD void store(const float (&from)[kCount], Scalar* to) {
  Pack<Scalar, kCount> pack;
  ADAPOOL_UNROLL
  for (int i = 0; i < kCount; ++i) narrow(from[i], pack.at[i]);
  *reinterpret_cast<Pack<Scalar, kCount>*>(to) = pack;
}
#ifdef __CUDACC__
// Written as one instruction: the compiler takes stores of a structure apart. Two values of half a
// precision are converted at once.
template <int kCount>
ADAPOOL_HD void store_words(const uint32_t (&words)[kCount], void* to) {
#ifdef __CUDA_ARCH__
  if constexpr (kCount == 4) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(words[0]), "r"(words[1])
                 : "memory");
  } else {
    static_assert(kCount == 1);
    asm volatile("st.global.b32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(words[0])
                 : "memory");
  }
#else
  memcpy(to, words, sizeof(words));
#endif
}
template <int kCount>
ADAPOOL_HD void store(const float (&from)[kCount], float* to) {
  uint32_t words[kCount];
  ADAPOOL_UNROLL
  for (int i = 0; i < kCount; ++i) words[i] = bits_as<uint32_t>(from[i]);
  store_words(words, to);
}
template <int kCount>
ADAPOOL_HD void store(const float (&from)[kCount], Bfloat16* to) {
  uint32_t words[kCount / 2];
  ADAPOOL_UNROLL
  for (int i = 0; i < kCount / 2; ++i) {
    words[i] = bits_as<uint32_t>(__floats2bfloat162_rn(from[2 * i], from[2 * i + 1]));
  }
  store_words(words, to);
}
template <int kCount>
ADAPOOL_HD void store(const float (&from)[kCount], Half* to) {
  uint32_t words[kCount / 2];
  ADAPOOL_UNROLL
  for (int i = 0; i < kCount / 2; ++i) {
    words[i] = bits_as<uint32_t>(__floats2half2_rn(from[2 * i], from[2 * i + 1]));
  }
  store_words(words, to);
}
#endif

// --- arithmetic ------------------------------------------------------------------------------

template <class T>
struct Limits;
template <>
struct Limits<float> {
  static constexpr float kLargest = 0x1.fffffep127F;
};
template <>
struct Limits<double> {
  static constexpr double kLargest = 0x1.fffffffffffffp1023;
};
// Neither infinite nor NaN.
template <class T>
ADAPOOL_HD bool is_finite(T x) {
  return (x < 0 ? -x : x) <= Limits<T>::kLargest;
}

ADAPOOL_HD float absolute(float x) { return fabsf(x); }
ADAPOOL_HD double absolute(double x) { return fabs(x); }
ADAPOOL_HD float exponential(float x) { return expf(x); }
ADAPOOL_HD double exponential(double x) { return exp(x); }
ADAPOOL_HD float hypotenuse(float a, float b) { return hypotf(a, b); }
ADAPOOL_HD double hypotenuse(double a, double b) { return hypot(a, b); }
template <class T>
ADAPOOL_HD T sign_of(T x) {
  return static_cast<T>((x > 0) - (x < 0));
}
template <class T>
ADAPOOL_HD T not_zero(T x) {
  return x == 0 ? static_cast<T>(1) : x;
}

ADAPOOL_HD float fused(float a, float b, float c) { return fmaf(a, b, c); }

// One instruction of the device's special function unit each: 2^x within 2 ulp, 1/x within 1.
ADAPOOL_HD float quick_exp2(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return exp2f(x);
#endif
}
ADAPOOL_HD float quick_reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return 1.0F / x;
#endif
}

}  // namespace adapool::cuda
