// What a method sees of a vector of windows, one a lane: their values, cells and β, and room to work in.
//
// N is the number of values of a window. Where it is known they stay in registers; N = 0 stands for any
// number, told at run time, and values then lie in memory that the owner of the lanes lends.
#pragma once

#include "exponential.h"

namespace adapool::ADAPOOL_ISA {

// Calls f(0), f(1), …; unrolled where the number is known.
template <int N, class F>
ADAPOOL_INLINE void each(int count, F f) {
  if constexpr (N == 0) {
    for (int i = 0; i < count; ++i) f(i);
  } else {
    static_assert(N <= 9, "unrolled below");
    ADAPOOL_UNROLL for (int i = 0; i < N; ++i) f(i);
  }
}

// Memory that is taken bit by bit; a copy of a Room takes the same memory again.
struct Room {
  char* free = nullptr;
  int count = 0;

  template <class T>
  ADAPOOL_INLINE T* take() {
    T* taken = reinterpret_cast<T*>(free);
    free += (count * sizeof(T) + 63) / 64 * 64;
    return taken;
  }
};
constexpr int kMostTaken = 16;  // values that a method and its Lanes take together

template <class T, int N>
struct Values {
  T v[N];
  ADAPOOL_INLINE void lend(Room&) {}
  ADAPOOL_INLINE T& operator[](int i) { return v[i]; }
  ADAPOOL_INLINE const T& operator[](int i) const { return v[i]; }
};
template <class T>
struct Values<T, 0> {
  T* v = nullptr;
  ADAPOOL_INLINE void lend(Room& room) { v = room.take<T>(); }
  ADAPOOL_INLINE T& operator[](int i) { return v[i]; }
  ADAPOOL_INLINE const T& operator[](int i) const { return v[i]; }
};

// What is the same for all windows of a call.
template <class S>
struct Rules {
  bool weight_grad = true;  // whether the weights are differentiated or held constant
  bool drop = false;        // IDW's rule for a distance of 0
  bool huber = false;       // IDW's distance
  S delta = S(1);
};

template <class S_, int N_>
struct Lanes {
  typedef S_ S;
  typedef typename Simd<S>::V V;
  typedef typename Simd<S>::M M;
  static constexpr int N = N_;

  Values<V, N> in[3];
  Values<V, N> out[2];
  // Which values lie in the image; read by general methods, and where N is 0.
  Values<M, N> keep;
  V cell;
  V beta;
  V cell_out;
  V beta_gradient;
  V count;          // of values in the image
  V inverse_count;  // where N is 4: 1/4, 1/2 or 1, exact
  V factor;         // of unpooling: gain, or count
  Rules<S> rules;
  Room room;

  ADAPOOL_INLINE int size() const { return N > 0 ? N : room.count; }
  ADAPOOL_INLINE V per_count(V v) const {
    if constexpr (N == 4) return v * inverse_count;
    return v / count;
  }
};

// Calls four(0), four(4), …, then one(i) for each that is left.
template <int N, class Four, class One>
ADAPOOL_INLINE void by_fours(int count, Four four, One one) {
  if constexpr (N > 0) {
    ADAPOOL_UNROLL for (int i = 0; i + 4 <= N; i += 4) four(i);
    ADAPOOL_UNROLL for (int i = N / 4 * 4; i < N; ++i) one(i);
  } else {
    int i = 0;
    for (; i + 4 <= count; i += 4) four(i);
    for (; i < count; ++i) one(i);
  }
}

// Sums by groups of four, two and two: with equal weights of equal values a power of two of them is
// summed without rounding.
template <int N, class V, class F>
ADAPOOL_INLINE V sum_by(int count, F term) {
  if constexpr (N == 4) {
    return (term(0) + term(1)) + (term(2) + term(3));
  } else {
    V sum{};
    by_fours<N>(
        count,
        [&](int i) ADAPOOL_LAMBDA {
          sum = sum + ((term(i) + term(i + 1)) + (term(i + 2) + term(i + 3)));
        },
        [&](int i) ADAPOOL_LAMBDA { sum = sum + term(i); });
    return sum;
  }
}
template <class V, int N>
ADAPOOL_INLINE V sum_of(const Values<V, N>& v, int count) {
  return sum_by<N, V>(count, [&](int i) ADAPOOL_LAMBDA { return v[i]; });
}
template <class V, int N>
ADAPOOL_INLINE V dot(const Values<V, N>& a, const Values<V, N>& b, int count) {
  if constexpr (N == 4) {
    return fma(a[1], b[1], a[0] * b[0]) + fma(a[3], b[3], a[2] * b[2]);
  } else {
    V sum{};
    by_fours<N>(
        count,
        [&](int i) ADAPOOL_LAMBDA {
          sum = sum + (fma(a[i + 1], b[i + 1], a[i] * b[i]) +
                       fma(a[i + 3], b[i + 3], a[i + 2] * b[i + 2]));
        },
        [&](int i) ADAPOOL_LAMBDA { sum = fma(a[i], b[i], sum); });
    return sum;
  }
}

// The values of a window, 0 where cut off. kGeneral holds for all finite values and for windows cut by
// the border; without it, for whole windows of ordinary values, and of any number of them (N = 0) for
// cut ones too. In lanes where both hold they give the same bits, so that a result never depends on the
// neighbours that share its vector.
template <class L, bool kGeneral_>
struct Window {
  typedef typename L::S S;
  typedef typename L::V V;
  typedef typename L::M M;
  static constexpr int N = L::N;
  static constexpr bool kGeneral = kGeneral_;
  static constexpr bool kMasked = kGeneral || N == 0;

  const L& lanes;
  const Values<V, N>& x;
  Room room;

  ADAPOOL_INLINE explicit Window(const L& l, int map = 0) : lanes(l), x(l.in[map]), room(l.room) {}

  ADAPOOL_INLINE int size() const { return lanes.size(); }
  ADAPOOL_INLINE V kept(int i, V v) const {
    if constexpr (kMasked) return where(lanes.keep[i], v);
    return v;
  }
  ADAPOOL_INLINE V kept_or(int i, V v, V other) const {
    if constexpr (kMasked) return select(lanes.keep[i], v, other);
    return v;
  }

  // In the order of the reference: whether a value equals the mean must not hang on the last bit.
  ADAPOOL_INLINE V mean() const {
    V sum = x[0];
    for_rest([&](int i) ADAPOOL_LAMBDA { sum = sum + x[i]; });
    V found = lanes.per_count(sum);
    if constexpr (kGeneral) {
      // The sum of values near the largest float overflows where their mean does not.
      V careful = lanes.per_count(x[0]);
      for_rest([&](int i) ADAPOOL_LAMBDA { careful = careful + lanes.per_count(x[i]); });
      found = select(is_finite(found), found, careful);
    }
    return found;
  }
  static ADAPOOL_INLINE M is_finite(V v) { return at_most(absolute(v), splat(Simd<S>::kLargest)); }

 private:
  template <class F>
  ADAPOOL_INLINE void for_rest(F f) const {
    each<(N > 0 ? N - 1 : 0)>(size() - 1, [&](int i) ADAPOOL_LAMBDA { f(i + 1); });
  }
};

}  // namespace adapool::ADAPOOL_ISA
