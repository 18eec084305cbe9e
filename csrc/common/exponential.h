// The exponential as a polynomial over vectors; within 4 ulp of the true value (tests/ops/test_native.py
// measures it over the whole range). NaN gives NaN.
#pragma once

#include "vector.h"

namespace adapool::ADAPOOL_ISA {

// Coefficients of the polynomials, from the highest down to 1.
constexpr float kUnitTerms[] = {0x1.aa544ep-13F, 0x1.4d4eccp-9F,  0x1.54d4c2p-6F,
                                0x1.fff8dap-4F,  0x1.ffffdep-2F, 1.0F};
constexpr float kTerms[] = {0x1.0fa7d8p-7F,  0x1.573adp-5F,   0x1.555a6ep-3F,
                            0x1.fffdc4p-2F, 0x1.fffff6p-1F, 1.0F};

// Number by number side by side: their chains of multiplications overlap, and a coefficient is fetched
// once for all.
template <int n>
ADAPOOL_INLINE void polynomial(const float (&terms)[6], const Vec (&t)[n], Vec (&p)[n]) {
  ADAPOOL_UNROLL for (int i = 0; i < n; ++i) p[i] = splat(terms[0]);
  ADAPOOL_UNROLL for (int k = 1; k < 6; ++k) {
    const Vec term = splat(terms[k]);
    ADAPOOL_UNROLL for (int i = 0; i < n; ++i) p[i] = fma(p[i], t[i], term);
  }
}

// exp(t) for t in [-1, 0], as the square of exp(t / 2): no range to reduce, and near -1, where a
// polynomial's terms cancel, less to lose. Relative minimax fit with exp(0) = 1 exactly, so that a flat
// window gets equal weights whose sum is a power of two.
template <int n>
ADAPOOL_INLINE void exp_unit(Vec (&t)[n]) {
  Vec p[n];
  polynomial(kUnitTerms, t, p);
  ADAPOOL_UNROLL for (int i = 0; i < n; ++i) t[i] = p[i] * p[i];
}

// exp(t) for t ≤ 0, down to denormals, 0 from about -103.98 on and for -inf.
template <int n>
ADAPOOL_INLINE void exp_nonpositive(Vec (&t)[n]) {
  const Vec round = splat(0x1.8p23F);
  Vec r[n], whole[n], p[n];
  ADAPOOL_UNROLL for (int i = 0; i < n; ++i) {
    // Far below the last denormal, and finite, so that -inf - n·ln 2 doesn't become NaN.
    r[i] = larger(splat(-110.0F), t[i]);
    whole[i] = fma(r[i], splat(0x1.715476p0F), round) - round;
    // ln 2 in two parts (one comes to 5 ulp); a whole number times the first is exact, also without a
    // fused multiply-add.
    r[i] = fnma(whole[i], splat(0x1.63p-1F), r[i]);
    r[i] = fnma(whole[i], splat(-0x1.bd0106p-13F), r[i]);
  }
  polynomial(kTerms, r, p);
  ADAPOOL_UNROLL for (int i = 0; i < n; ++i) t[i] = scale(p[i], whole[i]);
}

// The same of double: ln 2 in two parts, then the series itself, which is exact to the last bit or two.
ADAPOOL_INLINE Wide exp_nonpositive(Wide t) {
  t = larger(splat(-750.0), t);
  const Wide round = splat(0x1.8p52);
  const Wide shifted = t * 0x1.71547652b82fep0 + round;
  const Wide n = shifted - round;
  Wide r = t - n * 0x1.62e42fefap-1;
  r = r - n * 0x1.cf79abc9e3b39p-40;
  constexpr double kInverse[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                 1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                 1.0 / 120,        1.0 / 24,        1.0 / 6,        0.5,
                                 1.0,              1.0};
  Wide p = splat(kInverse[0]);
  for (int i = 1; i < 14; ++i) p = p * r + kInverse[i];
  const WideMask whole = wide_bits(shifted) - wide_bits(round);
  const WideMask half = whole >> 1;
  const Wide first = reinterpret_cast<Wide>((half + 1023) << 52);
  return p * first * reinterpret_cast<Wide>((whole - half + 1023) << 52);
}

template <int n>
ADAPOOL_INLINE void exp_nonpositive(Wide (&t)[n]) {
  for (int i = 0; i < n; ++i) t[i] = exp_nonpositive(t[i]);
}
template <int n>
ADAPOOL_INLINE void exp_unit(Wide (&t)[n]) {
  exp_nonpositive(t);
}

}  // namespace adapool::ADAPOOL_ISA
