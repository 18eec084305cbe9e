// The weightings of a window, lane by lane: eDSCW (softmax of the similarity to the mean), eM (softmax of
// the values) and IDW (inverse distance to the mean). Each gives
//
// - compute(window): e, the weights before they are normalised, and their sum `total`; also `ordinary`,
//   the lanes in which that holds (all, if the window is general);
// - origin(): what is subtracted from the values before they are averaged for the weights' gradient;
// - score_gradient(window, d, out): what d_i = w_i (G_i - Σ w_j G_j) are to the values.
#pragma once

#include "lanes.h"

namespace adapool::ADAPOOL_ISA {

template <class V>
ADAPOOL_INLINE V reciprocal_of(V total) {
  return divide(V{} + 1.0F, total);
}

// The exponentials of e, within a window; what is cut off weighs 0.
template <bool kUnit, class W, class V, int N>
ADAPOOL_INLINE void exp_all(const W& window, Values<V, N>& e) {
  const auto some = [&](int at, auto& t) ADAPOOL_LAMBDA {
    constexpr int n = sizeof(t) / sizeof(V);
    ADAPOOL_UNROLL for (int i = 0; i < n; ++i) t[i] = e[at + i];
    if constexpr (kUnit) {
      exp_unit(t);
    } else {
      exp_nonpositive(t);
    }
    ADAPOOL_UNROLL for (int i = 0; i < n; ++i) e[at + i] = window.kept(at + i, t[i]);
  };
  V four[4], one[1];
  by_fours<N>(
      window.size(), [&](int at) ADAPOOL_LAMBDA { some(at, four); },
      [&](int at) ADAPOOL_LAMBDA { some(at, one); });
}

// exp(D(x_i, m) - 1). With D - 1 = -(|x| - |m|)² / (x² + m²) nothing cancels, and the exponent lies in
// [-1, 0].
template <class W, bool kSlopes>
struct Edscw {
  typedef typename W::S S;
  typedef typename W::V V;
  typedef typename W::M M;
  typedef Simd<S> Limits;

  Values<V, W::N> e;
  Values<V, W::N> reciprocal;  // of x_i² + m², if slopes are wanted
  V total, mean, mean_size;
  M ordinary;  // lanes in which no square over- or underflows

  ADAPOOL_INLINE void compute(W& window) {
    const auto& x = window.x;
    const int count = window.size();
    e.lend(window.room);
    if constexpr (kSlopes) reciprocal.lend(window.room);
    mean = window.mean();
    mean_size = absolute(mean);
    const V square = mean * mean;
    const V square_tiny = square + Limits::kTiny;
    if constexpr (W::kGeneral) ordinary = find_ordinary(window, square, square_tiny);
    each<W::N>(count, [&](int i) ADAPOOL_LAMBDA {
      const V denominator = fma(x[i], x[i], square_tiny);
      const V difference = absolute(x[i]) - mean_size;
      const V numerator = fnma(difference, difference, V{});
      V t;
      if constexpr (kSlopes) {
        reciprocal[i] = reciprocal_of(denominator);
        t = numerator * reciprocal[i];
      } else {
        t = divide(numerator, denominator);
      }
      if constexpr (W::kGeneral) t = select(ordinary, t, scaled_exponent(x[i]));
      e[i] = t;
    });
    exp_all<true>(window, e);
    total = sum_of(e, count);
    if constexpr (!W::kGeneral) ordinary = find_ordinary(window, square, square_tiny);
  }

  ADAPOOL_INLINE V origin() const { return V{}; }

