#include "run.cuh"

namespace adapool::cuda {

int launch_sum(Type type, const SumProblem& p, int64_t items, void* stream) {
  Runner runner{static_cast<cudaStream_t>(stream)};
  if (type == Type::kDouble) {
    runner.run<SumItem<double>>(p, items);
  } else {
    runner.run<SumItem<float>>(p, items);
  }
  return runner.error;
}

const char* error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace adapool::cuda
