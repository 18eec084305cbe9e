// One thread an item.
#pragma once

#include <cuda_runtime.h>

#include "dispatch.h"
#include "kernels.h"

namespace adapool::cuda {

// 128 registers a thread: none spills, and small blocks waste none.
constexpr int kThreads = 128;
constexpr int kBlocks = 4;

template <class Item, class Data>
__global__ void __launch_bounds__(kThreads, kBlocks) run_items(const __grid_constant__ Data data,
                                                      uint32_t items) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  if (item < items) Item::run(data, item);
}

struct Runner {
  cudaStream_t stream;
  cudaError_t error = cudaErrorInvalidValue;  // until something runs

  template <class Item, class Data>
  void run(const Data& data, int64_t items) {
    const auto blocks = static_cast<uint32_t>(ceil_div(items, kThreads));
    run_items<Item><<<blocks, kThreads, 0, stream>>>(data, static_cast<uint32_t>(items));
    error = cudaGetLastError();
  }
};

template <class Scalar>
int launch_items(const Launch& launch, const Problem& p, int64_t items, void* stream) {
  Runner runner{static_cast<cudaStream_t>(stream)};
  dispatch<Scalar>(launch, p, items, runner);
  return runner.error;
}

}  // namespace adapool::cuda