  // d_k·D_x(x_k, m) + (1/K)·Σ d_i·D_m(x_i, m).
  ADAPOOL_INLINE void score_gradient(W& window, const Values<V, W::N>& d,
                                     Values<V, W::N>& out) const {
    const auto& x = window.x;
    const int count = window.size();
    Values<V, W::N> by_mean;
    by_mean.lend(window.room);
    each<W::N>(count, [&](int i) ADAPOOL_LAMBDA {
      const V x_size = absolute(x[i]);
      // 2(m² - x²)/(x² + m²)², factor by factor: the square of a reciprocal may overflow.
      const V slope = ((mean_size - x_size) * reciprocal[i]) *
                      ((mean_size + x_size) * reciprocal[i]) * S(2);
      const V part = d[i] * slope;
      V by_x = mean_size * part;
      by_mean[i] = x_size * part;
      if constexpr (W::kGeneral) {
        V size, a, b;
        scaled(x_size, size, a, b);
        const V square = fma(a, a, b * b);
        const V scaled_slope = ((b - a) * (b + a) * S(2)) / (square * square);
        // Divided last: d is as small as x where both are tiny.
        const M none = equal(size, V{});
        by_x = select(ordinary, by_x, where_not(none, d[i] * (b * scaled_slope) / size));
        by_mean[i] = select(ordinary, by_mean[i], where_not(none, d[i] * (a * scaled_slope) / size));
      }
      // The sign of 0 is 0: there D has a kink.
      out[i] = where_not(equal(x_size, V{}), flip_sign_by(by_x, x[i]));
      if constexpr (W::kMasked) by_mean[i] = window.kept(i, by_mean[i]);
    });
    V shared = flip_sign_by(-window.lanes.per_count(sum_of(by_mean, count)), mean);
    if constexpr (W::kGeneral) shared = where_not(equal(mean_size, V{}), shared);
    each<W::N>(count, [&](int i) ADAPOOL_LAMBDA { out[i] = out[i] + shared; });
  }

 private:
  ADAPOOL_INLINE M find_ordinary(const W& window, V square, V square_tiny) const {
    const auto& x = window.x;
    const V sum = sum_by<W::N, V>(window.size(), [&](int i) ADAPOOL_LAMBDA {
      return fma(x[i], x[i], square_tiny);
    });
    M found = both(at_most(splat(Limits::kSmallSquare), square),
                   at_most(sum, splat(Limits::kLargeSquare)));
    // Windows of zeros are common behind a ReLU and are right as they stand.
    if (W::kGeneral || !all(found)) {
      const V sizes = sum_by<W::N, V>(
          window.size(), [&](int i) ADAPOOL_LAMBDA { return absolute(x[i]); });
      found = either(found, equal(sizes, V{}));
    }
    return found;
  }
  static ADAPOOL_INLINE V where_not(M m, V v) { return select(m, V{}, v); }

  // |x_i| and |m| divided by the larger of them; plain divisions, since it may be denormal.
  ADAPOOL_INLINE void scaled(V x_size, V& size, V& a, V& b) const {
    size = larger(x_size, mean_size);
    a = x_size / size;
    b = mean_size / size;
  }
  ADAPOOL_INLINE V scaled_exponent(V x) const {
    V size, a, b;
    scaled(absolute(x), size, a, b);
    const V t = -((a - b) * (a - b)) / fma(a, a, b * b);
    return select(equal(size, V{}), splat(S(-1)), t);
  }
};

// exp(x_i - max x).
template <class W, bool kSlopes>
struct Em {
  typedef typename W::S S;
  typedef typename W::V V;

  Values<V, W::N> e;
  V total;
  typename W::M ordinary;

  ADAPOOL_INLINE void compute(W& window) {
    const auto& x = window.x;
    const int count = window.size();
    e.lend(window.room);
    V top;
    if constexpr (W::N == 4) {
      const auto value = [&](int i) ADAPOOL_LAMBDA { return window.kept_or(i, x[i], x[0]); };
      top = larger(larger(value(0), value(1)), larger(value(2), value(3)));
    } else {
      const V none = splat(-S(__builtin_inf()));
      top = none;
      each<W::N>(count, [&](int i) ADAPOOL_LAMBDA { top = larger(top, window.kept_or(i, x[i], none)); });
    }
    each<W::N>(count, [&](int i) ADAPOOL_LAMBDA { e[i] = x[i] - top; });
    exp_all<false>(window, e);
    total = sum_of(e, count);
    ordinary = every(S());
  }

