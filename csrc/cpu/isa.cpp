// Chooses the kernels at load, by what the processor reports.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

#define ADAPOOL_EXPORT extern "C" __attribute__((visibility("default")))

namespace adapool {
namespace {

const Kernels& choose() {
#ifdef ADAPOOL_ONLY
  return ADAPOOL_ONLY::kKernels;
#else
  const char* forced = std::getenv("ADAPOOL_ISA");
  const auto allowed = [forced](const char* isa) {
    return forced == nullptr || *forced == '\0' || std::strcmp(forced, isa) == 0;
  };
  // A name that asks for less than the processor has is obeyed, one that asks for more is not.
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl");
  if (has_avx512 && allowed("avx512")) return avx512::kKernels;
  if (has_avx2 && (allowed("avx2") || allowed("avx512"))) return avx2::kKernels;
  return baseline::kKernels;
#endif
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace adapool

// For adapool_sr.ops.build and the tests, by ctypes.
ADAPOOL_EXPORT const char* adapool_isa() { return adapool::kernels().isa; }
ADAPOOL_EXPORT void adapool_exp_unit(const float* in, float* out, int64_t count) {
  adapool::kernels().exp_unit(in, out, count);
}
ADAPOOL_EXPORT void adapool_exp_nonpositive(const float* in, float* out, int64_t count) {
  adapool::kernels().exp_nonpositive(in, out, count);
}
ADAPOOL_EXPORT void adapool_exp_double(const double* in, double* out, int64_t count) {
  adapool::kernels().exp_double(in, out, count);
}
