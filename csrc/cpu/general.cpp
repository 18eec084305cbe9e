// The kernels over any windows; see kernels.cpp.
#include "kernels.h"

#include "../common/rows.h"

namespace adapool::ADAPOOL_ISA {

extern const Methods kGeneral;
const Methods kGeneral = ADAPOOL_METHODS(general, true);

}  // namespace adapool::ADAPOOL_ISA
