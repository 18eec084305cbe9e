// All methods over 2x2 windows. Compiled once per instruction set, with ADAPOOL_ISA naming it; knows
// nothing of torch (common/vector.h says why).
#include "kernels.h"

#include "../common/enlarge.h"
#include "../common/walk.h"

namespace adapool::ADAPOOL_ISA {
namespace {

template <bool kGeneral>
struct Ada {
  Edscw<kGeneral> edscw;
  Em<kGeneral> em;

  template <bool kSlopes>
  ADAPOOL_INLINE void compute(const Window<kGeneral>& window) {
    edscw.template compute<kSlopes>(window);
    em.compute(window);
  }
};

ADAPOOL_INLINE void scale_all(const Vec e[4], Vec factor, Vec out[4]) {
  ADAPOOL_EACH(i) out[i] = e[i] * factor;
}
ADAPOOL_INLINE void normalise(const Vec e[4], Vec total, Vec w[4]) {
  scale_all(e, divide(splat(1.0F), total), w);
}
// β·a + (1-β)·b; exactly a where a = b.
ADAPOOL_INLINE Vec mix(Vec beta, Vec a, Vec b) { return fma(beta, a - b, b); }

template <bool kMasks>
struct Pool {
  static constexpr int kWindowsIn = 1, kCellsIn = 0;
  static constexpr int kWindowsOut = kMasks ? 2 : 0, kCellsOut = 1;
  static constexpr bool kBeta = true, kBetaGradient = false;

  template <bool kGeneral>
  static ADAPOOL_INLINE Mask run(Lanes<Pool, kGeneral>& lanes) {
    const Window<kGeneral> window = lanes.window(0);
    Ada<kGeneral> ada;
    ada.template compute<false>(window);
    const Vec edscw = divide(dot(ada.edscw.e, window.x), ada.edscw.total);
    const Vec em = divide(dot(ada.em.e, window.x), ada.em.total);
    lanes.cells_out[0] = mix(lanes.beta, edscw, em);
    if constexpr (kMasks) {
      normalise(ada.edscw.e, ada.edscw.total, lanes.windows_out[0]);
      normalise(ada.em.e, ada.em.total, lanes.windows_out[1]);
    }
    return ada.edscw.ordinary;
  }
};

template <bool kMasks>
struct PoolBackward {
  static constexpr int kWindowsIn = kMasks ? 3 : 1, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 0;
  static constexpr bool kBeta = true, kBetaGradient = true;

  template <bool kGeneral>
  static ADAPOOL_INLINE Mask run(Lanes<PoolBackward, kGeneral>& lanes) {
    const Window<kGeneral> window = lanes.window(0);
    Ada<kGeneral> ada;
    ada.template compute<true>(window);
    Vec w[4], v[4];
    normalise(ada.edscw.e, ada.edscw.total, w);
    normalise(ada.em.e, ada.em.total, v);
    const Vec y_edscw = dot(w, window.x);
    const Vec y_em = dot(v, window.x);
    const Vec grad = lanes.cells_in[0];
    lanes.beta_gradient = grad * (y_edscw - y_em);
    const Vec grad_edscw = lanes.beta * grad;
    const Vec grad_em = (1.0F - lanes.beta) * grad;
    Vec* out = lanes.windows_out[0];
    if (!lanes.weight_grad) {
      ADAPOOL_EACH(i) out[i] = fma(w[i], grad_edscw, v[i] * grad_em);
      return ada.edscw.ordinary;
    }
    // ds_i = w_i (G_i - Σ w_j G_j) with G_i = g·x_i + the mask's gradient.
    Vec d[4], d_em[4];
    ADAPOOL_EACH(i) {
      d[i] = grad_edscw * (window.x[i] - y_edscw);
      d_em[i] = grad_em * (window.x[i] - y_em);
    }
    if constexpr (kMasks) {
      const Vec mean = dot(w, lanes.windows_in[1]);
      const Vec mean_em = dot(v, lanes.windows_in[2]);
      ADAPOOL_EACH(i) {
        d[i] = d[i] + (lanes.windows_in[1][i] - mean);
        d_em[i] = d_em[i] + (lanes.windows_in[2][i] - mean_em);
      }
    }
    ADAPOOL_EACH(i) d[i] = w[i] * d[i];
    ada.edscw.score_gradient(window, d, out);
    ADAPOOL_EACH(i) {
      out[i] = fma(w[i], grad_edscw, out[i]);
      out[i] = fma(v[i], grad_em + d_em[i], out[i]);
    }
    return ada.edscw.ordinary;
  }
};

template <bool kSingle>
struct Unpool {
  static constexpr int kWindowsIn = kSingle ? 1 : 2, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 0;
  static constexpr bool kBeta = !kSingle, kBetaGradient = false;

  template <bool kGeneral>
  static ADAPOOL_INLINE Mask run(Lanes<Unpool, kGeneral>& lanes) {
    const Vec y = lanes.cells_in[0] * lanes.factor;
    ADAPOOL_EACH(i) {
      const Vec w = lanes.windows_in[0][i];
      const Vec mixed = kSingle ? w : mix(lanes.beta, w, lanes.windows_in[kSingle ? 0 : 1][i]);
      lanes.windows_out[0][i] = y * mixed;
    }
    return every();
  }
};

template <bool kSingle>
struct UnpoolBackward {
  static constexpr int kWindowsIn = kSingle ? 2 : 3, kCellsIn = 1;
  static constexpr int kWindowsOut = kSingle ? 1 : 2, kCellsOut = 1;
  static constexpr bool kBeta = !kSingle, kBetaGradient = !kSingle;

