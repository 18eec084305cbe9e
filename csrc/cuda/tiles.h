// Work items for 2x2 windows of stride 2 over even sizes where all maps are dense, of one format
// and aligned: wide accesses, several windows at once.
//
// Contiguous, an access holds 16 bytes of a row, so a step is 2 windows of float32 or 4 of a half
// precision, and an item takes kTileSteps of them one below the other. Channels_last, it holds 4
// channels of a pixel (8 bytes of a half precision: with 16, a step's values outgrow the
// registers), so a step is 4 windows, and an item's steps lie side by side. Windows that lanes.h
// can't do are done once more, one by one.
#pragma once

#include "items.h"

namespace adapool::cuda {

template <class Scalar, bool kLast>
struct Tile {
  static constexpr int kWide = 16 / static_cast<int>(sizeof(Scalar));  // of a row, when contiguous
  static constexpr int kLanes = tile_lanes(sizeof(Scalar), kLast);
  using Four = float[kLanes][4];

  const Problem& p;
  Place place;     // of the first window
  int32_t steps;
  int64_t pixel;   // offset of its first pixel in a map of pixels (or in a mask)
  int64_t window;  // its own in a map of windows
  int64_t row;     // from row to row of pixels

  ADAPOOL_HD Tile(const Problem& problem, uint32_t number) : p(problem) {
    const Geometry& g = p.geometry;
    uint32_t inner = number;
    uint32_t middle = p.tiles.by[0].divide(inner);
    uint32_t outer = p.tiles.by[1].divide(middle);
    place.batch = static_cast<int32_t>(p.tiles.by[2].divide(outer));
    place.at[0] = 0;
    place.channel = kLast ? inner * kLanes : outer;
    place.at[1] = kLast ? outer : middle * kTileSteps;
    place.at[2] = kLast ? middle * kTileSteps : inner * kLanes;
    const int32_t left = kLast ? g.out[2] - place.at[2] : g.out[1] - place.at[1];
    steps = left < kTileSteps ? left : kTileSteps;
    if constexpr (kLast) {
      row = int64_t{g.size[2]} * p.channels;
      pixel = (int64_t{place.batch} * g.size[1] + 2 * place.at[1]) * row +
              int64_t{2} * place.at[2] * p.channels + place.channel;
      window = ((int64_t{place.batch} * g.out[1] + place.at[1]) * g.out[2] + place.at[2]) *
                   p.channels + place.channel;
    } else {
      const int64_t plane = int64_t{place.batch} * p.channels + place.channel;
      row = g.size[2];
      pixel = (plane * g.size[1] + 2 * place.at[1]) * row + 2 * place.at[2];
      window = (plane * g.out[1] + place.at[1]) * g.out[2] + place.at[2];
    }
  }
  ADAPOOL_HD void next() {
    pixel += kLast ? 2 * p.channels : 2 * row;
    window += kLast ? p.channels : p.geometry.out[2];
    ++place.at[kLast ? 2 : 1];
  }
  ADAPOOL_HD Place lane(int number) const {
    Place found = place;
    (kLast ? found.channel : found.at[2]) += number;
    return found;
  }

