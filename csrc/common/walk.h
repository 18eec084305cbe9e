// The walk over 2x2 windows of stride 2: loads what a method (methods.h) needs for kLanes windows, runs
// it, stores what it gives. All other windows go through rows.h.
//
// Contiguous maps put neighbouring windows of a row into the lanes, channels_last ones neighbouring
// channels. Where the lanes don't divide the row, the last whole vector starts early and repeats a few
// windows, which gives the same bits again. What is left (short rows, windows cut by the border) goes
// through buffers and the general path.
#pragma once

#include "methods.h"
#include "scalars.h"

namespace adapool::ADAPOOL_ISA {

// Not inlined: one copy a method serves both layouts and all types.
template <class Method>
__attribute__((noinline)) void run_general(Lanes<float, 4>& lanes) {
  Method::template run<true>(lanes);
}

// The same of whole windows of ordinary values; gives the lanes where it holds.
template <class Method>
__attribute__((noinline)) bool run_ordinary(Lanes<float, 4>& lanes) {
  return all(Method::template run<false>(lanes));
}

// A loop over the maps, unrolled: what is of 2x2 windows stays in registers.
#define ADAPOOL_MAPS(k, n) ADAPOOL_UNROLL for (int k = 0; k < (n); ++k)

template <class Method, class T, bool kChannelsLast>
class Walk {
 public:
  explicit Walk(const Problem& problem)
      : p_(problem),
        height_(problem.size[1]),
        width_(problem.size[2]),
        out_height_(problem.out[1]),
        out_width_(problem.out[2]) {
    for (int k = 0; k < Method::kWindowsIn; ++k) {
      in_[k] = map_of(problem.windows_in[k], Method::kReads[k]);
    }
    for (int k = 0; k < Method::kWindowsOut; ++k) {
      out_[k] = map_of(problem.windows_out[k], Method::kWrites[k]);
    }
  }

  ADAPOOL_INLINE void rows(int64_t begin, int64_t end) {
    if (Method::kBetaGradient && p_.beta_rows != nullptr) {
      sums_size_ = kLanes * (kChannelsLast ? p_.channels : 1);
      sums_ = static_cast<float*>(__builtin_malloc(sums_size_ * sizeof(float)));
    }
    for (int64_t row = begin; row < end; ++row) {
      oh_ = row % out_height_;
      const int64_t plane = row / out_height_;
      n_ = kChannelsLast ? plane : plane / p_.channels;
      c_ = kChannelsLast ? 0 : plane % p_.channels;
      two_rows_ = 2 * oh_ + 1 < height_;
      for (int64_t i = 0; i < sums_size_; ++i) sums_[i] = 0.0F;
      if constexpr (kChannelsLast) {
        for (int64_t ow = 0; ow < out_width_; ++ow) channels(ow);
      } else {
        columns();
      }
      for (int k = 0; k < Method::kWindowsOut; ++k) clear_uncovered(out_[k]);
      if (sums_ != nullptr) finish_sums();
    }
    __builtin_free(sums_);
  }

 private:
  typedef Lanes<float, 4> L;

  struct Map {
    void* data;
    int64_t rows, cols;
  };
  ADAPOOL_INLINE Map map_of(void* data, Lie lie) const {
    return lie == Lie::kMask ? Map{data, 2 * out_height_, 2 * out_width_}
                             : Map{data, height_, width_};
  }

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
  ADAPOOL_INLINE T* cell_at(void* cells, int64_t ow, int64_t c) const {
    return static_cast<T*>(cells) + offset(out_height_, out_width_, oh_, ow, c);
  }
  ADAPOOL_INLINE int64_t to_next_row(const Map& map) const { return map.cols * step(); }

  // --- along a row of contiguous maps

