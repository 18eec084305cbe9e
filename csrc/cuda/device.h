// Where the kernels run: on the CUDA device of the tensors, or, with ADAPOOL_EMULATE, in a loop on
// the CPU (emulate.cpp), so that the tests run all of csrc/cuda but the launches without a device.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "kernels.h"

// The macro makes strings of its arguments: this one has them replaced first.
#define ADAPOOL_LIBRARY(space, key, m) STABLE_TORCH_LIBRARY_IMPL(space, key, m)

#ifdef ADAPOOL_EMULATE
#define ADAPOOL_NAMESPACE adapool_emulated
#define ADAPOOL_KEY CPU
#else
#define ADAPOOL_NAMESPACE adapool
#define ADAPOOL_KEY CUDA
#endif

namespace adapool::cuda {

using torch::stable::Tensor;

#ifdef ADAPOOL_EMULATE

inline bool is_here(const Tensor& t) { return t.is_cpu(); }
inline int32_t device_type() { return aoti_torch_device_type_cpu(); }
inline int32_t device_index(const Tensor&) { return 0; }
// Fills fresh memory, which the kernels must write all of.
void poison(void* data, int64_t bytes);
int64_t most_items();

struct Queue {
  explicit Queue(const Tensor&) {}
  void* stream = nullptr;
};

#else

inline bool is_here(const Tensor& t) { return t.is_cuda(); }
inline int32_t device_type() { return aoti_torch_device_type_cuda(); }
inline int32_t device_index(const Tensor& t) { return t.get_device_index(); }
inline void poison(void*, int64_t) {}
inline int64_t most_items() { return kMostItems; }

// Makes the tensor's device the current one for a while, and finds its current stream.
struct Queue {
  explicit Queue(const Tensor& t) : guard(t.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  }
  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;
};

#endif

}  // namespace adapool::cuda
