// The walk over the windows of a Problem: loads what a method needs for kLanes windows, runs it, stores
// what it gives.
//
// A method is a struct that says how many maps it takes and gives, and has one function,
//   template <bool kGeneral> static Mask run(Lanes<Method, kGeneral>&)
// which returns the lanes in which it holds (all, if general; see weights.h).
//
// Contiguous maps put neighbouring windows of a row into the lanes, channels_last ones neighbouring
// channels. Where the lanes don't divide the row, the last whole vector starts early and repeats a few
// windows, which gives the same bits again. What is left (short rows, windows cut by the border) goes
// through buffers and the general path.
#pragma once

#include "problem.h"
#include "weights.h"

namespace adapool::ADAPOOL_ISA {

constexpr int at_least_one(int n) { return n > 0 ? n : 1; }

template <class Method, bool kGeneral>
struct Lanes {
  Vec windows_in[at_least_one(Method::kWindowsIn)][4];
  Vec cells_in[at_least_one(Method::kCellsIn)];
  Vec beta;
  Vec windows_out[at_least_one(Method::kWindowsOut)][4];
  Vec cells_out[1];
  Vec beta_gradient;
  Mask keep[4];
  Vec inverse_count;
  Vec factor;  // gain, or the window's number of pixels
  bool weight_grad;

  ADAPOOL_INLINE Window<kGeneral> window(int map) const {
    Window<kGeneral> w;
    ADAPOOL_EACH(i) {
      w.x[i] = windows_in[map][i];
      if constexpr (kGeneral) w.keep[i] = keep[i];
    }
    w.inverse_count = kGeneral ? inverse_count : splat(0.25F);
    return w;
  }
};

// Not inlined: one copy a method serves both layouts and both types.
template <class Method>
__attribute__((noinline)) void run_general(Lanes<Method, true>& lanes) {
  Method::template run<true>(lanes);
}

template <class Method, class T, bool kChannelsLast>
class Walk {
 public:
  explicit Walk(const Problem& problem) : p_(problem) {}

  ADAPOOL_INLINE void rows(int64_t begin, int64_t end) {
    if (Method::kBetaGradient && p_.beta_rows != nullptr) {
      sums_size_ = kLanes * (kChannelsLast ? p_.channels : 1);
      sums_ = static_cast<float*>(__builtin_malloc(sums_size_ * sizeof(float)));
    }
    for (int64_t row = begin; row < end; ++row) {
      oh_ = row % p_.out_height;
      const int64_t plane = row / p_.out_height;
      n_ = kChannelsLast ? plane : plane / p_.channels;
      c_ = kChannelsLast ? 0 : plane % p_.channels;
      two_rows_ = 2 * oh_ + 1 < p_.height;
      for (int64_t i = 0; i < sums_size_; ++i) sums_[i] = 0.0F;
      if constexpr (kChannelsLast) {
        for (int64_t ow = 0; ow < p_.out_width; ++ow) channels(ow);
      } else {
        columns();
      }
      for (int k = 0; k < Method::kWindowsOut; ++k) clear_uncovered(p_.windows_out[k]);
      if (sums_ != nullptr) finish_sums();
    }
    __builtin_free(sums_);
  }

 private:
  // Elements from one pixel, or window, to the next along a row.
  ADAPOOL_INLINE int64_t step() const { return kChannelsLast ? p_.channels : 1; }

  ADAPOOL_INLINE int64_t offset(int64_t rows, int64_t cols, int64_t row, int64_t col,
                                int64_t c) const {
    return kChannelsLast ? ((n_ * rows + row) * cols + col) * p_.channels + c
                         : ((n_ * p_.channels + c) * rows + row) * cols + col;
  }
  ADAPOOL_INLINE T* window_at(const Map& map, int64_t ow, int64_t c) const {
    return static_cast<T*>(map.data) + offset(map.rows, map.cols, 2 * oh_, 2 * ow, c);
  }
  ADAPOOL_INLINE T* cell_at(const Map& map, int64_t ow, int64_t c) const {
    return static_cast<T*>(map.data) + offset(p_.out_height, p_.out_width, oh_, ow, c);
  }
  ADAPOOL_INLINE int64_t to_next_row(const Map& map) const { return map.cols * step(); }

  // --- along a row of contiguous maps

