// adapool::ada_pool, ada_pool_masks and their backward on the CPU: checks what is ours, lays out the
// results and runs the kernel; all else goes to the reference.
#include "host.h"

namespace adapool {
namespace {

bool is_ours(const Tensor& x, const Tensor& beta, const IntList& kernel, const IntList& stride,
             const IntList& padding, bool ceil_mode) {
  return is_2x2(kernel, stride, padding) && x.dim() == 4 && has_kernels(x.scalar_type()) &&
         fits(beta, x) && x.numel() > 0 &&
         broadcasts(beta, x, window_count(x.size(2), ceil_mode), window_count(x.size(3), ceil_mode));
}

// The problem of pooling x, but for results; `x` becomes dense.
Problem pooling(Tensor& x, const Tensor& beta, Format format, bool ceil_mode) {
  x = in_format(x, format);
  Problem p = problem_for(x, format, x.size(2), x.size(3), window_count(x.size(2), ceil_mode),
                          window_count(x.size(3), ceil_mode));
  p.windows_in[0] = map_of(x);
  p.beta = beta_of(beta);
  return p;
}

Tensor ada_pool(Tensor x, Tensor beta, IntList kernel, IntList stride, IntList padding,
                bool ceil_mode, bool weight_grad) {
  if (!is_ours(x, beta, kernel, stride, padding, ceil_mode)) {
    return reference<1>("ada_pool", x, beta, kernel, stride, padding, ceil_mode, weight_grad);
  }
  const Format format = format_of(x);
  Problem p = pooling(x, beta, format, ceil_mode);
  Tensor y = new_tensor({p.batch, p.channels, p.out_height, p.out_width}, format, x.scalar_type());
  p.cells_out[0] = map_of(y);
  run(kernels().pool, p);
  return y;
}

std::tuple<Tensor, Tensor, Tensor> ada_pool_masks(Tensor x, Tensor beta, IntList kernel,
                                                  IntList stride, IntList padding, bool ceil_mode,
                                                  bool weight_grad) {
  if (!is_ours(x, beta, kernel, stride, padding, ceil_mode)) {
    return reference<3>("ada_pool_masks", x, beta, kernel, stride, padding, ceil_mode, weight_grad);
  }
  const Format format = format_of(x);
  Problem p = pooling(x, beta, format, ceil_mode);
  Tensor y = new_tensor({p.batch, p.channels, p.out_height, p.out_width}, format, x.scalar_type());
  const std::array<int64_t, 4> mask{p.batch, p.channels, 2 * p.out_height, 2 * p.out_width};
  Tensor edscw = new_tensor(mask, format, x.scalar_type());
  Tensor em = new_tensor(mask, format, x.scalar_type());
  p.cells_out[0] = map_of(y);
  p.windows_out[0] = map_of(edscw);
  p.windows_out[1] = map_of(em);
  run(kernels().pool_masks, p);
  return {y, edscw, em};
}

std::tuple<Tensor, Tensor> ada_pool_backward(Tensor grad, std::optional<Tensor> grad_edscw,
                                             std::optional<Tensor> grad_em, Tensor x, Tensor beta,
                                             IntList kernel, IntList stride, IntList padding,
                                             bool ceil_mode, bool weight_grad) {
  if (!is_ours(x, beta, kernel, stride, padding, ceil_mode) || !fits(grad, x) ||
      !fits(grad_edscw, x) || !fits(grad_em, x)) {
    return reference<2>("ada_pool_backward", grad, grad_edscw, grad_em, x, beta, kernel, stride,
                        padding, ceil_mode, weight_grad);
  }
  const Format format = format_of(x);
  Problem p = pooling(x, beta, format, ceil_mode);
  p.weight_grad = weight_grad;
  grad = in_format(grad, format);
  p.cells_in[0] = map_of(grad);
  const bool masks = weight_grad && (grad_edscw.has_value() || grad_em.has_value());
  const auto mask_gradient = [&](std::optional<Tensor>& given) {
    if (given.has_value()) return in_format(*given, format);
    Tensor none = new_tensor({p.batch, p.channels, 2 * p.out_height, 2 * p.out_width}, format,
                             x.scalar_type());
    return torch::stable::zero_(none);
  };
  Tensor first = masks ? mask_gradient(grad_edscw) : grad;
  Tensor second = masks ? mask_gradient(grad_em) : grad;
  p.windows_in[1] = map_of(first);
  p.windows_in[2] = map_of(second);
  Tensor grad_x = new_tensor(sizes_of(x), format, x.scalar_type());
  p.windows_out[0] = map_of(grad_x);
  const BetaGradient grad_beta(beta, format, p);
  run(masks ? kernels().pool_masks_backward : kernels().pool_backward, p);
  return {grad_x, grad_beta.result(p)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(adapool, CPU, m) {
  m.impl("ada_pool", TORCH_BOX(&ada_pool));
  m.impl("ada_pool_masks", TORCH_BOX(&ada_pool_masks));
  m.impl("ada_pool_backward", TORCH_BOX(&ada_pool_backward));
}

}  // namespace adapool
