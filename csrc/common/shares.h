// How the general walk's work is shared out (see rows.h); the host only counts the units.
#pragma once

#include "problem.h"

#ifndef ADAPOOL_ISA
#define ADAPOOL_ISA baseline
#endif

namespace adapool::ADAPOOL_ISA {

// The windows of a unit of work, [begin, end) along the first two dimensions, and the input's rows that
// are its own. Windows from `halo` on, before begin, reach into them too.
struct Block {
  int64_t begin, end, halo;
  int64_t first, last;
};

// How a Problem is shared out. What scatters to a map with overlapping windows owns whole planes, or
// blocks of them where there are few; all else, single rows of windows. No two units write the same
// place, and the shares depend on shapes alone.
struct Shares {
  int64_t length[2];  // windows of a unit along the first two dimensions
  int64_t blocks[2];
  int64_t units;

  Shares(const Problem& p, bool scatters) {
    length[0] = length[1] = 1;
    if (scatters && (halo(p, 0) > 0 || halo(p, 1) > 0)) {
      constexpr int64_t kEnough = 16;
      const int64_t wanted = (kEnough + p.planes() - 1) / (p.planes() > 0 ? p.planes() : 1);
      const int cut = p.out[0] > 1 ? 0 : 1;
      length[0] = p.out[0];
      length[1] = p.out[1];
      int64_t share = (p.out[cut] + wanted - 1) / wanted;
      if (share < 4 * halo(p, cut)) share = 4 * halo(p, cut);
      if (share < 1) share = 1;
      if (share < length[cut]) length[cut] = share;
    }
    for (int i = 0; i < 2; ++i) blocks[i] = (p.out[i] + length[i] - 1) / length[i];
    units = p.planes() * blocks[0] * blocks[1];
  }

  // How many windows further back still reach a position.
  static int64_t halo(const Problem& p, int dim) {
    return (p.kernel[dim] + p.stride[dim] - 1) / p.stride[dim] - 1;
  }

  Block block(const Problem& p, int dim, int64_t number) const {
    Block b;
    b.begin = number * length[dim];
    b.end = b.begin + length[dim] < p.out[dim] ? b.begin + length[dim] : p.out[dim];
    b.halo = b.begin > halo(p, dim) ? b.begin - halo(p, dim) : 0;
    const auto start = [&](int64_t window) {
      const int64_t at = window * p.stride[dim] - p.padding[dim];
      return at < 0 ? 0 : at < p.size[dim] ? at : p.size[dim];
    };
    b.first = b.begin == 0 ? 0 : start(b.begin);
    b.last = b.end == p.out[dim] ? p.size[dim] : start(b.end);
    return b;
  }
};

}  // namespace adapool::ADAPOOL_ISA