  ADAPOOL_INLINE void columns() {
    const int64_t most = p_.width / 2;
    const int64_t whole = !two_rows_ ? 0 : (most < p_.out_width ? most : p_.out_width);
    int64_t ow = 0;
    if (whole >= kLanes) {
      while (ow < whole) {  // one place that calls: full() is inlined and long
        const int64_t start = ow + kLanes <= whole ? ow : whole - kLanes;
        full(start, c_, static_cast<int>(ow - start));
        ow = start + kLanes;
      }
    }
    for (; ow < p_.out_width; ow += kLanes) {
      const int64_t left = p_.out_width - ow;
      partial(ow, c_, static_cast<int>(left < kLanes ? left : kLanes));
    }
  }

  // --- along the channels of one window of channels_last maps

  ADAPOOL_INLINE void channels(int64_t ow) {
    const int64_t count = p_.channels;
    int64_t c = 0;
    if (two_rows_ && 2 * ow + 1 < p_.width && count >= kLanes) {
      while (c < count) {
        const int64_t start = c + kLanes <= count ? c : count - kLanes;
        full(ow, start, static_cast<int>(c - start));
        c = start + kLanes;
      }
      return;
    }
    for (; c < count; c += kLanes) {
      partial(ow, c, static_cast<int>(count - c < kLanes ? count - c : kLanes));
    }
  }

  // --- kLanes whole windows; the first `done` were already met

  ADAPOOL_INLINE void full(int64_t ow, int64_t c, int done) {
    Lanes<Method, false> lanes;
    for (int k = 0; k < Method::kWindowsIn; ++k) {
      const T* at = window_at(p_.windows_in[k], ow, c);
      load_window(at, at + to_next_row(p_.windows_in[k]), lanes.windows_in[k]);
    }
    for (int k = 0; k < Method::kCellsIn; ++k) {
      lanes.cells_in[k] = load(cell_at(p_.cells_in[k], ow, c));
    }
    lanes.beta = beta_at(ow, c, kLanes);
    lanes.factor = splat(p_.gain == 0.0F ? 4.0F : p_.gain);
    lanes.weight_grad = p_.weight_grad;
    const Mask held = Method::template run<false>(lanes);
    if (__builtin_expect(!all(held), 0)) again_generally(lanes);
    for (int k = 0; k < Method::kWindowsOut; ++k) {
      T* at = window_at(p_.windows_out[k], ow, c);
      store_window(at, at + to_next_row(p_.windows_out[k]), lanes.windows_out[k]);
    }
    for (int k = 0; k < Method::kCellsOut; ++k) {
      store(cell_at(p_.cells_out[k], ow, c), lanes.cells_out[k]);
    }
    if constexpr (Method::kBetaGradient) keep_beta_gradient(lanes.beta_gradient, ow, c, done, kLanes);
  }

  // Copied both ways, so that the address of `lanes` is never taken and they stay in registers.
  static ADAPOOL_INLINE void again_generally(Lanes<Method, false>& lanes) {
    Lanes<Method, true> general;
    for (int k = 0; k < Method::kWindowsIn; ++k) {
      ADAPOOL_EACH(i) general.windows_in[k][i] = lanes.windows_in[k][i];
    }
    for (int k = 0; k < Method::kCellsIn; ++k) general.cells_in[k] = lanes.cells_in[k];
    general.beta = lanes.beta;
    general.factor = lanes.factor;
    general.weight_grad = lanes.weight_grad;
    general.inverse_count = splat(0.25F);
    ADAPOOL_EACH(i) general.keep[i] = every();
    run_general<Method>(general);
    for (int k = 0; k < Method::kWindowsOut; ++k) {
      ADAPOOL_EACH(i) lanes.windows_out[k][i] = general.windows_out[k][i];
    }
    for (int k = 0; k < Method::kCellsOut; ++k) lanes.cells_out[k] = general.cells_out[k];
    if constexpr (Method::kBetaGradient) lanes.beta_gradient = general.beta_gradient;
  }

  ADAPOOL_INLINE void load_window(const T* top, const T* bottom, Vec v[4]) const {
    if constexpr (kChannelsLast) {
      v[0] = load(top);
      v[1] = load(top + p_.channels);
      v[2] = load(bottom);
      v[3] = load(bottom + p_.channels);
    } else {
      load_pairs(top, v[0], v[1]);
      load_pairs(bottom, v[2], v[3]);
    }
  }
  ADAPOOL_INLINE void store_window(T* top, T* bottom, const Vec v[4]) const {
    if constexpr (kChannelsLast) {
      store(top, v[0]);
      store(top + p_.channels, v[1]);
      store(bottom, v[2]);
      store(bottom + p_.channels, v[3]);
    } else {
      store_pairs(top, v[0], v[1]);
      store_pairs(bottom, v[2], v[3]);
    }
  }

