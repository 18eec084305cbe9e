// The operators' arithmetic on a vector of windows. A method says which maps it takes and gives, how they
// lie, and has one function,
//   template <bool kGeneral, class L> static M run(L& lanes)
// which returns the lanes in which it holds (all, if general; see lanes.h). kCommon: it is used so much
// that 3x3 windows get a loop of their own (lines.h).
#pragma once

#include "problem.h"
#include "weights.h"

namespace adapool::ADAPOOL_ISA {

// β·a + (1-β)·b; exactly a where a = b.
template <class V>
ADAPOOL_INLINE V mix(V beta, V a, V b) {
  return fma(beta, a - b, b);
}
template <class W, class V, int N>
ADAPOOL_INLINE void scale_all(const W& window, const Values<V, N>& e, V factor, Values<V, N>& out) {
  each<N>(window.size(), [&](int i) ADAPOOL_LAMBDA { out[i] = e[i] * factor; });
}

// One weighting of a window, or AdaPool's two, mixed by β: First and eM.
template <template <class, bool> class First, bool kMixed, class W, bool kSlopes>
struct Weights {
  typedef typename W::V V;
  typedef typename W::M M;
  static constexpr int N = W::N;
  First<W, kSlopes> first;
  Em<W, kSlopes> em;
  Values<V, N> w, v;  // normalised

  ADAPOOL_INLINE M compute(W& window) {
    first.compute(window);
    if constexpr (kMixed) em.compute(window);
    return first.ordinary;
  }
  ADAPOOL_INLINE V pooled(const W& window, V beta) const {
    const V y = average(window, first);
    if constexpr (!kMixed) return y;
    const V y_em = average(window, em);
    V both = mix(beta, y, y_em);
    if constexpr (W::kGeneral) {
      // The difference of the largest floats overflows where their mixture does not.
      both = select(W::is_finite(both), both, fma(beta, y, (V{} + 1.0F - beta) * y_em));
    }
    // β = 1 is the first alone, to the last bit.
    return select(equal(beta, V{} + 1.0F), y, both);
  }
  ADAPOOL_INLINE void normalise(W& window) {
    w.lend(window.room);
    scale_all(window, first.e, reciprocal_of(first.total), w);
    if constexpr (kMixed) {
      v.lend(window.room);
      scale_all(window, em.e, reciprocal_of(em.total), v);
    }
  }
  ADAPOOL_INLINE V mixed(int i, V beta) const {
    if constexpr (!kMixed) return w[i];
    return mix(beta, w[i], v[i]);
  }

 private:
  template <class One>
  static ADAPOOL_INLINE V average(const W& window, const One& one) {
    const int count = window.size();
    V y = divide(dot(one.e, window.x, count), one.total);
    if constexpr (W::kGeneral) {
      // A sum of values near the largest float overflows where their average does not.
      // A rounded half of it may be an ulp too large still; that of an infinity is none the less one.
      const V half = sum_by<N, V>(count, [&](int i) ADAPOOL_LAMBDA {
        return one.e[i] / one.total * (window.x[i] * 0.5F);
      });
      const V most = V{} + Simd<typename W::S>::kLargest / 2;
      const V careful = select(W::is_finite(half), larger(-most, smaller(most, half)), half);
      y = select(W::is_finite(y), y, careful * 2.0F);
    }
    return y;
  }
};

// d_i = w_i (g·(x_i - Σ w x) + extra_i - Σ w extra): the gradient of a softmax's scores.
template <class W, class V, int N, class Extra>
ADAPOOL_INLINE void softmax_gradient(W& window, const Values<V, N>& w, V grad, V origin, Extra extra,
                                     Values<V, N>& d) {
  const int count = window.size();
  const auto value = [&](int i) ADAPOOL_LAMBDA { return window.x[i] - origin; };
  const V mean = sum_by<N, V>(count, [&](int i) ADAPOOL_LAMBDA { return w[i] * value(i); });
  if constexpr (Extra::kNone) {
    each<N>(count, [&](int i) ADAPOOL_LAMBDA { d[i] = w[i] * (grad * (value(i) - mean)); });
  } else {
    const V mean_extra = dot(w, extra.values, count);
    each<N>(count, [&](int i) ADAPOOL_LAMBDA {
      d[i] = w[i] * (grad * (value(i) - mean) + (extra.values[i] - mean_extra));
    });
  }
}
struct NoExtra {
  static constexpr bool kNone = true;
};
template <class V, int N>
struct MaskGradient {
  static constexpr bool kNone = false;
  const Values<V, N>& values;
};

template <template <class, bool> class First, bool kMixed, bool kMasks>
struct Pool {
  static constexpr int kWindowsIn = 1, kCellsIn = 0;
  static constexpr int kWindowsOut = kMasks ? (kMixed ? 2 : 1) : 0, kCellsOut = 1;
  static constexpr bool kBeta = kMixed, kBetaGradient = false, kCommon = kMixed && !kMasks;
  static constexpr Lie kReads[3] = {Lie::kMap};
  static constexpr Lie kWrites[2] = {Lie::kMask, Lie::kMask};