  ADAPOOL_INLINE void columns() {
    const int64_t most = width_ / 2;
    const int64_t whole = !two_rows_ ? 0 : (most < out_width_ ? most : out_width_);
    int64_t ow = 0;
    if (whole >= kLanes) {
      while (ow < whole) {  // one place that calls: full() is inlined and long
        const int64_t start = ow + kLanes <= whole ? ow : whole - kLanes;
        full(start, c_, static_cast<int>(ow - start));
        ow = start + kLanes;
      }
    }
    for (; ow < out_width_; ow += kLanes) {
      const int64_t left = out_width_ - ow;
      partial(ow, c_, static_cast<int>(left < kLanes ? left : kLanes));
    }
  }

  // --- along the channels of one window of channels_last maps

  ADAPOOL_INLINE void channels(int64_t ow) {
    const int64_t count = p_.channels;
    int64_t c = 0;
    if (two_rows_ && 2 * ow + 1 < width_ && count >= kLanes) {
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
    L lanes;
    ADAPOOL_MAPS(k, Method::kWindowsIn) {
      const T* at = window_at(in_[k], ow, c);
      load_window(at, at + to_next_row(in_[k]), lanes.in[k].v);
    }
    if constexpr (Method::kCellsIn > 0) lanes.cell = load(cell_at(p_.cell_in, ow, c));
    lanes.beta = beta_at(ow, c, kLanes);
    lanes.factor = splat(p_.gain == 0.0 ? 4.0F : static_cast<float>(p_.gain));
    lanes.inverse_count = splat(0.25F);
    lanes.rules = rules_;
    if (!all(Method::template run<false>(lanes))) run_careful(lanes);
    ADAPOOL_MAPS(k, Method::kWindowsOut) {
      T* at = window_at(out_[k], ow, c);
      store_window(at, at + to_next_row(out_[k]), lanes.out[k].v);
    }
    if constexpr (Method::kCellsOut > 0) store(cell_at(p_.cell_out, ow, c), lanes.cell_out);
    if constexpr (Method::kBetaGradient) keep_beta_gradient(lanes.beta_gradient, ow, c, done, kLanes);
  }

  // Through a copy, which may lie in memory: the lanes themselves stay in registers.
  ADAPOOL_INLINE void run_careful(L& lanes) const {
    L general = lanes;
    ADAPOOL_MAPS(i, 4) general.keep[i] = every(0.0F);
    run_general<Method>(general);
    ADAPOOL_MAPS(k, Method::kWindowsOut) lanes.out[k] = general.out[k];
    lanes.cell_out = general.cell_out;
    lanes.beta_gradient = general.beta_gradient;
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
    L lanes;
    for (int k = 0; k < Method::kWindowsIn; ++k) load_partial(in_[k], ow, c, count, lanes.in[k].v);
    if constexpr (Method::kCellsIn > 0) {
      T buffer[kLanes] = {};
      __builtin_memcpy(buffer, cell_at(p_.cell_in, ow, c), count * sizeof(T));
      lanes.cell = load(buffer);
    }
    lanes.beta = beta_at(ow, c, count);
    mark_border(lanes, ow);
    lanes.rules = rules_;
    const int64_t right = width_ - 2 * (ow + (kChannelsLast ? 1 : count));
    if (!two_rows_ || right < 0 || !run_ordinary<Method>(lanes)) run_general<Method>(lanes);
    for (int k = 0; k < Method::kWindowsOut; ++k) {
      store_partial(out_[k], ow, c, count, lanes.out[k].v);
    }
    if constexpr (Method::kCellsOut > 0) {
      T buffer[kLanes];
      store(buffer, lanes.cell_out);
      __builtin_memcpy(cell_at(p_.cell_out, ow, c), buffer, count * sizeof(T));
    }
    if constexpr (Method::kBetaGradient) keep_beta_gradient(lanes.beta_gradient, ow, c, 0, count);
  }

  // Which pixels of each window lie in the image.
  ADAPOOL_INLINE void mark_border(L& lanes, int64_t ow) const {
    const int64_t right = width_ - (2 * ow + 1);  // right columns that exist from lane 0 on
    const float reach = right > 2 * kLanes ? 2.0F * kLanes : static_cast<float>(right);
    const Vec column = kChannelsLast ? Vec{} : lane_numbers() * 2.0F;
    lanes.keep[0] = every(0.0F);
    lanes.keep[1] = less(column, splat(reach));
    lanes.keep[2] = less(Vec{}, splat(two_rows_ ? 1.0F : 0.0F));
    lanes.keep[3] = both(lanes.keep[1], lanes.keep[2]);
    const Vec columns = where(lanes.keep[1], splat(1.0F)) + 1.0F;
    const Vec number = two_rows_ ? columns * 2.0F : columns;
    lanes.inverse_count = splat(1.0F) / number;  // of a power of two: exact
    lanes.factor = p_.gain == 0.0 ? number : splat(static_cast<float>(p_.gain));
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
    const int64_t covered = 2 * out_width_;
    const int64_t last = 2 * out_height_;
    const int64_t planes = kChannelsLast ? p_.channels : 1;
    if (map.cols > covered) {
      for (int64_t row = 2 * oh_; row < 2 * oh_ + 2 && row < map.rows; ++row) {
        T* at = static_cast<T*>(map.data) + offset(map.rows, map.cols, row, covered, c_);
        __builtin_memset(at, 0, (map.cols - covered) * planes * sizeof(T));
      }
    }
    if (oh_ == out_height_ - 1 && map.rows > last) {
      T* at = static_cast<T*>(map.data) + offset(map.rows, map.cols, last, 0, c_);
      __builtin_memset(at, 0, (map.rows - last) * map.cols * planes * sizeof(T));
    }
  }

  // --- beta

  ADAPOOL_INLINE Vec beta_at(int64_t ow, int64_t c, int count) const {
    if constexpr (!Method::kBeta) return Vec{};
    const Beta& b = p_.beta;
    const T* at = static_cast<const T*>(b.data) + n_ * b.batch + c * b.channel + oh_ * b.space[1] +
                  ow * b.space[2];
    const int64_t stride = kChannelsLast ? b.channel : b.space[2];
    if (stride == 0) return splat(to_number(*at));
    if (stride == 1 && count == kLanes) return load(at);
    Vec v{};
    for (int i = 0; i < count; ++i) v[i] = to_number(at[i * stride]);
    return v;
  }

  ADAPOOL_INLINE void keep_beta_gradient(Vec v, int64_t ow, int64_t c, int done, int count) {
    if (p_.beta_map != nullptr) {
      float* at = static_cast<float*>(p_.beta_map) + offset(out_height_, out_width_, oh_, ow, c);
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
    float* out = static_cast<float*>(p_.beta_rows) + (n_ * out_height_ + oh_) * p_.channels + c_;
    for (int64_t c = 0; c < count; ++c) {
      float sum = sums_[c];
      for (int i = 1; i < kLanes; ++i) sum += sums_[i * count + c];
      out[c] = sum;
    }
  }

  const Problem& p_;
  const int64_t height_, width_, out_height_, out_width_;
  Map in_[kMaxWindows], out_[2];
  const Rules<float> rules_{p_.weight_grad, p_.drop, p_.huber, static_cast<float>(p_.delta)};
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

// Picks the walk by type and layout; rows of windows, (n, oh) or (n, c, oh).
template <class Method>
void walk(const Problem& problem, int64_t begin, int64_t end) {
  const auto by_layout = [&](auto type) {
    typedef decltype(type) T;
    problem.channels_last ? walk_rows<Method, T, true>(problem, begin, end)
                          : walk_rows<Method, T, false>(problem, begin, end);
  };
  switch (problem.type) {
    case Type::kFloat: return by_layout(0.0F);
    case Type::kBFloat16: return by_layout(BFloat16{});
    default: return;  // Problem::is_2x2
  }
}

}  // namespace adapool::ADAPOOL_ISA
