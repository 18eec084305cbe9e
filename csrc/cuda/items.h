// What one thread does, for any geometry, layout and strides; see windows.h. Each item is a type
// with `run(problem, number)`, which the device's kernels and the tests' emulation call alike.
#pragma once

#include "plan.h"
#include "windows.h"

namespace adapool::cuda {

// --- pooling ---------------------------------------------------------------------------------

template <class Scalar, class Method>
ADAPOOL_HD void write_weights(const Window<Scalar>& w,
                              const State<Accumulator<Scalar>, Method>& s) {
  using T = Accumulator<Scalar>;
  const Problem& p = w.p;
  w.each_entry([&](const Inner& inner) {
    const bool inside = w.contains(inner);
    const T x = inside ? read<Scalar>(p.maps[kX], w.pixel(inner)) : T{0};
    write<Scalar>(p.maps[kMask], w.entry(inner), inside ? s.first.weight(x, p.rule) : T{0});
    if constexpr (Method::kMixed) {
      write<Scalar>(p.maps[kMaskEm], w.entry(inner), inside ? s.second.weight(x, p.rule) : T{0});
    }
  });
}

template <class Scalar, class Method>
ADAPOOL_HD void pool_window(const Window<Scalar>& w) {
  using T = Accumulator<Scalar>;
  const Problem& p = w.p;
  Flow<Scalar, Method, Task::kPool> flow(w);
  flow.weigh();
  T first = 0, second = 0;
  w([&](T x, const Inner&) {
    first += flow.state.first.weight(x, p.rule) * x;
    if constexpr (Method::kMixed) second += flow.state.second.weight(x, p.rule) * x;
  });
  const T y = Method::kMixed ? flow.beta * first + (1 - flow.beta) * second : first;
  write<Scalar>(p.maps[kY], w.place, y);
  if (p.maps[kMask].data != nullptr) write_weights<Scalar, Method>(w, flow.state);
}

template <class Scalar, class Method>
struct PoolItem {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    const Window<Scalar> w(p, place_of(number, p.windows, p.channels_last));
    if constexpr (!std::is_same_v<Scalar, double>) {
      Lane<Method> lane;
      if (is_pair(w)) {
        read_pixels(w, kX, lane.x);
        if (lane.weigh(p.rule)) {
          const float beta = Method::kMixed ? read<Scalar>(p.maps[kBeta], w.place) : 1.0F;
          write<Scalar>(p.maps[kY], w.place, lane.pooled(beta));
          if (p.maps[kMask].data == nullptr) return;
          float first[4], second[4];
          lane.weights(first, second);
          write_entries(w, kMask, first);
          if constexpr (Method::kMixed) write_entries(w, kMaskEm, second);
          return;
        }
      }
    }
    pool_window<Scalar, Method>(w);
  }
};

// --- gradients of pooling; unpooling by recomputed weights, and its gradients -----------------

// Writes the owned pixels of one window (no other contains them); the gradient of beta as the
// result.
template <class Scalar, class Method, Task kTask>
ADAPOOL_HD Accumulator<Scalar> spread_window(const Window<Scalar>& w) {
  using T = Accumulator<Scalar>;
  const Problem& p = w.p;
  Flow<Scalar, Method, kTask> flow(w);
  flow.weigh();
  T grad_beta = 0, grad_y = 0;
  if constexpr (kTask != Task::kLike) grad_beta = flow.differentiate(grad_y);
  if constexpr (kTask == Task::kLikeBackward) write<Scalar>(p.maps[kGradY], w.place, grad_y);
  w.each_owned([&](const Inner& inner) {
    T value = 0;
    if (w.contains(inner) && (kTask != Task::kLikeBackward || p.weight_grad)) {
      value = flow.at(read<Scalar>(p.maps[kX], w.pixel(inner)), inner);
    }
    write<Scalar>(p.maps[kU], w.pixel(inner), value);
  });
  return grad_beta;
}