  // The four pixels of every lane's window.
  ADAPOOL_HD void read_four(Role role, Four& to) const {
    const Scalar* from = static_cast<const Scalar*>(p.maps[role].data) + pixel;
    if constexpr (kLast) {
      ADAPOOL_UNROLL
      for (int i = 0; i < 4; ++i) {
        float values[kLanes];
        load<kLanes>(from + (i >> 1) * row + (i & 1) * p.channels, values);
        ADAPOOL_UNROLL
        for (int l = 0; l < kLanes; ++l) to[l][i] = values[l];
      }
    } else {
      ADAPOOL_UNROLL
      for (int i = 0; i < 2; ++i) {
        float values[kWide];
        load<kWide>(from + i * row, values);
        ADAPOOL_UNROLL
        for (int l = 0; l < kWide; ++l) to[l >> 1][2 * i + (l & 1)] = values[l];
      }
    }
  }
  ADAPOOL_HD void write_four(Role role, const Four& from) const {
    Scalar* to = static_cast<Scalar*>(p.maps[role].data) + pixel;
    if constexpr (kLast) {
      ADAPOOL_UNROLL
      for (int i = 0; i < 4; ++i) {
        float values[kLanes];
        ADAPOOL_UNROLL
        for (int l = 0; l < kLanes; ++l) values[l] = from[l][i];
        store<kLanes>(values, to + (i >> 1) * row + (i & 1) * p.channels);
      }
    } else {
      ADAPOOL_UNROLL
      for (int i = 0; i < 2; ++i) {
        float values[kWide];
        ADAPOOL_UNROLL
        for (int l = 0; l < kWide; ++l) values[l] = from[l >> 1][2 * i + (l & 1)];
        store<kWide>(values, to + i * row);
      }
    }
  }
  // One value a window.
  ADAPOOL_HD void read_one(Role role, float (&to)[kLanes]) const {
    load<kLanes>(static_cast<const Scalar*>(p.maps[role].data) + window, to);
  }
  ADAPOOL_HD void write_one(Role role, const float (&from)[kLanes]) const {
    store<kLanes>(from, static_cast<Scalar*>(p.maps[role].data) + window);
  }
  ADAPOOL_HD void read_beta(float (&to)[kLanes]) const {
    ADAPOOL_UNROLL
    for (int l = 0; l < kLanes; ++l) to[l] = read<Scalar>(p.maps[kBeta], lane(l));
  }
};

// The windows that were not ordinary, a bit for each lane of each step, one by one: function(lane,
// window). After the loop over the steps, where no register holds anything else. What it writes
// takes the place of what the tiles wrote there: store_words() keeps the order.
template <class Scalar, bool kLast, class Function>
ADAPOOL_HD void each_left(const Problem& p, uint32_t number, uint32_t left,
                          const Function& function) {
  if (left == 0) return;
  constexpr int kLanes = Tile<Scalar, kLast>::kLanes;
  Place place = Tile<Scalar, kLast>(p, number).place;
  ADAPOOL_ROLLED
  for (; left != 0; ++place.at[kLast ? 2 : 1]) {
    ADAPOOL_ROLLED
    for (int l = 0; l < kLanes; ++l, left >>= 1) {
      Place found = place;
      (kLast ? found.channel : found.at[2]) += l;
      if ((left & 1) != 0) function(l, Window<Scalar>(p, found));
    }
  }
}

// Gradients of beta: a map where beta varies over space, else a sum for each item (contiguous) or
// for each of its channels, which SumItem adds up.
template <class Scalar, bool kLast>
struct BetaSums {
  static constexpr int kLanes = Tile<Scalar, kLast>::kLanes;
  static constexpr int kCount = kLast ? kLanes : 1;
  float sums[kCount] = {};