  ADAPOOL_INLINE V origin() const { return V{}; }

  ADAPOOL_INLINE void score_gradient(W& window, const Values<V, W::N>& d,
                                     Values<V, W::N>& out) const {
    each<W::N>(window.size(), [&](int i) ADAPOOL_LAMBDA { out[i] = d[i]; });
  }
};

// d_min/d_i of the distances to the mean, |x_i - m| or huber's. Where some distance is 0 the weights are
// constants: those positions share the weight, or are dropped (see ops/reference/weighting.py).
template <class W, bool kSlopes>
struct Idw {
  typedef typename W::S S;
  typedef typename W::V V;
  typedef typename W::M M;

  Values<V, W::N> e;
  V total, mean;
  M ordinary;
  M some;  // windows with a distance of 0

  ADAPOOL_INLINE void compute(W& window) {
    const auto& x = window.x;
    const int count = window.size();
    const Rules<S>& rules = window.lanes.rules;
    e.lend(window.room);
    mean = window.mean();
    ordinary = W::kGeneral ? every(S()) : W::is_finite(mean);
    const V infinity = splat(S(__builtin_inf()));
    V nearest = infinity;
    V zeros{};
    each<W::N>(count, [&](int i) ADAPOOL_LAMBDA {
      const V d = absolute(x[i] - mean);
      const M zero = equal(d, V{});
      zeros = zeros + window.kept(i, where(zero, splat(S(1))));
      nearest = smaller(window.kept_or(i, select(zero, infinity, d), infinity), nearest);
    });
    some = less(V{}, zeros);
    const M everywhere = equal(nearest, infinity);
    nearest = select(everywhere, splat(S(1)), nearest);
    const V long_nearest = rules.huber ? hypotenuse(rules.delta, nearest) + rules.delta : nearest;
    // What positions at the mean weigh, and whether the others weigh nothing.
    const V weight = rules.drop ? where(everywhere, splat(S(1))) : splat(S(1));
    each<W::N>(count, [&](int i) ADAPOOL_LAMBDA {
      const V d = absolute(x[i] - mean);
      const M zero = equal(d, V{});
      const V divisor = select(zero, splat(S(1)), d);
      V ratio = nearest / divisor;
      if (rules.huber) {
        const V longer = long_nearest / (hypotenuse(rules.delta, divisor) + rules.delta);
        ratio = ratio * (ratio / select(equal(longer, V{}), splat(S(1)), longer));
      }
      if (!rules.drop) ratio = select(some, V{}, ratio);
      e[i] = window.kept(i, select(zero, weight, ratio));
    });
    total = sum_of(e, count);
  }

  // Of the differences, which are what a small d_i divides: the rounding of x_i would drown them.
  ADAPOOL_INLINE V origin() const { return mean; }

  // The softmax's rule with the score -log d.
  ADAPOOL_INLINE void score_gradient(W& window, const Values<V, W::N>& d,
                                     Values<V, W::N>& out) const {
    const Rules<S>& rules = window.lanes.rules;
    each<W::N>(window.size(), [&](int i) ADAPOOL_LAMBDA {
      const V difference = window.x[i] - mean;
      V g = d[i];
      if (rules.huber) g = g * (S(1) + rules.delta / hypotenuse(rules.delta, absolute(difference)));
      g = g / select(equal(difference, V{}), splat(S(1)), difference);
      out[i] = window.kept(i, select(some, V{}, -g));
    });
    const V shared = window.lanes.per_count(sum_of(out, window.size()));
    each<W::N>(window.size(), [&](int i) ADAPOOL_LAMBDA { out[i] = out[i] - shared; });
  }

 private:
  // √(δ² + d²), without squares that overflow or vanish.
  static ADAPOOL_INLINE V hypotenuse(S delta, V d) {
    const V high = larger(d, splat(delta));
    const V ratio = smaller(d, splat(delta)) / high;
    return high * root(fma(ratio, ratio, splat(S(1))));
  }
};

}  // namespace adapool::ADAPOOL_ISA
