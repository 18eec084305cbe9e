// What a kernel is told, and which place its work items have: plain data and integer arithmetic.
//
// A work item is a window or a pixel; no two items write the same memory and none reads what
// another writes, so that the order in which a device runs them can't matter. Items are numbered in
// the order of the memory format: neighbours in memory are neighbours in a warp.
#pragma once

#include "scalar.h"

namespace adapool::cuda {

// A tensor (N, C, *space) by strides in elements; space is filled up to three dimensions in front.
struct Map {
  void* data;
  int64_t batch;
  int64_t channel;
  int64_t space[3];
};

// The maps of a call. What is absent has no data.
enum Role : int {
  kX,          // what is pooled
  kBeta,       // strides of 0 where it is broadcast
  kY,          // a value a window: pooling writes it, unpooling reads it
  kGradient,   // of y (pooling's backward) or of u (unpooling's)
  kU,          // a value a pixel: unpooling's result, or the gradient of x
  kMask,       // (N, C, *(out·kernel))
  kMaskEm,
  kGradMask,   // read by pooling's backward, written by unpooling's
  kGradMaskEm,
  kGradY,      // written by unpooling's backward
  kGradBeta,   // a value a window, of the accumulator's type
  kRoles,
};

struct Geometry {
  int32_t size[3];
  int32_t out[3];
  int32_t kernel[3];
  int32_t stride[3];
  int32_t padding[3];
};

// The rule of IDW's distances.
struct Rule {
  bool huber;
  bool drop;
  double delta;
};

// n / d for n < 2^31 as a multiplication (Granlund and Montgomery).
struct Divider {
  uint32_t by;
  uint32_t magic;
  uint32_t shift;

  static Divider of(int32_t by) {
    uint32_t shift = 0;
    while ((uint64_t{1} << shift) < static_cast<uint32_t>(by)) ++shift;
    const uint64_t magic =
        ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - static_cast<uint32_t>(by))) / by + 1;
    return {static_cast<uint32_t>(by), static_cast<uint32_t>(magic), shift};
  }
  // The quotient; `n` becomes the remainder.
  ADAPOOL_HD uint32_t divide(uint32_t& n) const {
#ifdef __CUDA_ARCH__
    const uint32_t high = __umulhi(n, magic);
#else
    const auto high = static_cast<uint32_t>((uint64_t{n} * magic) >> 32);
#endif
    const uint32_t quotient = (high + n) >> shift;
    n -= quotient * by;
    return quotient;
  }
};

// How items are numbered: the sizes of all dimensions but the slowest, the fastest first.
struct Order {
  Divider by[4];
};

struct Problem {
  Geometry geometry;
  Map maps[kRoles];
  int32_t batch;
  int32_t channels;
  bool channels_last;
  bool weight_grad;  // whether weights are differentiated or held constant
  bool pairs;        // 2x2 windows of stride 2 without padding, of a type with quick arithmetic
  bool beta_varies;  // over space
  Rule rule;
  double gain;       // of unpooling; 0 stands for "area"
  Order windows;
  Order pixels;
  Order tiles;       // see tiles.h
  uint32_t windows_count;
  void* states;  // of windows (see windows.h), one field after the other
  void* partial;  // sums for the gradient of beta (see tiles.h)
};

// One level of the sums for the gradient of beta, see SumItem.
struct SumProblem {
  const void* in;  // (outer, count, inner)
  void* out;       // (outer, groups, inner)
  uint32_t count;
  Divider inner;
  Divider groups;
};

// A window or a pixel.
struct Place {
  int32_t batch;
  int32_t channel;
  int32_t at[3];
};

ADAPOOL_HD Place place_of(uint32_t item, const Order& order, bool channels_last) {
  Place place;
  int32_t rest[4];
  uint32_t quotient = item;
  ADAPOOL_UNROLL
  for (int i = 0; i < 4; ++i) {
    uint32_t remainder = quotient;
    quotient = order.by[i].divide(remainder);
    rest[i] = static_cast<int32_t>(remainder);
  }
  place.batch = static_cast<int32_t>(quotient);
  place.channel = channels_last ? rest[0] : rest[3];
  ADAPOOL_UNROLL
  for (int i = 0; i < 3; ++i) place.at[2 - i] = channels_last ? rest[i + 1] : rest[i];
  return place;
}

inline Order order_of(const int32_t (&space)[3], int32_t channels, bool channels_last) {
  if (channels_last) {
    return {{Divider::of(channels), Divider::of(space[2]), Divider::of(space[1]),
             Divider::of(space[0])}};
  }
  return {{Divider::of(space[2]), Divider::of(space[1]), Divider::of(space[0]),
           Divider::of(channels)}};
}

// The number of a window, the reverse of place_of.
ADAPOOL_HD uint32_t window_number(const Problem& p, const Place& pixel, const int32_t (&at)[3]) {
  const auto& out = p.geometry.out;
  const uint32_t images = p.channels_last ? pixel.batch : pixel.batch * p.channels + pixel.channel;
  const uint32_t number = ((images * out[0] + at[0]) * out[1] + at[1]) * out[2] + at[2];
  return p.channels_last ? number * p.channels + pixel.channel : number;
}

ADAPOOL_HD int64_t offset_of(const Map& map, const Place& place) {
  return place.batch * map.batch + place.channel * map.channel + place.at[0] * map.space[0] +
         place.at[1] * map.space[1] + place.at[2] * map.space[2];
}

// One entry of a map.
template <class Scalar>
ADAPOOL_HD Accumulator<Scalar> read(const Map& map, const Place& place) {
  return widen(static_cast<const Scalar*>(map.data)[offset_of(map, place)]);
}
template <class Scalar>
ADAPOOL_HD void write(const Map& map, const Place& place, Accumulator<Scalar> value) {
  narrow(value, static_cast<Scalar*>(map.data)[offset_of(map, place)]);
}

// The windows that contain position `at` of a dimension: [first, last], empty if last < first.
ADAPOOL_HD void windows_at(const Geometry& g, int dim, int32_t at, int32_t& first, int32_t& last) {
  const int32_t padded = at + g.padding[dim];
  const int32_t before = padded - g.kernel[dim];
  first = before < 0 ? 0 : before / g.stride[dim] + 1;
  last = padded / g.stride[dim];
  last = last < g.out[dim] - 1 ? last : g.out[dim] - 1;
}

// How many windows contain a pixel.
ADAPOOL_HD int32_t cover_of(const Geometry& g, const int32_t (&at)[3]) {
  int32_t cover = 1;
  ADAPOOL_UNROLL
  for (int dim = 0; dim < 3; ++dim) {
    int32_t first, last;
    windows_at(g, dim, at[dim], first, last);
    cover *= last < first ? 0 : last - first + 1;
  }
  return cover;
}

}  // namespace adapool::cuda