  // --- up to kLanes windows, any of them cut by the border

  __attribute__((noinline)) void partial(int64_t ow, int64_t c, int count) {
    Lanes<Method, true> lanes;
    for (int k = 0; k < Method::kWindowsIn; ++k) {
      load_partial(p_.windows_in[k], ow, c, count, lanes.windows_in[k]);
    }
    for (int k = 0; k < Method::kCellsIn; ++k) {
      T buffer[kLanes] = {};
      __builtin_memcpy(buffer, cell_at(p_.cells_in[k], ow, c), count * sizeof(T));
      lanes.cells_in[k] = load(buffer);
    }
    lanes.beta = beta_at(ow, c, count);
    mark_border(lanes, ow);
    lanes.weight_grad = p_.weight_grad;
    run_general<Method>(lanes);
    for (int k = 0; k < Method::kWindowsOut; ++k) {
      store_partial(p_.windows_out[k], ow, c, count, lanes.windows_out[k]);
    }
    for (int k = 0; k < Method::kCellsOut; ++k) {
      T buffer[kLanes];
      store(buffer, lanes.cells_out[k]);
      __builtin_memcpy(cell_at(p_.cells_out[k], ow, c), buffer, count * sizeof(T));
    }
    if constexpr (Method::kBetaGradient) keep_beta_gradient(lanes.beta_gradient, ow, c, 0, count);
  }

  // Which pixels of each window lie in the image.
  ADAPOOL_INLINE void mark_border(Lanes<Method, true>& lanes, int64_t ow) const {
    const int64_t right = p_.width - (2 * ow + 1);  // right columns that exist from lane 0 on
    const float reach = right > 2 * kLanes ? 2.0F * kLanes : static_cast<float>(right);
    const Vec column = kChannelsLast ? zero() : lane_numbers() * 2.0F;
    lanes.keep[0] = every();
    lanes.keep[1] = less(column, splat(reach));
    lanes.keep[2] = less(zero(), splat(two_rows_ ? 1.0F : 0.0F));
    lanes.keep[3] = both(lanes.keep[1], lanes.keep[2]);
    const Vec columns = where(lanes.keep[1], splat(1.0F)) + 1.0F;
    const Vec number = two_rows_ ? columns * 2.0F : columns;
    lanes.inverse_count = splat(1.0F) / number;  // of a power of two: exact
    lanes.factor = p_.gain == 0.0F ? number : splat(p_.gain);
  }

  // Elements of one row of `map` that belong to `count` windows from `ow` on.
  ADAPOOL_INLINE int64_t reach(const Map& map, int64_t ow, int count) const {
    const int64_t left = map.cols - 2 * ow;
    return left < 2 * count ? left : 2 * count;
  }

  ADAPOOL_INLINE void load_partial(const Map& map, int64_t ow, int64_t c, int count, Vec v[4]) const {
    const T* at = window_at(map, ow, c);
    for (int row = 0; row < 2; ++row) {
      T buffer[2 * kLanes] = {};
      const bool exists = 2 * oh_ + row < map.rows;
      if constexpr (kChannelsLast) {
        if (exists) {
          __builtin_memcpy(buffer, at, count * sizeof(T));
          if (2 * ow + 1 < map.cols) {
            __builtin_memcpy(buffer + kLanes, at + p_.channels, count * sizeof(T));
          }
        }
        v[2 * row] = load(buffer);
        v[2 * row + 1] = load(buffer + kLanes);
      } else {
        if (exists) __builtin_memcpy(buffer, at, reach(map, ow, count) * sizeof(T));
        load_pairs(buffer, v[2 * row], v[2 * row + 1]);
      }
      at += to_next_row(map);
    }
  }

  ADAPOOL_INLINE void store_partial(const Map& map, int64_t ow, int64_t c, int count,
                                    const Vec v[4]) const {
    T* at = window_at(map, ow, c);
    for (int row = 0; row < 2 && 2 * oh_ + row < map.rows; ++row) {
      T buffer[2 * kLanes];
      if constexpr (kChannelsLast) {
        store(buffer, v[2 * row]);
        store(buffer + kLanes, v[2 * row + 1]);
        __builtin_memcpy(at, buffer, count * sizeof(T));
        if (2 * ow + 1 < map.cols) {
          __builtin_memcpy(at + p_.channels, buffer + kLanes, count * sizeof(T));
        }
      } else {
        store_pairs(buffer, v[2 * row], v[2 * row + 1]);
        __builtin_memcpy(at, buffer, reach(map, ow, count) * sizeof(T));
      }
      at += to_next_row(map);
    }
  }