  template <bool kGeneral, class L>
  static ADAPOOL_INLINE typename L::M run(L& lanes) {
    typedef Window<L, kGeneral> W;
    W window(lanes);
    Weights<First, kMixed, W, false> weights;
    auto ordinary = weights.compute(window);
    lanes.cell_out = weights.pooled(window, lanes.beta);
    if constexpr (!kGeneral) ordinary = both(ordinary, W::is_finite(lanes.cell_out));
    if constexpr (kMasks) {
      scale_all(window, weights.first.e, reciprocal_of(weights.first.total), lanes.out[0]);
      if constexpr (kMixed) {
        scale_all(window, weights.em.e, reciprocal_of(weights.em.total), lanes.out[1]);
      }
    }
    return ordinary;
  }
};

template <template <class, bool> class First, bool kMixed, bool kMasks>
struct PoolBackward {
  static constexpr int kWindowsIn = kMasks ? (kMixed ? 3 : 2) : 1, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 0;
  static constexpr bool kBeta = kMixed, kBetaGradient = kMixed, kCommon = kMixed && !kMasks;
  static constexpr Lie kReads[3] = {Lie::kMap, Lie::kMask, Lie::kMask};
  static constexpr Lie kWrites[2] = {Lie::kMap};

  template <bool kGeneral, class L>
  static ADAPOOL_INLINE typename L::M run(L& lanes) {
    typedef Window<L, kGeneral> W;
    typedef typename L::S S;
    typedef typename L::V V;
    constexpr int N = L::N;
    W window(lanes);
    const int count = window.size();
    Weights<First, kMixed, W, true> weights;
    const auto ordinary = weights.compute(window);
    weights.normalise(window);
    const auto& w = weights.w;
    const auto& v = weights.v;
    auto& out = lanes.out[0];
    V grad = lanes.cell, grad_em{};
    if constexpr (kMixed) {
      lanes.beta_gradient = grad * (dot(w, window.x, count) - dot(v, window.x, count));
      grad_em = (S(1) - lanes.beta) * grad;
      grad = lanes.beta * grad;
    }
    if (!lanes.rules.weight_grad) {
      each<N>(count, [&](int i) ADAPOOL_LAMBDA {
        out[i] = w[i] * grad;
        if constexpr (kMixed) out[i] = fma(v[i], grad_em, out[i]);
      });
      return ordinary;
    }
    Values<V, N> d;
    d.lend(window.room);
    const V origin = weights.first.origin();
    if constexpr (kMasks) {
      softmax_gradient(window, w, grad, origin, MaskGradient<V, N>{lanes.in[1]}, d);
    } else {
      softmax_gradient(window, w, grad, origin, NoExtra{}, d);
    }
    weights.first.score_gradient(window, d, out);
    each<N>(count, [&](int i) ADAPOOL_LAMBDA { out[i] = fma(w[i], grad, out[i]); });
    if constexpr (kMixed) {
      if constexpr (kMasks) {
        softmax_gradient(window, v, grad_em, V{}, MaskGradient<V, N>{lanes.in[2]}, d);
      } else {
        softmax_gradient(window, v, grad_em, V{}, NoExtra{}, d);
      }
      each<N>(count, [&](int i) ADAPOOL_LAMBDA { out[i] = out[i] + fma(v[i], grad_em, d[i]); });
    }
    return ordinary;
  }
};

// Spreads a cell by the weights of the map that was pooled.
struct UnpoolLike {
  static constexpr int kWindowsIn = 1, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 0;
  static constexpr bool kBeta = true, kBetaGradient = false, kCommon = false;
  static constexpr Lie kReads[3] = {Lie::kMap};
  static constexpr Lie kWrites[2] = {Lie::kShared};

  template <bool kGeneral, class L>
  static ADAPOOL_INLINE typename L::M run(L& lanes) {
    typedef Window<L, kGeneral> W;
    W window(lanes);
    Weights<Edscw, true, W, false> weights;
    const auto ordinary = weights.compute(window);
    weights.normalise(window);
    const auto y = lanes.cell * lanes.factor;
    each<L::N>(window.size(), [&](int i) ADAPOOL_LAMBDA {
      lanes.out[0][i] = y * weights.mixed(i, lanes.beta);
    });
    return ordinary;
  }
};

struct UnpoolLikeBackward {
  static constexpr int kWindowsIn = 2, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 1;
  static constexpr bool kBeta = true, kBetaGradient = true, kCommon = false;
  static constexpr Lie kReads[3] = {Lie::kShared, Lie::kMap};
  static constexpr Lie kWrites[2] = {Lie::kMap};