  template <bool kGeneral>
  static ADAPOOL_INLINE Mask run(Lanes<UnpoolBackward, kGeneral>& lanes) {
    constexpr int kSecond = kSingle ? 1 : 2;
    Vec v[4], dw[4], mixed[4], difference[4];
    ADAPOOL_EACH(i) {
      v[i] = lanes.windows_in[0][i] * lanes.factor;
      if constexpr (kGeneral) v[i] = where(lanes.keep[i], v[i]);
      dw[i] = v[i] * lanes.cells_in[0];
      if constexpr (kGeneral) dw[i] = where(lanes.keep[i], dw[i]);
      const Vec w = lanes.windows_in[1][i];
      const Vec em = lanes.windows_in[kSecond][i];
      difference[i] = w - em;
      mixed[i] = kSingle ? w : mix(lanes.beta, w, em);
    }
    lanes.cells_out[0] = dot(mixed, v);
    if constexpr (kSingle) {
      ADAPOOL_EACH(i) lanes.windows_out[0][i] = dw[i];
    } else {
      scale_all(dw, lanes.beta, lanes.windows_out[0]);
      scale_all(dw, 1.0F - lanes.beta, lanes.windows_out[1]);
      if constexpr (kGeneral) {
        for (int k = 0; k < 2; ++k) {
          ADAPOOL_EACH(i) {
            lanes.windows_out[k][i] = where(lanes.keep[i], lanes.windows_out[k][i]);
          }
        }
      }
      lanes.beta_gradient = dot(dw, difference);
    }
    return every();
  }
};

struct UnpoolLike {
  static constexpr int kWindowsIn = 1, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 0;
  static constexpr bool kBeta = true, kBetaGradient = false;

  template <bool kGeneral>
  static ADAPOOL_INLINE Mask run(Lanes<UnpoolLike, kGeneral>& lanes) {
    const Window<kGeneral> window = lanes.window(0);
    Ada<kGeneral> ada;
    ada.template compute<false>(window);
    Vec w[4], v[4];
    normalise(ada.edscw.e, ada.edscw.total, w);
    normalise(ada.em.e, ada.em.total, v);
    const Vec y = lanes.cells_in[0] * lanes.factor;
    ADAPOOL_EACH(i) lanes.windows_out[0][i] = y * mix(lanes.beta, w[i], v[i]);
    return ada.edscw.ordinary;
  }
};

struct UnpoolLikeBackward {
  static constexpr int kWindowsIn = 2, kCellsIn = 1;
  static constexpr int kWindowsOut = 1, kCellsOut = 1;
  static constexpr bool kBeta = true, kBetaGradient = true;

  template <bool kGeneral>
  static ADAPOOL_INLINE Mask run(Lanes<UnpoolLikeBackward, kGeneral>& lanes) {
    const Window<kGeneral> window = lanes.window(1);
    Ada<kGeneral> ada;
    ada.template compute<true>(window);
    Vec w[4], v[4], mixed[4], difference[4], grad[4], dw[4];
    normalise(ada.edscw.e, ada.edscw.total, w);
    normalise(ada.em.e, ada.em.total, v);
    ADAPOOL_EACH(i) {
      grad[i] = lanes.windows_in[0][i] * lanes.factor;
      dw[i] = grad[i] * lanes.cells_in[0];
      difference[i] = w[i] - v[i];
      mixed[i] = mix(lanes.beta, w[i], v[i]);
    }
    lanes.cells_out[0] = dot(mixed, grad);
    lanes.beta_gradient = dot(dw, difference);
    Vec* out = lanes.windows_out[0];
    if (!lanes.weight_grad) {
      ADAPOOL_EACH(i) out[i] = zero();
      return ada.edscw.ordinary;
    }
    const Vec mean = dot(w, dw);
    const Vec mean_em = dot(v, dw);
    Vec d[4];
    ADAPOOL_EACH(i) d[i] = lanes.beta * w[i] * (dw[i] - mean);
    ada.edscw.score_gradient(window, d, out);
    const Vec rest = 1.0F - lanes.beta;
    ADAPOOL_EACH(i) out[i] = fma(rest * v[i], dw[i] - mean_em, out[i]);
    return ada.edscw.ordinary;
  }
};

template <Vec (*kFunction)(Vec)>
void over_array(const float* in, float* out, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = count - i < kLanes ? count - i : kLanes;
    Vec v{};
    __builtin_memcpy(&v, in + i, n * sizeof(float));
    v = kFunction(v);
    __builtin_memcpy(out + i, &v, n * sizeof(float));
  }
}

Vec exp_unit_of(Vec t) { return exp_unit(t); }
Vec exp_nonpositive_of(Vec t) { return exp_nonpositive(t); }

#define ADAPOOL_STRING_OF(name) #name
#define ADAPOOL_STRING(name) ADAPOOL_STRING_OF(name)

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {
    ADAPOOL_STRING(ADAPOOL_ISA),
    walk<Pool<false>>,
    walk<Pool<true>>,
    walk<PoolBackward<false>>,
    walk<PoolBackward<true>>,
    walk<Unpool<false>>,
    walk<Unpool<true>>,
    walk<UnpoolBackward<false>>,
    walk<UnpoolBackward<true>>,
    walk<UnpoolLike>,
    walk<UnpoolLikeBackward>,
    enlarge_rows,
    over_array<exp_unit_of>,
    over_array<exp_nonpositive_of>,
};

}  // namespace adapool::ADAPOOL_ISA
