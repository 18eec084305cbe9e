// The kernels of 3x3 convolutions; see kernels.cpp.
#include "kernels.h"

#include "../common/convolve_gradient.h"

namespace adapool::ADAPOOL_ISA {

extern const Convolve kConvolve;
const Convolve kConvolve = {convolve_filters, convolve_blocks, gradient_blocks, gradient_filters};

}  // namespace adapool::ADAPOOL_ISA
