// The way from a native kernel to the reference, for all that is not its own. On the side of torch;
// stable ABI only.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/shim_utils.h>

#include <array>
#include <string>
#include <tuple>

namespace adapool {

// Runs the operator of the same name that is the reference alone (ops/library.py).
template <size_t kResults, class... Arguments>
auto reference(const char* name, const Arguments&... arguments) {
  constexpr size_t kSize = sizeof...(Arguments) > kResults ? sizeof...(Arguments) : kResults;
  std::array<StableIValue, kSize> stack{torch::stable::detail::from(arguments)...};
  const std::string full_name = std::string("adapool_reference::") + name;
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher(full_name.c_str(), "", stack.data(), TORCH_ABI_VERSION));
  const auto take = [&stack](size_t i) {
    return torch::stable::detail::to<torch::stable::Tensor>(stack[i]);
  };
  if constexpr (kResults == 1) {
    return take(0);
  } else if constexpr (kResults == 2) {
    return std::make_tuple(take(0), take(1));
  } else if constexpr (kResults == 3) {
    return std::make_tuple(take(0), take(1), take(2));
  } else {
    return std::make_tuple(take(0), take(1), take(2), take(3));
  }
}

}  // namespace adapool
