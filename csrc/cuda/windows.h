// The work items of any geometry, layout and strides: pooling a window, the gradient of its pixels
// where windows don't overlap, and, where they do, a window's state first and then each pixel's sum
// over the windows that contain it (gather). Whole 2x2 windows of ordinary values take the quick
// way of lanes.h, which gives them the same bits as in tiles.h.
#pragma once

#include "lanes.h"

namespace adapool::cuda {

enum class Task { kPool, kPoolBackward, kLike, kLikeBackward };

// A position inside a window.
struct Inner {
  int32_t at[3];
};

template <class Scalar>
struct Window {
  using T = Accumulator<Scalar>;
  const Problem& p;
  Place place;
  int32_t start[3];
  int32_t low[3];   // positions inside the image: [low, high)
  int32_t high[3];
  T count;

  ADAPOOL_HD Window(const Problem& problem, const Place& window) : p(problem), place(window) {
    count = 1;
    ADAPOOL_UNROLL
    for (int dim = 0; dim < 3; ++dim) {
      const Geometry& g = p.geometry;
      start[dim] = place.at[dim] * g.stride[dim] - g.padding[dim];
      low[dim] = start[dim] < 0 ? -start[dim] : 0;
      const int32_t left = g.size[dim] - start[dim];
      high[dim] = left < g.kernel[dim] ? left : g.kernel[dim];
      count *= static_cast<T>(high[dim] - low[dim]);
    }
  }
  ADAPOOL_HD bool contains(const Inner& inner) const {
    bool inside = true;
    ADAPOOL_UNROLL
    for (int dim = 0; dim < 3; ++dim) {
      inside = inside && inner.at[dim] >= low[dim] && inner.at[dim] < high[dim];
    }
    return inside;
  }
  ADAPOOL_HD Place pixel(const Inner& inner) const {
    return {place.batch,
            place.channel,
            {start[0] + inner.at[0], start[1] + inner.at[1], start[2] + inner.at[2]}};
  }
  // Of a mask.
  ADAPOOL_HD Place entry(const Inner& inner) const {
    const auto& k = p.geometry.kernel;
    return {place.batch,
            place.channel,
            {place.at[0] * k[0] + inner.at[0], place.at[1] * k[1] + inner.at[1],
             place.at[2] * k[2] + inner.at[2]}};
  }
  template <class Function>
  ADAPOOL_HD static void each_between(const int32_t (&from)[3], const int32_t (&to)[3],
                                      const Function& function) {
    Inner inner;
    for (inner.at[0] = from[0]; inner.at[0] < to[0]; ++inner.at[0]) {
      for (inner.at[1] = from[1]; inner.at[1] < to[1]; ++inner.at[1]) {
        for (inner.at[2] = from[2]; inner.at[2] < to[2]; ++inner.at[2]) function(inner);
      }
    }
  }
  // function(x, inner) for every value inside the image.
  template <class Function>
  ADAPOOL_HD void operator()(const Function& function) const {
    each_between(low, high, [&](const Inner& inner) {
      function(read<Scalar>(p.maps[kX], pixel(inner)), inner);
    });
  }
  // function(inner) for every entry of the mask.
  template <class Function>
  ADAPOOL_HD void each_entry(const Function& function) const {
    const int32_t none[3] = {0, 0, 0};
    each_between(none, p.geometry.kernel, function);
  }
  // function(inner) for every pixel that is this window's to write where windows don't overlap: up
  // to the next window, and the image's first and last ones.
  template <class Function>
  ADAPOOL_HD void each_owned(const Function& function) const {
    int32_t from[3], to[3];
    ADAPOOL_UNROLL
    for (int dim = 0; dim < 3; ++dim) {
      const Geometry& g = p.geometry;
      from[dim] = place.at[dim] == 0 ? -start[dim] : 0;
      to[dim] = place.at[dim] == g.out[dim] - 1 ? g.size[dim] - start[dim] : g.stride[dim];
    }
    each_between(from, to, function);
  }
};

// --- the weights of a window and their gradients ----------------------------------------------

// What all values of a window share of a part's gradients: Σ w·G, and what the mean brings.
template <class T>
struct Shares {
  T mean;
  T shared;
};

// All that the pixels of a window need to know of it. Numbers of one type, kept as such in memory.
template <class T, class Method>
struct State {
  typename Method::template First<T> first;
  Shares<T> of_first;
};
template <class T>
struct State<T, AdaMethod> {
  Edscw<T> first;
  Shares<T> of_first;
  Em<T> second;
  Shares<T> of_second;
};

template <class Scalar, class Method, Task kTask>
struct Flow {
  using T = Accumulator<Scalar>;
  static constexpr bool kMixed = Method::kMixed;
  static constexpr bool kLikes = kTask == Task::kLike || kTask == Task::kLikeBackward;

  const Window<Scalar>& window;
  const Problem& p;
  T beta;
  T value;   // the gradient of y, or y itself
  T factor;  // of unpooling
  State<T, Method> state;

  ADAPOOL_HD explicit Flow(const Window<Scalar>& w) : window(w), p(w.p) {
    beta = kMixed ? read<Scalar>(p.maps[kBeta], w.place) : T{1};
    value = 0;
    if constexpr (kTask != Task::kPool) {
      value = read<Scalar>(p.maps[kLikes ? kY : kGradient], w.place);
    }
    factor = p.gain == 0 ? w.count : static_cast<T>(p.gain);
  }