// The quick way of a whole 2x2 window; whether it was one of ordinary values.
template <class Scalar, class Method, Task kTask>
ADAPOOL_HD bool spread_pair(const Window<Scalar>& w, float& grad_beta) {
  const Problem& p = w.p;
  Lane<Method> lane;
  read_pixels(w, kX, lane.x);
  if (!lane.weigh(p.rule)) return false;
  const float beta = Method::kMixed ? read<Scalar>(p.maps[kBeta], w.place) : 1.0F;
  const float factor = p.gain == 0 ? 4.0F : static_cast<float>(p.gain);
  float out[4];
  if constexpr (kTask == Task::kPoolBackward) {
    float extra[4] = {0, 0, 0, 0}, extra_second[4] = {0, 0, 0, 0};
    const bool has_first = p.maps[kGradMask].data != nullptr;
    const bool has_second = Method::kMixed && p.maps[kGradMaskEm].data != nullptr;
    if (has_first) read_entries(w, kGradMask, extra);
    if (has_second) read_entries(w, kGradMaskEm, extra_second);
    const bool any = has_first || has_second;
    grad_beta = lane.pool_backward(read<Scalar>(p.maps[kGradient], w.place), beta, p.weight_grad,
                                   any ? extra : nullptr, any ? extra_second : nullptr, out);
  } else if constexpr (kTask == Task::kLike) {
    lane.like(factor * read<Scalar>(p.maps[kY], w.place), beta, out);
  } else {
    float v[4], grad_y;
    read_pixels(w, kGradient, v);
    ADAPOOL_UNROLL
    for (int i = 0; i < 4; ++i) v[i] *= factor;
    const float y = read<Scalar>(p.maps[kY], w.place);
    grad_beta = lane.like_backward(v, y, beta, p.weight_grad, out, grad_y);
    write<Scalar>(p.maps[kGradY], w.place, grad_y);
  }
  write_owned(w, out);
  return true;
}

// Windows that don't overlap.
template <class Scalar, class Method, Task kTask>
struct SpreadItem {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    const Window<Scalar> w(p, place_of(number, p.windows, p.channels_last));
    Accumulator<Scalar> grad_beta = 0;
    bool done = false;
    if constexpr (!std::is_same_v<Scalar, double>) {
      if (is_pair(w)) done = spread_pair<Scalar, Method, kTask>(w, grad_beta);
    }
    if (!done) grad_beta = spread_window<Scalar, Method, kTask>(w);
    keep<Scalar>(p, w.place, grad_beta);
  }
};

// Windows that overlap, first: what their pixels need to know of them.
template <class Scalar, class Method, Task kTask>
struct StateItem {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    using T = Accumulator<Scalar>;
    const Window<Scalar> w(p, place_of(number, p.windows, p.channels_last));
    Flow<Scalar, Method, kTask> flow(w);
    flow.weigh();
    if constexpr (kTask == Task::kLike) {
      flow.state.of_first = {0, 0};
      if constexpr (Method::kMixed) flow.state.of_second = {0, 0};
    } else {
      T grad_y;
      const T grad_beta = flow.differentiate(grad_y);
      if constexpr (kTask == Task::kLikeBackward) write<Scalar>(p.maps[kGradY], w.place, grad_y);
      keep<Scalar>(p, w.place, grad_beta);
    }
    constexpr int kFields = sizeof(flow.state) / sizeof(T);
    T fields[kFields];
    memcpy(fields, &flow.state, sizeof(flow.state));
    auto* states = static_cast<T*>(p.states);
    ADAPOOL_UNROLL
    for (int i = 0; i < kFields; ++i) states[int64_t{i} * p.windows_count + number] = fields[i];
  }
};

// Windows that overlap, then: every pixel's sum over the windows that contain it, always in the
// same order.
template <class Scalar, class Method, Task kTask>
struct GatherItem {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    using T = Accumulator<Scalar>;
    const Geometry& g = p.geometry;
    const Place pixel = place_of(number, p.pixels, p.channels_last);
    const T x = read<Scalar>(p.maps[kX], pixel);
    int32_t first[3], last[3];
    ADAPOOL_UNROLL
    for (int dim = 0; dim < 3; ++dim) windows_at(g, dim, pixel.at[dim], first[dim], last[dim]);
    T sum = 0;
    Place at = pixel;
    for (at.at[0] = first[0]; at.at[0] <= last[0]; ++at.at[0]) {
      for (at.at[1] = first[1]; at.at[1] <= last[1]; ++at.at[1]) {
        for (at.at[2] = first[2]; at.at[2] <= last[2]; ++at.at[2]) {
          sum += of_window(p, pixel, at, x);
        }
      }
    }
    if (kTask == Task::kLike && p.gain == 0) {
      const int32_t cover = cover_of(g, pixel.at);
      sum /= static_cast<T>(cover == 0 ? 1 : cover);
    }
    if (kTask == Task::kLikeBackward && !p.weight_grad) sum = 0;
    write<Scalar>(p.maps[kU], pixel, sum);
  }

 private:
  ADAPOOL_HD static Accumulator<Scalar> of_window(const Problem& p, const Place& pixel,
                                                  const Place& at, Accumulator<Scalar> x) {
    using T = Accumulator<Scalar>;
    const Window<Scalar> w(p, at);
    Flow<Scalar, Method, kTask> flow(w);
    constexpr int kFields = sizeof(flow.state) / sizeof(T);
    T fields[kFields];
    const auto* states = static_cast<const T*>(p.states);
    const uint32_t number = window_number(p, pixel, at.at);
    ADAPOOL_UNROLL
    for (int i = 0; i < kFields; ++i) fields[i] = states[int64_t{i} * p.windows_count + number];
    memcpy(&flow.state, fields, sizeof(flow.state));
    const Inner inner{{pixel.at[0] - w.start[0], pixel.at[1] - w.start[1],
                       pixel.at[2] - w.start[2]}};
    return flow.at(x, inner);
  }
};

