// The quick arithmetic of whole 2x2 windows in float32: the device's own exponential and
// reciprocal, no comparisons but few, and one reciprocal for two quotients. It holds for ordinary
// values; a window that is not ordinary is told apart by weigh() and goes through weights.h.
//
// Errors: an exponential of t is right within 2 ulp + |t|·2^-24, a reciprocal of a product within 2
// ulp.
#pragma once

#include "weights.h"

namespace adapool::cuda {

constexpr float kLog2E = 0x1.715476p0F;
// Squares between these neither over- nor underflow, nor does a product of two of them.
constexpr float kLeast = 0x1p-60F;
constexpr float kMost = 0x1p60F;

ADAPOOL_HD float sum_of(const float (&v)[4]) { return (v[0] + v[1]) + (v[2] + v[3]); }
ADAPOOL_HD float dot(const float (&a)[4], const float (&b)[4]) {
  return fused(a[3], b[3], fused(a[2], b[2], fused(a[1], b[1], a[0] * b[0])));
}
// In the order of weights.h: where values cancel, the rounding of the mean is all that is left of
// it.
ADAPOOL_HD float mean_of(const float (&v)[4]) { return (((v[0] + v[1]) + v[2]) + v[3]) * 0.25F; }
ADAPOOL_HD bool all_zero(const float (&v)[4]) {
  return ((bits_as<uint32_t>(v[0]) | bits_as<uint32_t>(v[1]) | bits_as<uint32_t>(v[2]) |
           bits_as<uint32_t>(v[3])) & 0x7fffffffU) == 0;
}
// `value` with its sign changed where `sign` is negative.
ADAPOOL_HD float signed_by(float value, float sign) {
  return bits_as<float>(bits_as<uint32_t>(value) ^ (bits_as<uint32_t>(sign) & 0x80000000U));
}

// exp(D), D = 2·|x·m| / (x² + m²).
struct EdscwLane {
  float e[4];
  float total;
  float mean;
  float square;      // m², at least kLeast
  float squares[4];  // x² + m²
  float both[2];     // 1/(squares[0]·squares[1]), 1/(squares[2]·squares[3]): one division for two

  static constexpr bool kPlain = false;

  ADAPOOL_HD bool weigh(const float (&x)[4], const Rule&) {
    mean = mean_of(x);
    const float exact = mean * mean;
    square = fmaxf(exact, kLeast);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) squares[i] = fused(x[i], x[i], square);
    const float size = absolute(mean) * (2 * kLog2E);
    ADAPOOL_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int a = 2 * i, b = 2 * i + 1;
      both[i] = quick_reciprocal(squares[a] * squares[b]);
      const float scale = size * both[i];
      e[a] = quick_exp2(absolute(x[a]) * squares[b] * scale);
      e[b] = quick_exp2(absolute(x[b]) * squares[a] * scale);
    }
    total = sum_of(e);
    // Windows of zeros are common behind a ReLU and are right as they stand: D = 0.
    return (exact >= kLeast || all_zero(x)) && sum_of(squares) <= kMost;
  }
  ADAPOOL_HD float lever() const { return 0; }
  // Adds what d, the gradients of the scores, are to x. With s = d·(m² - x²)/(x² + m²)²:
  // d·D_x = 2·sign(x)·|m|·s and d·D_m = -2·sign(m)·|x|·s.
  ADAPOOL_HD void add_slopes(const float (&x)[4], const float (&d)[4], float (&out)[4]) const {
    float s[4], sizes[4];
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float reciprocal = squares[i ^ 1] * both[i >> 1];
      s[i] = d[i] * ((2 * square - squares[i]) * reciprocal) * reciprocal;
      sizes[i] = absolute(x[i]);
    }
    // The sign of 0 is 0: there D has a kink.
    const float by_mean = mean == 0 ? 0.0F : signed_by(dot(sizes, s) * -0.5F, mean);
    const float twice = 2 * absolute(mean);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float by_value = x[i] == 0 ? 0.0F : signed_by(s[i], x[i]);
      out[i] = fused(by_value, twice, out[i] + by_mean);
    }
  }
};

// exp(x - max x) times a factor near 1 of the whole window, the rounding of max x·log2(e).
struct EmLane {
  float e[4];
  float total;

  static constexpr bool kPlain = true;

  ADAPOOL_HD bool weigh(const float (&x)[4], const Rule&) {
    const float top = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
    const float shift = top * -kLog2E;
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) e[i] = quick_exp2(fused(x[i], kLog2E, shift));
    total = sum_of(e);
    // The factor stays within 2^±64 then.
    return dot(x, x) <= kMost;
  }
  ADAPOOL_HD float lever() const { return 0; }
  ADAPOOL_HD void add_slopes(const float (&)[4], const float (&d)[4], float (&out)[4]) const {
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] += d[i];
  }
};

// d_min/d.
struct IdwLane {
  float e[4];
  float total;
  float mean;
  float reciprocal[4];  // of d; 0 where the weights are constants

  static constexpr bool kPlain = false;

  ADAPOOL_HD bool weigh(const float (&x)[4], const Rule& rule) {
    mean = mean_of(x);
    float d[4];
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) d[i] = absolute(x[i] - mean);
    const float nearest = fminf(fminf(d[0], d[1]), fminf(d[2], d[3]));
    const float all = sum_of(d);
    // Flat windows, of zeros behind a ReLU for example, are common too.
    const bool flat = all == 0;
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const float both = quick_reciprocal(d[i] * d[i + 1]);
      reciprocal[i] = flat ? 0.0F : d[i + 1] * both;
      reciprocal[i + 1] = flat ? 0.0F : d[i] * both;
    }
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) e[i] = flat ? 1.0F : nearest * reciprocal[i];
    total = sum_of(e);
    return ((nearest >= kLeast && all <= kMost) || flat) && !rule.huber;
  }
  ADAPOOL_HD float lever() const { return mean; }
  ADAPOOL_HD void add_slopes(const float (&x)[4], const float (&d)[4], float (&out)[4]) const {
    float by_value[4];
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) by_value[i] = signed_by(d[i] * reciprocal[i], mean - x[i]);
    const float shared = sum_of(by_value) * 0.25F;
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] += by_value[i] - shared;
  }
};