  // Those of a step; what an extraordinary window gives comes later.
  ADAPOOL_HD void add(const Tile<Scalar, kLast>& tile, const float (&values)[kLanes]) {
    if (tile.p.beta_varies) {
      ADAPOOL_UNROLL
      for (int l = 0; l < kLanes; ++l) keep<Scalar>(tile.p, tile.lane(l), values[l]);
      return;
    }
    ADAPOOL_UNROLL
    for (int l = 0; l < kLanes; ++l) sums[kLast ? l : 0] += values[l];
  }
  ADAPOOL_HD static float* memory(const Problem& p, uint32_t number) {
    return static_cast<float*>(p.partial) + int64_t{number} * kCount;
  }
  ADAPOOL_HD void finish(const Problem& p, uint32_t number) const {
    if (!p.beta_varies) store<kCount>(sums, memory(p, number));
  }
  // Once finished.
  ADAPOOL_HD static void add_late(const Window<Scalar>& w, uint32_t number, int lane, float value) {
    if (w.p.beta_varies) {
      keep<Scalar>(w.p, w.place, value);
    } else {
      memory(w.p, number)[kLast ? lane : 0] += value;
    }
  }
};

template <class Scalar, class Method, bool kLast, bool kMasks>
struct PoolTile {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    Tile<Scalar, kLast> tile(p, number);
    constexpr int kLanes = tile.kLanes;
    float beta[kLanes];
    if (Method::kMixed && !p.beta_varies) tile.read_beta(beta);
    uint32_t left = 0;
    ADAPOOL_ROLLED
    for (int32_t step = 0; step < tile.steps; ++step, tile.next()) {
      typename Tile<Scalar, kLast>::Four x, masks[kMasks ? 2 : 1];
      float y[kLanes];
      tile.read_four(kX, x);
      if (Method::kMixed && p.beta_varies) tile.read_beta(beta);
      ADAPOOL_UNROLL
      for (int l = 0; l < kLanes; ++l) {
        Lane<Method> lane;
        lane.take(x[l]);
        if (!lane.weigh(p.rule)) left |= 1U << (step * kLanes + l);
        y[l] = lane.pooled(Method::kMixed ? beta[l] : 1.0F);
        if constexpr (kMasks) lane.weights(masks[0][l], masks[1][l]);
      }
      tile.write_one(kY, y);
      if constexpr (kMasks) {
        tile.write_four(kMask, masks[0]);
        tile.write_four(kMaskEm, masks[1]);
      }
    }
    each_left<Scalar, kLast>(p, number, left, [](int, const Window<Scalar>& w) {
      pool_window<Scalar, Method>(w);
    });
  }
};

template <class Scalar, class Method, bool kLast, Task kTask, bool kMasks>
struct SpreadTile {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    Tile<Scalar, kLast> tile(p, number);
    constexpr int kLanes = tile.kLanes;
    constexpr bool kBackward = kTask != Task::kLike;
    BetaSums<Scalar, kLast> sums;
    const float factor = p.gain == 0 ? 4.0F : static_cast<float>(p.gain);
    float beta[kLanes];
    if (Method::kMixed && !p.beta_varies) tile.read_beta(beta);
    uint32_t left = 0;
    ADAPOOL_ROLLED
    for (int32_t step = 0; step < tile.steps; ++step, tile.next()) {
      typename Tile<Scalar, kLast>::Four x, v, extra;
      float one[kLanes], grad_y[kLanes], grad_beta[kLanes];
      tile.read_four(kX, x);
      tile.read_one(kTask == Task::kPoolBackward ? kGradient : kY, one);
      if constexpr (kTask == Task::kLikeBackward) tile.read_four(kGradient, v);
      if constexpr (kMasks) {
        tile.read_four(kGradMask, v);
        tile.read_four(kGradMaskEm, extra);
      }
      if (Method::kMixed && p.beta_varies) tile.read_beta(beta);
      ADAPOOL_UNROLL
      for (int l = 0; l < kLanes; ++l) {
        Lane<Method> lane;
        lane.take(x[l]);
        const bool ordinary = lane.weigh(p.rule);
        const float b = Method::kMixed ? beta[l] : 1.0F;
        if constexpr (kTask == Task::kPoolBackward) {
          grad_beta[l] = lane.pool_backward(one[l], b, p.weight_grad, kMasks ? v[l] : nullptr,
                                         kMasks ? extra[l] : nullptr, x[l]);
        } else if constexpr (kTask == Task::kLike) {
          lane.like(factor * one[l], b, x[l]);
        } else {
          ADAPOOL_UNROLL
          for (int i = 0; i < 4; ++i) v[l][i] *= factor;
          grad_beta[l] = lane.like_backward(v[l], one[l], b, p.weight_grad, x[l], grad_y[l]);
        }
        if (!ordinary) left |= 1U << (step * kLanes + l);
        if constexpr (kBackward) grad_beta[l] = ordinary ? grad_beta[l] : 0.0F;
      }
      if (Method::kMixed && kBackward) sums.add(tile, grad_beta);
      tile.write_four(kU, x);
      if constexpr (kTask == Task::kLikeBackward) tile.write_one(kGradY, grad_y);
    }
    if (Method::kMixed && kBackward) sums.finish(p, number);
    each_left<Scalar, kLast>(p, number, left, [&](int l, const Window<Scalar>& w) {
      const float grad_beta = spread_window<Scalar, Method, kTask>(w);
      if (Method::kMixed && kBackward) sums.add_late(w, number, l, grad_beta);
    });
  }
};