  template <bool kGeneral, class L>
  static ADAPOOL_INLINE typename L::M run(L& lanes) {
    typedef Window<L, kGeneral> W;
    typedef typename L::S S;
    typedef typename L::V V;
    constexpr int N = L::N;
    W window(lanes, 1);
    const int count = window.size();
    Weights<Edscw, true, W, true> weights;
    const auto ordinary = weights.compute(window);
    weights.normalise(window);
    const auto& w = weights.w;
    const auto& v = weights.v;
    auto& out = lanes.out[0];
    const V beta = lanes.beta;
    Values<V, N> d, dw;
    d.lend(window.room);
    dw.lend(window.room);
    const auto grad = [&](int i) ADAPOOL_LAMBDA { return lanes.in[0][i] * lanes.factor; };
    each<N>(count, [&](int i) ADAPOOL_LAMBDA { dw[i] = window.kept(i, grad(i) * lanes.cell); });
    lanes.cell_out = sum_by<N, V>(count, [&](int i) ADAPOOL_LAMBDA {
      return window.kept(i, weights.mixed(i, beta) * grad(i));
    });
    lanes.beta_gradient = sum_by<N, V>(
        count, [&](int i) ADAPOOL_LAMBDA { return dw[i] * (w[i] - v[i]); });
    if (!lanes.rules.weight_grad) {
      each<N>(count, [&](int i) ADAPOOL_LAMBDA { out[i] = V{}; });
      return ordinary;
    }
    const V mean = dot(w, dw, count);
    const V mean_em = dot(v, dw, count);
    each<N>(count, [&](int i) ADAPOOL_LAMBDA { d[i] = beta * w[i] * (dw[i] - mean); });
    weights.first.score_gradient(window, d, out);
    const V rest = S(1) - beta;
    each<N>(count, [&](int i) ADAPOOL_LAMBDA {
      out[i] = fma(rest * v[i], dw[i] - mean_em, out[i]);
    });
    return ordinary;
  }
};

// Spreads a cell by kept masks: two mixed by β, or one.
template <bool kSingle>
struct Unpool {
  static constexpr int kWindowsIn = kSingle ? 1 : 2, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 0;
  static constexpr bool kBeta = !kSingle, kBetaGradient = false, kCommon = false;
  static constexpr Lie kReads[3] = {Lie::kMask, Lie::kMask};
  static constexpr Lie kWrites[2] = {Lie::kShared};

  template <bool kGeneral, class L>
  static ADAPOOL_INLINE typename L::M run(L& lanes) {
    const auto y = lanes.cell * lanes.factor;
    each<L::N>(lanes.size(), [&](int i) ADAPOOL_LAMBDA {
      auto w = lanes.in[0][i];
      if constexpr (!kSingle) w = mix(lanes.beta, w, lanes.in[1][i]);
      lanes.out[0][i] = y * w;
    });
    return every(typename L::S());
  }
};

template <bool kSingle>
struct UnpoolBackward {
  static constexpr int kWindowsIn = kSingle ? 2 : 3, kCellsIn = 1;
  static constexpr int kWindowsOut = kSingle ? 1 : 2, kCellsOut = 1;
  static constexpr bool kBeta = !kSingle, kBetaGradient = !kSingle, kCommon = false;
  static constexpr Lie kReads[3] = {Lie::kShared, Lie::kMask, Lie::kMask};
  static constexpr Lie kWrites[2] = {Lie::kMask, Lie::kMask};

  template <bool kGeneral, class L>
  static ADAPOOL_INLINE typename L::M run(L& lanes) {
    typedef typename L::V V;
    typedef typename L::S S;
    constexpr int N = L::N;
    const Window<L, kGeneral> window(lanes);
    const int count = window.size();
    const V beta = lanes.beta;
    const auto grad = [&](int i) ADAPOOL_LAMBDA {
      return window.kept(i, lanes.in[0][i] * lanes.factor);
    };
    const auto dw = [&](int i) ADAPOOL_LAMBDA { return window.kept(i, grad(i) * lanes.cell); };
    lanes.cell_out = sum_by<N, V>(count, [&](int i) ADAPOOL_LAMBDA {
      V w = lanes.in[1][i];
      if constexpr (!kSingle) w = mix(beta, w, lanes.in[2][i]);
      return w * grad(i);
    });
    if constexpr (kSingle) {
      each<N>(count, [&](int i) ADAPOOL_LAMBDA { lanes.out[0][i] = dw(i); });
    } else {
      lanes.beta_gradient = sum_by<N, V>(count, [&](int i) ADAPOOL_LAMBDA {
        return dw(i) * (lanes.in[1][i] - lanes.in[2][i]);
      });
      const V rest = S(1) - beta;
      each<N>(count, [&](int i) ADAPOOL_LAMBDA {
        lanes.out[0][i] = window.kept(i, dw(i) * beta);
        lanes.out[1][i] = window.kept(i, dw(i) * rest);
      });
    }
    return every(S());
  }
};

}  // namespace adapool::ADAPOOL_ISA