struct NoLane {};

template <class Weighting>
struct LaneOf {
  using type = NoLane;
};
template <>
struct LaneOf<Edscw<float>> {
  using type = EdscwLane;
};
template <>
struct LaneOf<Em<float>> {
  using type = EmLane;
};
template <>
struct LaneOf<Idw<float>> {
  using type = IdwLane;
};

// Adds the gradient of x that comes through one part of a method from g, that of its output, and
// from `extra`, those of its mask, if there are any; the part's output is the result.
template <class Part>
ADAPOOL_HD float add_part(const Part& part, const float (&x)[4], float g, bool weight_grad,
                          const float* extra, float (&out)[4]) {
  const float scale = quick_reciprocal(part.total);
  const float scaled = scale * g;
  float wg[4], lever[4], d[4];
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) {
    wg[i] = part.e[i] * scaled;
    out[i] += wg[i];
    lever[i] = x[i] - part.lever();
  }
  const float mean = dot(part.e, lever) * scale;
  if (!weight_grad) return mean + part.lever();
  if (Part::kPlain && extra == nullptr) {
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = fused(wg[i], lever[i] - mean, out[i]);
    return mean + part.lever();
  }
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) d[i] = wg[i] * (lever[i] - mean);
  if (extra != nullptr) {
    const float more[4] = {extra[0], extra[1], extra[2], extra[3]};
    const float mean_more = dot(part.e, more) * scale;
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) d[i] = fused(part.e[i] * scale, more[i] - mean_more, d[i]);
  }
  part.add_slopes(x, d, out);
  return mean + part.lever();
}

// Adds the gradient of x that comes through one part from c·t, those of its weights w; Σ w·t is the
// result.
template <class Part>
ADAPOOL_HD float add_part_of(const Part& part, const float (&x)[4], float c, const float (&t)[4],
                             bool weight_grad, float (&out)[4]) {
  const float scale = quick_reciprocal(part.total);
  const float mean = dot(part.e, t) * scale;
  if (!weight_grad) return mean;
  const float scaled = scale * c;
  float d[4];
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) d[i] = part.e[i] * scaled * (t[i] - mean);
  part.add_slopes(x, d, out);
  return mean;
}

// One window of a method.
template <class Method>
struct Lane {
  static constexpr bool kMixed = Method::kMixed;
  typename LaneOf<typename Method::template First<float>>::type first;
  typename LaneOf<typename Method::template Second<float>>::type second;
  float x[4];

  ADAPOOL_HD void take(const float (&values)[4]) {
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) x[i] = values[i];
  }
  // Whether the window is ordinary; if not, what follows is not to be used.
  ADAPOOL_HD bool weigh(const Rule& rule) {
    const bool ordinary = first.weigh(x, rule);
    if constexpr (kMixed) second.weigh(x, rule);  // eDSCW's condition is the stricter one
    return ordinary;
  }

  ADAPOOL_HD float pooled(float beta) const {
    const float a = dot(first.e, x);
    if constexpr (kMixed) {
      const float b = dot(second.e, x) * first.total;
      const float difference = fused(a, second.total, -b);
      return fused(beta, difference, b) * quick_reciprocal(first.total * second.total);
    } else {
      return a * quick_reciprocal(first.total);
    }
  }

  ADAPOOL_HD void weights(float (&w)[4], float (&w_second)[4]) const {
    const float scale = quick_reciprocal(first.total);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) w[i] = first.e[i] * scale;
    if constexpr (kMixed) {
      const float other = quick_reciprocal(second.total);
      ADAPOOL_UNROLL
      for (int i = 0; i < 4; ++i) w_second[i] = second.e[i] * other;
    }
  }

  // The gradient of x, and that of beta as the result. `extra` is absent or those of the masks.
  ADAPOOL_HD float pool_backward(float g, float beta, bool weight_grad, const float* extra,
                                 const float* extra_second, float (&out)[4]) const {
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = 0;
    if constexpr (kMixed) {
      const float a = add_part(first, x, beta * g, weight_grad, extra, out);
      const float b = add_part(second, x, (1 - beta) * g, weight_grad, extra_second, out);
      return g * (a - b);
    } else {
      add_part(first, x, g, weight_grad, extra, out);
      return 0;
    }
  }

  // Unpooling by these weights: c·y·w, where `scaled` is c·y.
  ADAPOOL_HD void like(float scaled, float beta, float (&out)[4]) const {
    const float a = quick_reciprocal(first.total) * (beta * scaled);
    const float b = quick_reciprocal(second.total) * ((1 - beta) * scaled);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = fused(first.e[i], a, second.e[i] * b);
  }

  // Its gradients, from that of u times c: of x (out), of y, and of beta as the result.
  ADAPOOL_HD float like_backward(const float (&cv)[4], float y, float beta, bool weight_grad,
                                 float (&out)[4], float& grad_y) const {
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = 0;
    const float a = add_part_of(first, x, beta * y, cv, weight_grad, out);
    const float b = add_part_of(second, x, (1 - beta) * y, cv, weight_grad, out);
    grad_y = fused(beta, a - b, b);
    return y * (a - b);
  }
};

}  // namespace adapool::cuda