template <class Scalar, bool kLast>
struct UnpoolTile {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    Tile<Scalar, kLast> tile(p, number);
    constexpr int kLanes = tile.kLanes;
    const bool mixed = p.maps[kMaskEm].data != nullptr;
    const float factor = p.gain == 0 ? 4.0F : static_cast<float>(p.gain);
    float beta[kLanes];
    if (mixed && !p.beta_varies) tile.read_beta(beta);
    ADAPOOL_ROLLED
    for (int32_t step = 0; step < tile.steps; ++step, tile.next()) {
      typename Tile<Scalar, kLast>::Four w, second;
      float y[kLanes];
      tile.read_four(kMask, w);
      if (mixed) tile.read_four(kMaskEm, second);
      tile.read_one(kY, y);
      if (mixed && p.beta_varies) tile.read_beta(beta);
      ADAPOOL_UNROLL
      for (int l = 0; l < kLanes; ++l) {
        ADAPOOL_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (mixed) w[l][i] = beta[l] * w[l][i] + (1 - beta[l]) * second[l][i];
          w[l][i] *= y[l] * factor;
        }
      }
      tile.write_four(kU, w);
    }
  }
};

template <class Scalar, bool kLast>
struct UnpoolBackwardTile {
  ADAPOOL_HD static void run(const Problem& p, uint32_t number) {
    Tile<Scalar, kLast> tile(p, number);
    constexpr int kLanes = tile.kLanes;
    BetaSums<Scalar, kLast> sums;
    const bool mixed = p.maps[kMaskEm].data != nullptr;
    const float factor = p.gain == 0 ? 4.0F : static_cast<float>(p.gain);
    float beta[kLanes];
    if (mixed && !p.beta_varies) tile.read_beta(beta);
    ADAPOOL_ROLLED
    for (int32_t step = 0; step < tile.steps; ++step, tile.next()) {
      typename Tile<Scalar, kLast>::Four v, a, b;
      float y[kLanes], grad_y[kLanes], grad_beta[kLanes];
      tile.read_four(kGradient, v);
      tile.read_four(kMask, a);
      if (mixed) tile.read_four(kMaskEm, b);
      tile.read_one(kY, y);
      if (mixed && p.beta_varies) tile.read_beta(beta);
      ADAPOOL_UNROLL
      for (int l = 0; l < kLanes; ++l) {
        const float share = mixed ? beta[l] : 1.0F;
        float first = 0, second = 0;
        grad_y[l] = 0;
        ADAPOOL_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float spread = v[l][i] * factor;
          const float other = mixed ? b[l][i] : 0.0F;
          first += a[l][i] * spread;
          second += other * spread;
          grad_y[l] += (share * a[l][i] + (1 - share) * other) * spread;
          a[l][i] = share * (spread * y[l]);
          b[l][i] = (1 - share) * (spread * y[l]);
        }
        grad_beta[l] = y[l] * (first - second);
      }
      if (mixed) sums.add(tile, grad_beta);
      tile.write_four(kGradMask, a);
      if (mixed) tile.write_four(kGradMaskEm, b);
      tile.write_one(kGradY, grad_y);
    }
    if (mixed) sums.finish(p, number);
  }
};

}  // namespace adapool::cuda
