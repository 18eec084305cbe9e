// A row of windows of any size, laid out so that neighbouring lanes are neighbouring windows, whatever the
// tensors' layout (rows.h does that), and a method run along it.
#pragma once

#include "methods.h"
#include "scalars.h"

namespace adapool::ADAPOOL_ISA {

template <class S>
struct Line {
  int64_t length = 0;
  int count = 0;  // values of a window
  // By position in the window: where the line of that position's values begins.
  const S** in[3] = {};
  S** out[2] = {};
  const S* cell = nullptr;
  S* cell_out = nullptr;
  const S* beta = nullptr;
  bool one_beta = false;  // beta points at one value for the whole line
  S* beta_gradient = nullptr;
  // 1 where a position lies in the image, else 0; windows in [whole_begin, whole_end) have all of theirs.
  const S** valid = nullptr;
  int64_t whole_begin = 0;
  int64_t whole_end = 0;
  S gain = 0;
  Rules<S> rules;
  Room room;
  // Memory that the next row of windows will want: `ahead_step` bytes for each vector of this one.
  const char* ahead = nullptr;
  int64_t ahead_step = 0;
};

template <class Method, class S>
__attribute__((noinline)) void run_careful(Lanes<S, 0>& lanes) {
  Method::template run<true>(lanes);
}

// Runs `Method` on the lanes from `begin` on; some beyond `end` are computed too and mean nothing.
template <class Method, class S>
__attribute__((noinline)) void run_part(const Line<S>& line, int64_t begin, int64_t end) {
  typedef typename Simd<S>::V V;
  constexpr int kCount = Simd<S>::kCount;
  Lanes<S, 0> lanes;
  lanes.room = line.room;
  lanes.rules = line.rules;
  for (int m = 0; m < Method::kWindowsIn; ++m) lanes.in[m].lend(lanes.room);
  for (int m = 0; m < Method::kWindowsOut; ++m) lanes.out[m].lend(lanes.room);
  lanes.keep.lend(lanes.room);
  bool whole_before = false;
  if (Method::kBeta && line.one_beta) lanes.beta = splat(*line.beta);
  for (int64_t at = begin; at < end; at += kCount) {
    const bool whole = at >= line.whole_begin && at + kCount <= line.whole_end;
    if (!whole) {
      lanes.count = V{};
      for (int k = 0; k < line.count; ++k) {
        const V valid = load(line.valid[k] + at);
        lanes.keep[k] = less(V{}, valid);
        lanes.count = lanes.count + valid;
      }
    } else if (!whole_before) {
      for (int k = 0; k < line.count; ++k) lanes.keep[k] = every(S());
      lanes.count = splat(static_cast<S>(line.count));
    }
    whole_before = whole;
    lanes.factor = line.gain == S(0) ? lanes.count : splat(line.gain);
    for (int m = 0; m < Method::kWindowsIn; ++m) {
      for (int k = 0; k < line.count; ++k) lanes.in[m][k] = load(line.in[m][k] + at);
    }
    if constexpr (Method::kCellsIn > 0) lanes.cell = load(line.cell + at);
    if (Method::kBeta && !line.one_beta) lanes.beta = load(line.beta + at);
    if (!all(Method::template run<false>(lanes))) run_careful<Method>(lanes);
    for (int m = 0; m < Method::kWindowsOut; ++m) {
      for (int k = 0; k < line.count; ++k) store(line.out[m][k] + at, lanes.out[m][k]);
    }
    if constexpr (Method::kCellsOut > 0) store(line.cell_out + at, lanes.cell_out);
    if constexpr (Method::kBetaGradient) store(line.beta_gradient + at, lanes.beta_gradient);
  }
}

// The same of whole windows of N values, which then stay in registers. Gives the lane at which it
// stopped: `end`, or the first vector of values that are not ordinary.
template <class Method, class S, int N>
__attribute__((noinline)) int64_t run_whole(const Line<S>& line, int64_t begin, int64_t end) {
  typedef typename Simd<S>::V V;
  Lanes<S, N> lanes;
  lanes.rules = line.rules;
  lanes.count = splat(static_cast<S>(N));
  lanes.factor = line.gain == S(0) ? lanes.count : splat(line.gain);
  if (Method::kBeta && line.one_beta) lanes.beta = splat(*line.beta);
  const char* ahead = line.ahead + begin / Simd<S>::kCount * line.ahead_step;
  for (int64_t at = begin; at < end; at += Simd<S>::kCount) {
    for (int64_t i = 0; i < line.ahead_step; i += 64) __builtin_prefetch(ahead + i, 0, 2);
    ahead += line.ahead_step;
    for (int m = 0; m < Method::kWindowsIn; ++m) {
      ADAPOOL_UNROLL for (int k = 0; k < N; ++k) lanes.in[m][k] = load(line.in[m][k] + at);
    }
    if constexpr (Method::kCellsIn > 0) lanes.cell = load(line.cell + at);
    if (Method::kBeta && !line.one_beta) lanes.beta = load(line.beta + at);
    if (!all(Method::template run<false>(lanes))) return at;
    for (int m = 0; m < Method::kWindowsOut; ++m) {
      ADAPOOL_UNROLL for (int k = 0; k < N; ++k) store(line.out[m][k] + at, lanes.out[m][k]);
    }
    if constexpr (Method::kCellsOut > 0) store(line.cell_out + at, lanes.cell_out);
    if constexpr (Method::kBetaGradient) store(line.beta_gradient + at, lanes.beta_gradient);
  }
  return end;
}

// Runs `Method` along a line of windows of any number of values.
template <class Method, class S>
void run_line(const Line<S>& line) {
  run_part<Method>(line, 0, line.length);
}

// The same of windows of N values.
template <class Method, class S, int N>
void run_line_of(const Line<S>& line) {
  constexpr int kCount = Simd<S>::kCount;
  // Vectors begin at multiples of their length, here as in run_part.
  const int64_t begin = (line.whole_begin + kCount - 1) / kCount * kCount;
  const int64_t length = (line.length + kCount - 1) / kCount * kCount;
  const int64_t whole = line.whole_end / kCount * kCount;
  const int64_t end = whole < length ? whole : length;
  for (int64_t at = 0; at < length; at += kCount) {
    if (at >= begin && at < end) at = run_whole<Method, S, N>(line, at, end);
    if (at < length) run_part<Method>(line, at, at + kCount);
  }
}

// What the general walk must know of a method.
struct Traits {
  int windows_in, cells_in, windows_out, cells_out;
  bool beta, beta_gradient;
  Lie reads[3], writes[2];

  template <class Method>
  static ADAPOOL_INLINE Traits of() {
    Traits t{Method::kWindowsIn, Method::kCellsIn, Method::kWindowsOut,   Method::kCellsOut,
             Method::kBeta,      Method::kBetaGradient, {}, {}};
    for (int i = 0; i < 3; ++i) t.reads[i] = Method::kReads[i];
    for (int i = 0; i < 2; ++i) t.writes[i] = Method::kWrites[i];
    return t;
  }
  // Whether it scatters to a map.
  bool scatters() const { return windows_out > 0 && writes[0] != Lie::kMask; }
};

}  // namespace adapool::ADAPOOL_ISA