// --- unpooling by masks ----------------------------------------------------------------------

// The weight of a mask's entry: one mask's, or two masks' mixed.
template <class Scalar>
ADAPOOL_HD Accumulator<Scalar> kept_weight(const Problem& p, const Place& window,
                                           const Place& entry) {
  using T = Accumulator<Scalar>;
  const T w = read<Scalar>(p.maps[kMask], entry);
  if (p.maps[kMaskEm].data == nullptr) return w;
  const T beta = read<Scalar>(p.maps[kBeta], window);
  return beta * w + (1 - beta) * read<Scalar>(p.maps[kMaskEm], entry);
}

template <class Scalar>
struct UnpoolItem {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    using T = Accumulator<Scalar>;
    const Geometry& g = p.geometry;
    const Place pixel = place_of(number, p.pixels, p.channels_last);
    int32_t first[3], last[3];
    ADAPOOL_UNROLL
    for (int dim = 0; dim < 3; ++dim) windows_at(g, dim, pixel.at[dim], first[dim], last[dim]);
    T sum = 0;
    Place at = pixel;
    for (at.at[0] = first[0]; at.at[0] <= last[0]; ++at.at[0]) {
      for (at.at[1] = first[1]; at.at[1] <= last[1]; ++at.at[1]) {
        for (at.at[2] = first[2]; at.at[2] <= last[2]; ++at.at[2]) {
          const Window<Scalar> w(p, at);
          const T factor = p.gain == 0 ? w.count : static_cast<T>(p.gain);
          const Inner inner{{pixel.at[0] - w.start[0], pixel.at[1] - w.start[1],
                             pixel.at[2] - w.start[2]}};
          sum += read<Scalar>(p.maps[kY], at) * factor * kept_weight<Scalar>(p, at, w.entry(inner));
        }
      }
    }
    if (p.gain == 0) {
      const int32_t cover = cover_of(g, pixel.at);
      sum /= static_cast<T>(cover == 0 ? 1 : cover);
    }
    write<Scalar>(p.maps[kU], pixel, sum);
  }
};

template <class Scalar>
struct UnpoolBackwardItem {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    using T = Accumulator<Scalar>;
    const Window<Scalar> w(p, place_of(number, p.windows, p.channels_last));
    const bool mixed = p.maps[kMaskEm].data != nullptr;
    const T beta = mixed ? read<Scalar>(p.maps[kBeta], w.place) : T{1};
    const T y = read<Scalar>(p.maps[kY], w.place);
    const T factor = p.gain == 0 ? w.count : static_cast<T>(p.gain);
    T grad_y = 0, first = 0, second = 0;
    w.each_entry([&](const Inner& inner) {
      const Place entry = w.entry(inner);
      T spread = 0;
      if (w.contains(inner)) {
        const Place pixel = w.pixel(inner);
        spread = read<Scalar>(p.maps[kGradient], pixel);
        if (p.gain == 0) spread /= static_cast<T>(cover_of(p.geometry, pixel.at));
        spread *= factor;
        const T a = read<Scalar>(p.maps[kMask], entry);
        const T b = mixed ? read<Scalar>(p.maps[kMaskEm], entry) : T{0};
        first += a * spread;
        second += b * spread;
        grad_y += (beta * a + (1 - beta) * b) * spread;
      }
      write<Scalar>(p.maps[kGradMask], entry, beta * (spread * y));
      if (mixed) write<Scalar>(p.maps[kGradMaskEm], entry, (1 - beta) * (spread * y));
    });
    write<Scalar>(p.maps[kGradY], w.place, grad_y);
    keep<Scalar>(p, w.place, y * (first - second));
  }
};

// --- the gradient of beta --------------------------------------------------------------------

// A tree of sums over (outer, count, inner): every item adds up to 2·kSumGroup of the `count`,
// which lie `groups` apart, so that neighbouring items read neighbours.
template <class T>
struct SumItem {
  ADAPOOL_HD static void run(const SumProblem& p, uint32_t number) {
    uint32_t inner = number;
    uint32_t group = p.inner.divide(inner);
    const uint32_t outer = p.groups.divide(group);
    const int64_t begin = int64_t{outer} * p.count * p.inner.by + inner;
    const auto* in = static_cast<const T*>(p.in);
    T sum = 0;
    for (uint32_t i = group; i < p.count; i += p.groups.by) {
      sum += in[begin + int64_t{i} * p.inner.by];
    }
    static_cast<T*>(p.out)[number] = sum;
  }
};

}  // namespace adapool::cuda