  // Pixels in no window (an odd size without ceil_mode) get 0; those below with the last row.
  ADAPOOL_INLINE void clear_uncovered(const Map& map) const {
    const int64_t covered = 2 * p_.out_width;
    const int64_t last = 2 * p_.out_height;
    const int64_t planes = kChannelsLast ? p_.channels : 1;
    if (map.cols > covered) {
      for (int64_t row = 2 * oh_; row < 2 * oh_ + 2 && row < map.rows; ++row) {
        T* at = static_cast<T*>(map.data) + offset(map.rows, map.cols, row, covered, c_);
        __builtin_memset(at, 0, (map.cols - covered) * planes * sizeof(T));
      }
    }
    if (oh_ == p_.out_height - 1 && map.rows > last) {
      T* at = static_cast<T*>(map.data) + offset(map.rows, map.cols, last, 0, c_);
      __builtin_memset(at, 0, (map.rows - last) * map.cols * planes * sizeof(T));
    }
  }

  // --- beta

  ADAPOOL_INLINE Vec beta_at(int64_t ow, int64_t c, int count) const {
    if constexpr (!Method::kBeta) return zero();
    const Beta& b = p_.beta;
    const T* at = static_cast<const T*>(b.data) + n_ * b.batch + c * b.channel + oh_ * b.row +
                  ow * b.col;
    const int64_t stride = kChannelsLast ? b.channel : b.col;
    if (stride == 0) return splat(to_float(*at));
    if (stride == 1 && count == kLanes) return load(at);
    Vec v{};
    for (int i = 0; i < count; ++i) v[i] = to_float(at[i * stride]);
    return v;
  }

  ADAPOOL_INLINE void keep_beta_gradient(Vec v, int64_t ow, int64_t c, int done, int count) {
    if (p_.beta_map != nullptr) {
      float* at = p_.beta_map + offset(p_.out_height, p_.out_width, oh_, ow, c);
      if (count == kLanes) {
        store(at, v);
      } else {
        __builtin_memcpy(at, &v, count * sizeof(float));
      }
    } else if (p_.beta_rows != nullptr) {
      add_to_sums(v, ow, c, done, count);
    }
  }

  // Column ow adds to sum number ow % kLanes, whichever the layout, so that both give the same bits.
  ADAPOOL_INLINE void add_to_sums(Vec v, int64_t ow, int64_t c, int done, int count) {
    if (done == 0 && count == kLanes && (kChannelsLast || ow % kLanes == 0)) {
      float* at = kChannelsLast ? sums_ + (ow % kLanes) * p_.channels + c : sums_;
      store(at, load(at) + v);
      return;
    }
    for (int i = done; i < count; ++i) {
      const int64_t at = kChannelsLast ? (ow % kLanes) * p_.channels + c + i : (ow + i) % kLanes;
      sums_[at] += v[i];
    }
  }

  ADAPOOL_INLINE void finish_sums() const {
    const int64_t count = kChannelsLast ? p_.channels : 1;
    float* out = p_.beta_rows + (n_ * p_.out_height + oh_) * p_.channels + c_;
    for (int64_t c = 0; c < count; ++c) {
      float sum = sums_[c];
      for (int i = 1; i < kLanes; ++i) sum += sums_[i * count + c];
      out[c] = sum;
    }
  }

  const Problem& p_;
  int64_t n_ = 0;
  int64_t c_ = 0;
  int64_t oh_ = 0;
  bool two_rows_ = false;
  float* sums_ = nullptr;
  int64_t sums_size_ = 0;
};

template <class Method, class T, bool kChannelsLast>
void walk_rows(const Problem& problem, int64_t begin, int64_t end) {
  Walk<Method, T, kChannelsLast>(problem).rows(begin, end);
}

// Picks the walk by type and layout.
template <class Method>
void walk(const Problem& problem, int64_t begin, int64_t end) {
  if (problem.bfloat16) {
    problem.channels_last ? walk_rows<Method, BFloat16, true>(problem, begin, end)
                          : walk_rows<Method, BFloat16, false>(problem, begin, end);
  } else {
    problem.channels_last ? walk_rows<Method, float, true>(problem, begin, end)
                          : walk_rows<Method, float, false>(problem, begin, end);
  }
}

}  // namespace adapool::ADAPOOL_ISA
