// The kernels of one instruction set, and the choice among the sets.
#pragma once

#include <cstdint>

#include "../common/problem.h"

namespace adapool {

// Runs a share [begin, end) of a Problem: of its rows of windows, or of its units (common/shares.h).
using Kernel = void (*)(const Problem&, int64_t begin, int64_t end);
using Enlarge = void (*)(const Enlargement&, int64_t begin, int64_t end);
struct Convolve {
  void (*filters)(const Convolution&);  // first, by one thread
  void (*blocks)(const Convolution&, int64_t begin, int64_t end);
  void (*gradient_blocks)(const Convolution&, int64_t begin, int64_t end);  // of shares
  void (*gradient_filters)(const Convolution&);                             // then, by one thread
};
using Function = void (*)(const float* in, float* out, int64_t count);

enum Weighting { kAda, kEdscw, kEm, kIdw, kWeightings };
// windows_in, cell_in → windows_out, cell_out; AdaPool has two masks, the others one
enum Method {
  kPool,               // x → y
  kPoolMasks,          // x → masks, y
  kPoolBackward,       // x; grad → grad_x
  kPoolMasksBackward,  // x, masks' gradients; grad → grad_x
  kPoolMethods
};
enum UnpoolMethod {
  kUnpool,                // edscw, em; y → u
  kUnpoolSingle,          // mask; y → u
  kUnpoolBackward,        // grad, edscw, em; y → grad_edscw, grad_em, grad_y
  kUnpoolSingleBackward,  // grad, mask; y → grad_mask, grad_y
  kUnpoolLike,            // x; y → u
  kUnpoolLikeBackward,    // grad, x; y → grad_x, grad_y
  kUnpoolMethods
};

struct Methods {
  Kernel pool[kWeightings][kPoolMethods];
  Kernel unpool[kUnpoolMethods];
};

struct Kernels {
  const char* isa;
  const Methods* walks;    // of 2x2 windows (Problem::is_2x2), but for those that are null
  const Methods* general;  // of any
  Enlarge enlarge_add;
  const Convolve* convolve;
  // The exponentials over arrays, for the tests of their error.
  Function exp_unit;
  Function exp_nonpositive;
  void (*exp_double)(const double* in, double* out, int64_t count);
};

namespace baseline {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

// Those of the set ADAPOOL_ONLY, if it is defined: a library that was built for this machine. Else of the
// widest set that the processor has and the variable ADAPOOL_ISA allows; chosen once.
const Kernels& kernels();

}  // namespace adapool

// The kernels `run` of all methods: a new pooling is a line here. For files that include
// common/methods.h and are compiled once per instruction set. Without `many`,
// masks' gradients of one method alone, which are rare, are left to the other table.
#define ADAPOOL_POOLS(run, First, mixed, many)                                        \
  {                                                                                   \
    run<Pool<First, mixed, false>>, run<Pool<First, mixed, true>>,                    \
        run<PoolBackward<First, mixed, false>>,                                       \
        many ? run<PoolBackward<First, mixed, mixed || many>> : nullptr               \
  }
#define ADAPOOL_METHODS(run, many)                                                    \
  {                                                                                   \
    {ADAPOOL_POOLS(run, Edscw, true, true), ADAPOOL_POOLS(run, Edscw, false, many),   \
     ADAPOOL_POOLS(run, Em, false, many), ADAPOOL_POOLS(run, Idw, false, many)},      \
    {                                                                                 \
      run<Unpool<false>>, run<Unpool<true>>, run<UnpoolBackward<false>>,              \
          run<UnpoolBackward<true>>, run<UnpoolLike>, run<UnpoolLikeBackward>         \
    }                                                                                 \
  }
