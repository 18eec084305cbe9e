#include "run.cuh"

namespace adapool::cuda {

int launch_bfloat16(const Launch& launch, const Problem& p, int64_t items, void* stream) {
  return launch_items<Bfloat16>(launch, p, items, stream);
}

}  // namespace adapool::cuda
