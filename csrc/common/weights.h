// The two weightings of a window, lane by lane: eDSCW (softmax of the similarity to the mean) and eM
// (softmax of the values), and what gradients of the weights are to the values.
//
// kGeneral = false is the inner loop: whole windows of ordinary values. It reports the lanes in which
// it doesn't hold, and the caller then runs kGeneral = true, which holds for all finite values and for
// windows cut by the border. In lanes where the first holds both give the same bits, so a result never
// depends on the neighbours that share its vector.
#pragma once

#include "exponential.h"

namespace adapool::ADAPOOL_ISA {

constexpr float kLargest = 0x1.fffffep127F;
// Added to x² + m², which may be 0, and to (|x| - |m|)²: D(0, 0) comes out as 0.
constexpr float kTiny = 0x1p-126F;

template <bool kGeneral>
struct Window {
  Vec x[4];           // 0 where cut off
  Mask keep[4];       // read if general
  Vec inverse_count;  // 1/4, 1/2 or 1: exact
};

ADAPOOL_INLINE Vec sum_of(const Vec v[4]) { return (v[0] + v[1]) + (v[2] + v[3]); }
// By pairs: with equal weights of equal values no rounding happens.
ADAPOOL_INLINE Vec dot(const Vec a[4], const Vec b[4]) {
  return fma(a[1], b[1], a[0] * b[0]) + fma(a[3], b[3], a[2] * b[2]);
}

template <bool kGeneral>
ADAPOOL_INLINE void keep_only(const Window<kGeneral>& window, Vec e[4]) {
  if constexpr (kGeneral) {
    ADAPOOL_EACH(i) e[i] = where(window.keep[i], e[i]);
  }
}

// exp(D(x_i, m) - 1). With D - 1 = -(|x| - |m|)² / (x² + m²) nothing cancels, and the exponent lies in
// [-1, 0].
template <bool kGeneral>
struct Edscw {
  Vec e[4];
  Vec total;
  Vec mean;
  Vec mean_size;      // |m|
  Vec x_size[4];      // |x_i|
  Vec reciprocal[4];  // of x_i² + m², if slopes are wanted
  Mask ordinary;      // lanes in which no square over- or underflows

  template <bool kSlopes>
  ADAPOOL_INLINE void compute(const Window<kGeneral>& window) {
    const Vec* x = window.x;
    mean = (((x[0] + x[1]) + x[2]) + x[3]) * window.inverse_count;
    if constexpr (kGeneral) {
      // The sum of values near the largest float overflows where their mean does not.
      Vec parts[4];
      ADAPOOL_EACH(i) parts[i] = x[i] * window.inverse_count;
      const Vec careful = ((parts[0] + parts[1]) + parts[2]) + parts[3];
      mean = select(at_most(absolute(mean), splat(kLargest)), mean, careful);
    }
    mean_size = absolute(mean);
    const Vec mean_square = mean * mean;
    const Vec mean_square_tiny = mean_square + kTiny;
    Vec denominator[4];
    ADAPOOL_EACH(i) {
      x_size[i] = absolute(x[i]);
      denominator[i] = fma(x[i], x[i], mean_square_tiny);
    }
    ordinary = both(at_most(splat(0x1p-60F), mean_square),
                    at_most(sum_of(denominator), splat(0x1p60F)));
    // Windows of zeros are common behind a ReLU and are right as they stand.
    if (kGeneral || !all(ordinary)) ordinary = either(ordinary, equal(sum_of(x_size), zero()));
    ADAPOOL_EACH(i) {
      const Vec difference = x_size[i] - mean_size;
      const Vec numerator = fnma(difference, difference, splat(-kTiny));
      Vec t;
      if constexpr (kSlopes) {
        reciprocal[i] = divide(splat(1.0F), denominator[i]);
        t = numerator * reciprocal[i];
      } else {
        t = divide(numerator, denominator[i]);
      }
      if constexpr (kGeneral) t = select(ordinary, t, scaled_exponent(i));
      e[i] = exp_unit(t);
    }
    keep_only(window, e);
    total = sum_of(e);
  }

  // What d_i, the gradients of the scores, are to x: d_k·D_x(x_k, m) + (1/K)·Σ d_i·D_m(x_i, m).
  ADAPOOL_INLINE void score_gradient(const Window<kGeneral>& window, const Vec d[4],
                                     Vec out[4]) const {
    Vec by_mean[4];
    ADAPOOL_EACH(i) {
      // 2(m² - x²)/(x² + m²)², factor by factor: the square of a reciprocal may overflow.
      const Vec slope = ((mean_size - x_size[i]) * reciprocal[i]) *
                        ((mean_size + x_size[i]) * reciprocal[i]) * 2.0F;
      const Vec part = d[i] * slope;
      Vec by_x = mean_size * part;
      by_mean[i] = x_size[i] * part;
      if constexpr (kGeneral) {
        Vec size, a, b;
        scaled(i, size, a, b);
        const Vec square = fma(a, a, b * b);
        const Vec scaled_slope = ((b - a) * (b + a) * 2.0F) / (square * square);
        // Divided last: d is as small as x where both are tiny.
        const Mask none = equal(size, zero());
        by_x = select(ordinary, by_x, where_not(none, d[i] * (b * scaled_slope) / size));
        by_mean[i] = select(ordinary, by_mean[i], where_not(none, d[i] * (a * scaled_slope) / size));
      }
      // The sign of 0 is 0: there D has a kink.
      out[i] = select(equal(x_size[i], zero()), zero(), signed_as(by_x, window.x[i]));
    }
    Vec shared = signed_as(-sum_of(by_mean) * window.inverse_count, mean);
    if constexpr (kGeneral) shared = select(equal(mean_size, zero()), zero(), shared);
    ADAPOOL_EACH(i) out[i] = out[i] + shared;
  }

 private:
  static ADAPOOL_INLINE Vec signed_as(Vec value, Vec sign) {
    return floats_of(bits_of(value) ^ (bits_of(sign) & 0x80000000U));
  }
  static ADAPOOL_INLINE Vec where_not(Mask m, Vec v) { return select(m, zero(), v); }

  // |x_i| and |m| divided by the larger of them; plain divisions, since it may be denormal.
  ADAPOOL_INLINE void scaled(int i, Vec& size, Vec& a, Vec& b) const {
    size = larger(x_size[i], mean_size);
    a = x_size[i] / size;
    b = mean_size / size;
  }
  ADAPOOL_INLINE Vec scaled_exponent(int i) const {
    Vec size, a, b;
    scaled(i, size, a, b);
    const Vec t = -((a - b) * (a - b)) / fma(a, a, b * b);
    return select(equal(size, zero()), splat(-1.0F), t);
  }
};

// exp(x_i - max x).
template <bool kGeneral>
struct Em {
  Vec e[4];
  Vec total;

  ADAPOOL_INLINE void compute(const Window<kGeneral>& window) {
    Vec x[4];
    ADAPOOL_EACH(i) {
      x[i] = window.x[i];
      // The first place is in the image in every window.
      if constexpr (kGeneral) x[i] = select(window.keep[i], x[i], window.x[0]);
    }
    const Vec top = larger(larger(x[0], x[1]), larger(x[2], x[3]));
    ADAPOOL_EACH(i) e[i] = exp_nonpositive(x[i] - top);
    keep_only(window, e);
    total = sum_of(e);
  }
};

}  // namespace adapool::ADAPOOL_ISA
