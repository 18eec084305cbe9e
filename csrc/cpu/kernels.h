// The kernels of one instruction set, and the choice among the sets.
#pragma once

#include <cstdint>

#include "../common/problem.h"

namespace adapool {

// Runs rows [begin, end) of Problem::work_rows().
using Kernel = void (*)(const Problem&, int64_t begin, int64_t end);
using Enlarge = void (*)(const Enlargement&, int64_t begin, int64_t end);
using Function = void (*)(const float* in, float* out, int64_t count);

struct Kernels {
  const char* isa;
  // windows_in, cells_in → windows_out, cells_out
  Kernel pool;                  // x → y
  Kernel pool_masks;            // x → edscw, em, y
  Kernel pool_backward;         // x; grad → grad_x
  Kernel pool_masks_backward;   // x, grad_edscw, grad_em; grad → grad_x
  Kernel unpool;                // edscw, em; y → u
  Kernel unpool_single;         // mask; y → u
  Kernel unpool_backward;       // grad, edscw, em; y → grad_edscw, grad_em, grad_y
  Kernel unpool_single_backward;  // grad, mask; y → grad_mask, grad_y
  Kernel unpool_like;           // x; y → u
  Kernel unpool_like_backward;  // grad, x; y → grad_x, grad_y
  Enlarge enlarge_add;
  // The exponentials over arrays, for the tests of their error.
  Function exp_unit;
  Function exp_nonpositive;
};

namespace baseline {
extern const Kernels kKernels;
}
#ifdef ADAPOOL_WITH_X86
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#endif

// The widest set that the processor has and ADAPOOL_ISA allows; chosen once.
const Kernels& kernels();

}  // namespace adapool
