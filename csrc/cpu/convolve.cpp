// adapool::fused_conv3x3 on the CPU; see pool.cpp.
#include "host.h"

namespace adapool {
namespace {

bool has_type(const std::optional<Tensor>& t) {
  return !t.has_value() || (t->scalar_type() == ScalarType::Float && t->is_cpu());
}

Convolution problem_of(const Tensor& x, int64_t out) {
  Convolution p;
  p.batch = x.size(0);
  p.in = x.size(1);
  p.height = x.size(2);
  p.width = x.size(3);
  p.out = out;
  p.x = static_cast<const float*>(x.data_ptr());
  return p;
}

Tensor fused_conv3x3(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> add,
               bool relu) {
  if (!has_type(x) || !has_type(weight) || !has_type(bias) || !has_type(add) || x.numel() == 0 ||
      weight.numel() == 0) {
    return reference<1>("fused_conv3x3", x, weight, bias, add, relu);
  }
  x = in_format(x, Format::kChannelsLast);
  weight = in_format(weight, Format::kContiguous);
  if (bias.has_value()) bias = in_format(*bias, Format::kContiguous);
  if (add.has_value()) add = in_format(*add, Format::kChannelsLast);
  Convolution p = problem_of(x, weight.size(0));
  p.relu = relu;
  p.weight = static_cast<const float*>(weight.data_ptr());
  p.bias = bias.has_value() ? static_cast<const float*>(bias->data_ptr()) : nullptr;
  p.add = add.has_value() ? static_cast<const float*>(add->data_ptr()) : nullptr;
  Tensor filters = new_tensor({{kTilePoints, p.in, (p.out + 15) / 16 * 16}, 3}, Format::kContiguous,
                              ScalarType::Float);
  p.filters = static_cast<float*>(filters.mutable_data_ptr());
  kernels().convolve->filters(p);
  Tensor y = new_tensor({{p.batch, p.out, p.height, p.width}, 4}, Format::kChannelsLast,
                        ScalarType::Float);
  p.y = static_cast<float*>(y.mutable_data_ptr());
  torch::stable::parallel_for(0, p.blocks(), 1, [&p](int64_t begin, int64_t end) {
    kernels().convolve->blocks(p, begin, end);
  });
  return y;
}

std::tuple<Tensor, Tensor> conv3x3_weight_gradient(Tensor x, Tensor grad) {
  if (!has_type(x) || !has_type(grad) || x.numel() == 0 || grad.numel() == 0) {
    return reference<2>("conv3x3_weight_gradient", x, grad);
  }
  x = in_format(x, Format::kChannelsLast);
  grad = in_format(grad, Format::kChannelsLast);
  Convolution p = problem_of(x, grad.size(1));
  p.grad = static_cast<const float*>(grad.data_ptr());
  Tensor sums = new_tensor({{p.shares(), p.share_size()}, 2}, Format::kContiguous, ScalarType::Float);
  torch::stable::zero_(sums);
  p.sums = static_cast<float*>(sums.mutable_data_ptr());
  Tensor weight =
      new_tensor({{p.out, p.in, 3, 3}, 4}, Format::kContiguous, ScalarType::Float);
  Tensor bias = new_tensor({{p.out}, 1}, Format::kContiguous, ScalarType::Float);
  p.grad_weight = static_cast<float*>(weight.mutable_data_ptr());
  p.grad_bias = static_cast<float*>(bias.mutable_data_ptr());
  torch::stable::parallel_for(0, p.shares(), 1, [&p](int64_t begin, int64_t end) {
    kernels().convolve->gradient_blocks(p, begin, end);
  });
  kernels().convolve->gradient_filters(p);
  return {weight, bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(adapool, CPU, m) {
  m.impl("fused_conv3x3", TORCH_BOX(&fused_conv3x3));
  m.impl("conv3x3_weight_gradient", TORCH_BOX(&conv3x3_weight_gradient));
}

}  // namespace adapool
