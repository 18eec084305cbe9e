#include "run.cuh"

namespace adapool::cuda {

int launch_float64(const Launch& launch, const Problem& p, int64_t items, void* stream) {
  return launch_items<double>(launch, p, items, stream);
}

}  // namespace adapool::cuda
