// The quick arithmetic of whole 2x2 windows in float32: the device's own exponential and reciprocal, no
// comparisons but one, and one reciprocal for two quotients. It holds for ordinary values; a window that
// is not ordinary is told apart by weigh() and goes through weights.h.
//
// Errors: an exponential of t is right within 2 ulp + |t|·2^-24, a reciprocal of a product within 2 ulp.
#pragma once

#include "weights.h"

namespace adapool::cuda {

constexpr float kLog2E = 0x1.715476p0F;
// Squares between these neither over- nor underflow, nor does a product of two of them.
constexpr float kLeast = 0x1p-60F;
constexpr float kMost = 0x1p60F;

// By pairs: with equal values nothing is rounded.
ADAPOOL_HD float sum_of(const float (&v)[4]) { return (v[0] + v[1]) + (v[2] + v[3]); }
ADAPOOL_HD float dot(const float (&a)[4], const float (&b)[4]) {
  return fused(a[1], b[1], a[0] * b[0]) + fused(a[3], b[3], a[2] * b[2]);
}
ADAPOOL_HD float size_of(const float (&v)[4]) {
  return (absolute(v[0]) + absolute(v[1])) + (absolute(v[2]) + absolute(v[3]));
}
// In the order of weights.h: where values cancel, the rounding of the mean is all that is left of it.
ADAPOOL_HD float mean_of(const float (&v)[4]) { return (((v[0] + v[1]) + v[2]) + v[3]) * 0.25F; }

// 1/v by one reciprocal for two.
ADAPOOL_HD void reciprocals(const float (&v)[4], float (&out)[4]) {
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const float both = quick_reciprocal(v[i] * v[i + 1]);
    out[i] = v[i + 1] * both;
    out[i + 1] = v[i] * both;
  }
}

// exp(D - 1) with D - 1 = -(|x| - |m|)² / (x² + m²): nothing cancels, the exponent lies in [-1, 0].
struct EdscwLane {
  float e[4];
  float total;
  float mean;
  float reciprocal[4];  // of x² + m²

  ADAPOOL_HD bool weigh(const float (&x)[4], const Rule&) {
    mean = mean_of(x);
    const float square = mean * mean;
    const float floor = fmaxf(square, kLeast);
    float squares[4];
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) squares[i] = fused(x[i], x[i], floor);
    reciprocals(squares, reciprocal);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float difference = absolute(x[i]) - absolute(mean);
      e[i] = quick_exp2(difference * difference * (reciprocal[i] * -kLog2E));
    }
    total = sum_of(e);
    if (square >= kLeast && sum_of(squares) <= kMost) return true;
    // Windows of zeros are common behind a ReLU and are right as they stand.
    return x[0] == 0 && x[1] == 0 && x[2] == 0 && x[3] == 0;
  }
  ADAPOOL_HD float lever() const { return 0; }
  // Adds what d, the gradients of the scores, are to x.
  ADAPOOL_HD void add_slopes(const float (&x)[4], const float (&d)[4], float (&out)[4]) const {
    const float size = absolute(mean);
    float by_mean[4];
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float a = absolute(x[i]);
      // 2(m² - x²)/(x² + m²)², factor by factor.
      const float slope = ((size - a) * reciprocal[i]) * ((size + a) * (reciprocal[i] * 2));
      const float part = d[i] * slope;
      by_mean[i] = a * part;
      // The sign of 0 is 0: there D has a kink.
      const float by_value = x[i] == 0 ? 0.0F : size * part;
      out[i] += x[i] < 0 ? -by_value : by_value;
    }
    const float shared = sum_of(by_mean) * (mean > 0 ? -0.25F : (mean < 0 ? 0.25F : 0.0F));
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] += shared;
  }
};

// exp(x - max x). Subtracted before it is multiplied: a large x leaves no remainder.
struct EmLane {
  float e[4];
  float total;

  ADAPOOL_HD bool weigh(const float (&x)[4], const Rule&) {
    const float top = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) e[i] = quick_exp2((x[i] - top) * kLog2E);
    total = sum_of(e);
    return size_of(x) <= kMost;
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

