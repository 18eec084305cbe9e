// The kernels over 2x2 windows and the table of all. Compiled once per instruction set, with ADAPOOL_ISA
// naming it; knows nothing of torch (common/vector.h says why).
#include "kernels.h"

#include "../common/enlarge.h"
#include "../common/walk.h"

namespace adapool::ADAPOOL_ISA {
namespace {

template <class S, typename Simd<S>::V (*kFunction)(typename Simd<S>::V)>
void over_array(const S* in, S* out, int64_t count) {
  for (int64_t i = 0; i < count; i += Simd<S>::kCount) {
    const int64_t n = count - i < Simd<S>::kCount ? count - i : Simd<S>::kCount;
    typename Simd<S>::V v{};
    __builtin_memcpy(&v, in + i, n * sizeof(S));
    v = kFunction(v);
    __builtin_memcpy(out + i, &v, n * sizeof(S));
  }
}

Vec exp_unit_of(Vec t) {
  Vec one[] = {t};
  exp_unit(one);
  return one[0];
}
Vec exp_nonpositive_of(Vec t) {
  Vec one[] = {t};
  exp_nonpositive(one);
  return one[0];
}
Wide exp_double_of(Wide t) { return exp_nonpositive(t); }

#define ADAPOOL_STRING_OF(name) #name
#define ADAPOOL_STRING(name) ADAPOOL_STRING_OF(name)

constexpr Methods kWalks = ADAPOOL_METHODS(walk, false);

}  // namespace

extern const Methods kGeneral;    // general.cpp
extern const Convolve kConvolve;  // tiles.cpp

extern const Kernels kKernels;
const Kernels kKernels = {
    ADAPOOL_STRING(ADAPOOL_ISA),
    &kWalks,
    &kGeneral,
    enlarge_rows,
    &kConvolve,
    over_array<float, exp_unit_of>,
    over_array<float, exp_nonpositive_of>,
    over_array<double, exp_double_of>,
};

}  // namespace adapool::ADAPOOL_ISA