  ADAPOOL_HD void weigh() {
    state.first.weigh(window, window.count, p.rule);
    if constexpr (kMixed) state.second.weigh(window, window.count, p.rule);
  }
  ADAPOOL_HD T weight(T x) const {
    const T w = state.first.weight(x, p.rule);
    if constexpr (kMixed) {
      return beta * w + (1 - beta) * state.second.weight(x, p.rule);
    } else {
      return w;
    }
  }
  // The gradient of u at a pixel times c, the factor of unpooling there.
  ADAPOOL_HD T spread(const Inner& inner) const {
    const Place pixel = window.pixel(inner);
    T v = read<Scalar>(p.maps[kGradient], pixel);
    if (p.gain == 0) v /= static_cast<T>(cover_of(p.geometry, pixel.at));
    return v * factor;
  }
  // G, the gradient of one weight of a part that `share` (beta or 1 - beta) of the result comes
  // from.
  template <class Part>
  ADAPOOL_HD T incoming(const Part& part, T share, Role mask, T x, const Inner& inner) const {
    if constexpr (kLikes) return share * (spread(inner) * value);
    T gradient = share * value * part.lever(x);
    if (p.maps[mask].data != nullptr) {
      gradient += read<Scalar>(p.maps[mask], window.entry(inner));
    }
    return gradient;
  }
  template <class Part>
  ADAPOOL_HD Shares<T> shares(const Part& part, T share, Role mask) const {
    Shares<T> result{0, 0};
    window([&](T x, const Inner& inner) {
      result.mean += part.weight(x, p.rule) * incoming(part, share, mask, x, inner);
    });
    T sum = 0;
    window([&](T x, const Inner& inner) {
      T by_value, by_mean;
      const T gradient = incoming(part, share, mask, x, inner) - result.mean;
      part.slopes(x, part.weight(x, p.rule) * gradient, p.rule, by_value, by_mean);
      sum += by_mean;
    });
    result.shared = part.shared(sum, window.count);
    return result;
  }
  // The state but for the weights, and the gradients that a window has: of beta (the result) and of
  // y.
  ADAPOOL_HD T differentiate(T& grad_y) {
    state.of_first = {0, 0};
    if constexpr (kMixed) state.of_second = {0, 0};
    if (p.weight_grad) {
      state.of_first = shares(state.first, beta, kGradMask);
      if constexpr (kMixed) state.of_second = shares(state.second, 1 - beta, kGradMaskEm);
    }
    T first = 0, second = 0;
    grad_y = 0;
    window([&](T x, const Inner& inner) {
      const T through = kLikes ? spread(inner) : x;
      first += state.first.weight(x, p.rule) * through;
      if constexpr (kMixed) second += state.second.weight(x, p.rule) * through;
      if constexpr (kLikes) grad_y += weight(x) * through;
    });
    return value * (first - second);
  }
  template <class Part>
  ADAPOOL_HD T part_at(const Part& part, const Shares<T>& of, T share, Role mask, T x,
                       const Inner& inner) const {
    const T w = part.weight(x, p.rule);
    T result = kLikes ? 0 : share * value * w;
    if (p.weight_grad) {
      T by_value, by_mean;
      const T d = w * (incoming(part, share, mask, x, inner) - of.mean);
      part.slopes(x, d, p.rule, by_value, by_mean);
      result += by_value + of.shared;
    }
    return result;
  }
  // What the window gives a pixel of value x.
  ADAPOOL_HD T at(T x, const Inner& inner) const {
    if constexpr (kTask == Task::kLike) return factor * value * weight(x);
    T result = part_at(state.first, state.of_first, beta, kGradMask, x, inner);
    if constexpr (kMixed) {
      result += part_at(state.second, state.of_second, 1 - beta, kGradMaskEm, x, inner);
    }
    return result;
  }
};

// Keeps what differentiate() found out of the window.
template <class Scalar>
ADAPOOL_HD void keep(const Problem& p, const Place& window, Accumulator<Scalar> grad_beta) {
  if (p.maps[kGradBeta].data != nullptr) {
    write<Accumulator<Scalar>>(p.maps[kGradBeta], window, grad_beta);
  }
}

// --- whole 2x2 windows, value by value --------------------------------------------------------

template <class Scalar>
ADAPOOL_HD bool is_pair(const Window<Scalar>& w) {
  return w.p.pairs && w.count == 4;
}
ADAPOOL_HD Inner inner_of(int i) { return {{0, i >> 1, i & 1}}; }

template <class Scalar>
ADAPOOL_HD void read_pixels(const Window<Scalar>& w, Role role, float (&to)[4]) {
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) to[i] = read<Scalar>(w.p.maps[role], w.pixel(inner_of(i)));
}
template <class Scalar>
ADAPOOL_HD void read_entries(const Window<Scalar>& w, Role role, float (&to)[4]) {
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) to[i] = read<Scalar>(w.p.maps[role], w.entry(inner_of(i)));
}
template <class Scalar>
ADAPOOL_HD void write_entries(const Window<Scalar>& w, Role role, const float (&from)[4]) {
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) write<Scalar>(w.p.maps[role], w.entry(inner_of(i)), from[i]);
}
// The owned pixels, those outside of the window 0.
template <class Scalar>
ADAPOOL_HD void write_owned(const Window<Scalar>& w, const float (&from)[4]) {
  w.each_owned([&](const Inner& inner) {
    if (!w.contains(inner)) write<Scalar>(w.p.maps[kU], w.pixel(inner), 0);
  });
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) write<Scalar>(w.p.maps[kU], w.pixel(inner_of(i)), from[i]);
}

}  // namespace adapool::cuda