  ADAPOOL_HD bool weigh(const float (&x)[4], const Rule& rule) {
    mean = mean_of(x);
    float d[4];
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) d[i] = absolute(x[i] - mean);
    const float nearest = fminf(fminf(d[0], d[1]), fminf(d[2], d[3]));
    const float all = sum_of(d);
    reciprocals(d, reciprocal);
    // Flat windows, of zeros behind a ReLU for example, are common too.
    const bool flat = all == 0;
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) {
      e[i] = flat ? 1.0F : nearest * reciprocal[i];
      reciprocal[i] = flat ? 0.0F : reciprocal[i];
    }
    total = sum_of(e);
    return ((nearest >= kLeast && all <= kMost) || flat) && !rule.huber;
  }
  ADAPOOL_HD float lever() const { return mean; }
  ADAPOOL_HD void add_slopes(const float (&x)[4], const float (&d)[4], float (&out)[4]) const {
    float by_value[4];
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float by_distance = d[i] * reciprocal[i];
      by_value[i] = x[i] > mean ? -by_distance : by_distance;
    }
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

// Adds to `out` what the gradients of a part's weights are to x: those that come from the output's
// gradient g, wg = w·g, and `extra` ones, those of masks.
template <class Part>
ADAPOOL_HD void add_scores(const Part& part, const float (&x)[4], const float (&w)[4],
                           const float (&wg)[4], const float* extra, float (&out)[4]) {
  float lever[4], d[4];
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) lever[i] = x[i] - part.lever();
  const float mean = dot(w, lever);
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) d[i] = wg[i] * (lever[i] - mean);
  if (extra != nullptr) {
    const float more[4] = {extra[0], extra[1], extra[2], extra[3]};
    const float mean_more = dot(w, more);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) d[i] = fused(w[i], more[i] - mean_more, d[i]);
  }
  part.add_slopes(x, d, out);
}

// The same where the weights' gradients are c·t.
template <class Part>
ADAPOOL_HD void add_scores_of(const Part& part, const float (&x)[4], const float (&w)[4], float c,
                              const float (&t)[4], float (&out)[4]) {
  const float mean = dot(w, t);
  float d[4];
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) d[i] = w[i] * c * (t[i] - mean);
  part.add_slopes(x, d, out);
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
      const float b = dot(second.e, x);
      const float both = quick_reciprocal(first.total * second.total);
      return fused(beta * a, second.total, (1 - beta) * b * first.total) * both;
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
    float w[4], v[4], wg[4], vg[4];
    weights(w, v);
    const float g_first = kMixed ? beta * g : g;
    const float g_second = (1 - beta) * g;
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) {
      wg[i] = w[i] * g_first;
      out[i] = wg[i];
      if constexpr (kMixed) {
        vg[i] = v[i] * g_second;
        out[i] += vg[i];
      }
    }
    if (weight_grad) {
      add_scores(first, x, w, wg, extra, out);
      if constexpr (kMixed) add_scores(second, x, v, vg, extra_second, out);
    }
    if constexpr (kMixed) {
      return g * (dot(w, x) - dot(v, x));
    } else {
      return 0;
    }
  }

  ADAPOOL_HD void mixed(const float (&w)[4], const float (&v)[4], float beta,
                        float (&out)[4]) const {
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = fused(beta, w[i], (1 - beta) * v[i]);
  }

  // Unpooling by these weights: c·y·w, where `scaled` is c·y.
  ADAPOOL_HD void like(float scaled, float beta, float (&out)[4]) const {
    float w[4], v[4];
    weights(w, v);
    mixed(w, v, beta, out);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] *= scaled;
  }

  // Its gradients, from that of u times c: of x (out), of y, and of beta as the result.
  ADAPOOL_HD float like_backward(const float (&cv)[4], float y, float beta, bool weight_grad,
                                 float (&out)[4], float& grad_y) const {
    float w[4], v[4], both[4];
    weights(w, v);
    mixed(w, v, beta, both);
    grad_y = dot(both, cv);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = 0;
    if (weight_grad) {
      add_scores_of(first, x, w, beta * y, cv, out);
      add_scores_of(second, x, v, (1 - beta) * y, cv, out);
    }
    return y * (dot(cv, w) - dot(cv, v));
  }
};

}  // namespace adapool::cuda
