// The weights that each method gives to the values of a window, and what gradients of these weights
// are to the values: csrc/cuda's side of adapool_sr/ops/reference/weighting.py, formula by formula.
// Holds for every finite value; a NaN or infinity shows in its own window.
//
// A method is told its window by `each`, which calls a function with every value inside the image,
// and keeps a few numbers (its state) from which the weight of any value follows. So no array of a
// window's size is needed, and any kernel size works.
#pragma once

#include "problem.h"

namespace adapool::cuda {

template <class T, class Each>
ADAPOOL_HD T mean_of(const Each& each, T count) {
  T sum = 0;
  each([&](T x, const auto&) { sum += x; });
  const T mean = sum / count;
  if (is_finite(mean)) return mean;
  // The sum of values near the largest float overflows where their mean does not.
  sum = 0;
  each([&](T x, const auto&) { sum += x / count; });
  return sum;
}

// Softmax of D(x, m) = 2·|x·m| / (x² + m²), 0 where both are 0.
template <class T>
struct Edscw {
  T mean;
  T total;

  template <class Each>
  ADAPOOL_HD void weigh(const Each& each, T count, const Rule&) {
    mean = mean_of<T>(each, count);
    total = 0;
    each([&](T x, const auto&) { total += part(x); });
  }
  ADAPOOL_HD T weight(T x, const Rule&) const { return part(x) / total; }
  // What the output's gradient is multiplied by.
  ADAPOOL_HD T lever(T x) const { return x; }

  // What d, the gradient of a value's score, is to the value, and its share in that of the mean.
  ADAPOOL_HD void slopes(T x, T d, const Rule&, T& by_value, T& by_mean) const {
    T a = absolute(x);
    T b = absolute(mean);
    T scale = a < b ? b : a;
    const T zero = scale == 0 ? 1 : 0;
    scale += zero;
    a /= scale;
    b /= scale;
    const T squares = a * a + b * b + zero;
    const T slope = 2 * (b * b - a * a) / (squares * squares);
    // Divided last: d is as small as x where both are tiny.
    by_value = d * (sign_of(x) * b * slope) / scale;
    by_mean = d * (a * slope) / scale;
  }
  // What every value gets for its part in the mean.
  ADAPOOL_HD T shared(T by_mean, T count) const { return -sign_of(mean) * by_mean / count; }

 private:
  // Of the ratio of the smaller to the larger, so that no square overflows or vanishes.
  ADAPOOL_HD T part(T x) const {
    const T a = absolute(x);
    const T b = absolute(mean);
    const T high = a < b ? b : a;
    const T low = a < b ? a : b;
    const T ratio = low / not_zero(high);
    return exponential(2 * ratio / (1 + ratio * ratio));
  }
};

// Softmax of the values, shifted by their maximum.
template <class T>
struct Em {
  T top;
  T total;

  template <class Each>
  ADAPOOL_HD void weigh(const Each& each, T, const Rule&) {
    top = -INFINITY;
    each([&](T x, const auto&) { top = x > top ? x : top; });
    total = 0;
    each([&](T x, const auto&) { total += exponential(x - top); });
  }
  ADAPOOL_HD T weight(T x, const Rule&) const { return exponential(x - top) / total; }
  ADAPOOL_HD T lever(T x) const { return x; }
  ADAPOOL_HD void slopes(T, T d, const Rule&, T& by_value, T& by_mean) const {
    by_value = d;
    by_mean = 0;
  }
  ADAPOOL_HD T shared(T, T) const { return 0; }
};

// 1/d(x, m), normalised, as d_min/d. Where a distance is 0 the weights are constants.
template <class T>
struct Idw {
  T mean;
  T nearest;  // of the distances that aren't 0; 1 if there are none
  T total;
  T zeros;    // 0: no distance is 0; 1: some are; 2: all

  template <class Each>
  ADAPOOL_HD void weigh(const Each& each, T count, const Rule& rule) {
    mean = mean_of<T>(each, count);
    nearest = INFINITY;
    zeros = 0;
    each([&](T x, const auto&) {
      const T d = absolute(x - mean);
      if (d == 0) {
        zeros = 1;
      } else {
        nearest = d < nearest ? d : nearest;
      }
    });
    if (nearest == INFINITY) {
      nearest = 1;
      zeros *= 2;
    }
    total = 0;
    each([&](T x, const auto&) { total += part(x, rule); });
  }
  ADAPOOL_HD T weight(T x, const Rule& rule) const { return part(x, rule) / total; }
  // Of the difference, which is what a small distance divides: the rounding of x would drown it.
  ADAPOOL_HD T lever(T x) const { return x - mean; }
  ADAPOOL_HD void slopes(T x, T d, const Rule& rule, T& by_value, T& by_mean) const {
    const T difference = x - mean;
    const T distance = absolute(difference);
    if (rule.huber) d *= 1 + static_cast<T>(rule.delta) / root(distance, rule);
    by_value = zeros != 0 ? 0 : -d * sign_of(difference) / not_zero(distance);
    by_mean = by_value;
  }
  ADAPOOL_HD T shared(T by_mean, T count) const { return -by_mean / count; }

 private:
  // √(δ² + d²)
  ADAPOOL_HD static T root(T distance, const Rule& rule) {
    return hypotenuse(static_cast<T>(rule.delta), distance);
  }
  ADAPOOL_HD T part(T x, const Rule& rule) const {
    const T distance = absolute(x - mean);
    if (zeros != 0 && (distance == 0 || !rule.drop)) {
      return distance == 0 && (!rule.drop || zeros == 2) ? 1 : 0;
    }
    const T ratio = nearest / not_zero(distance);
    if (!rule.huber) return ratio;
    // h(nearest)/h(d) with h(d) = δ·d² / (√(δ²+d²) + δ), without squares.
    const auto delta = static_cast<T>(rule.delta);
    const T longer = root(distance, rule) + delta;
    const T length = root(nearest, rule) + delta;
    return ratio * (ratio / not_zero(length / longer));
  }
};

// Nothing: the second part of a method that has one.
template <class T>
struct None {};

// What an operator is made of: one weighting, or two that beta mixes.
struct AdaMethod {
  static constexpr bool kMixed = true;
  template <class T>
  using First = Edscw<T>;
  template <class T>
  using Second = Em<T>;
};
template <template <class> class Weighting>
struct SingleMethod {
  static constexpr bool kMixed = false;
  template <class T>
  using First = Weighting<T>;
  template <class T>
  using Second = None<T>;
};
using EdscwMethod = SingleMethod<Edscw>;
using EmMethod = SingleMethod<Em>;
using IdwMethod = SingleMethod<Idw>;

}  // namespace adapool::cuda
