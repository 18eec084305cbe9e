// The way from the host's code, which knows torch, to the device's, which doesn't.
#pragma once

#include "plan.h"

namespace adapool::cuda {

// Each queues one kernel on `stream` and returns CUDA's error code, 0 if there is none.
int launch_float32(const Launch& launch, const Problem& p, int64_t items, void* stream);
int launch_float16(const Launch& launch, const Problem& p, int64_t items, void* stream);
int launch_bfloat16(const Launch& launch, const Problem& p, int64_t items, void* stream);
int launch_float64(const Launch& launch, const Problem& p, int64_t items, void* stream);
int launch_sum(Type type, const SumProblem& p, int64_t items, void* stream);
const char* error_string(int error);

}  // namespace adapool::cuda
