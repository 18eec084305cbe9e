// adapool::ada_unpool, ada_unpool_like and their backward on the CPU; see ada_pool.cpp.
#include "host.h"

namespace adapool {
namespace {

// y (N, C, oH, oW) spread over a map of `height` x `width`.
bool is_ours(const Tensor& y, int64_t height, int64_t width, const IntList& kernel,
             const IntList& stride, const IntList& padding, bool ceil_mode) {
  return is_2x2(kernel, stride, padding) && y.dim() == 4 && has_kernels(y.scalar_type()) &&
         y.is_cpu() && y.numel() > 0 && y.size(2) == window_count(height, ceil_mode) &&
         y.size(3) == window_count(width, ceil_mode);
}

bool masks_fit(const Tensor& y, const Tensor& mask, const std::optional<Tensor>& mask_em,
               const std::optional<Tensor>& beta) {
  const auto is_mask = [&y](const Tensor& t) {
    return fits(t, y) && has_shape(t, y, 2 * y.size(2), 2 * y.size(3));
  };
  if (!is_mask(mask) || mask_em.has_value() != beta.has_value()) return false;
  return !beta.has_value() ||
         (is_mask(*mask_em) && fits(*beta, y) && broadcasts(*beta, y, y.size(2), y.size(3)));
}

bool like_fits(const Tensor& y, const Tensor& x, const Tensor& beta) {
  return fits(x, y) && fits(beta, y) && x.size(0) == y.size(0) && x.size(1) == y.size(1) &&
         broadcasts(beta, y, y.size(2), y.size(3));
}

Problem unpooling(const Tensor& y, Format format, int64_t height, int64_t width, double gain) {
  Problem p = problem_for(y, format, height, width, y.size(2), y.size(3));
  p.cells_in[0] = map_of(y);
  p.gain = static_cast<float>(gain);
  return p;
}

Tensor ada_unpool(Tensor y, Tensor mask, std::optional<Tensor> mask_em, std::optional<Tensor> beta,
                  IntList size, IntList kernel, IntList stride, IntList padding, bool ceil_mode,
                  double gain) {
  if (size.size() != 2 || !is_ours(y, size[0], size[1], kernel, stride, padding, ceil_mode) ||
      !masks_fit(y, mask, mask_em, beta)) {
    return reference<1>("ada_unpool", y, mask, mask_em, beta, size, kernel, stride, padding,
                        ceil_mode, gain);
  }
  const Format format = format_of(y);
  y = in_format(y, format);
  mask = in_format(mask, format);
  Problem p = unpooling(y, format, size[0], size[1], gain);
  p.windows_in[0] = map_of(mask);
  if (beta.has_value()) {
    mask_em = in_format(*mask_em, format);
    p.windows_in[1] = map_of(*mask_em);
    p.beta = beta_of(*beta);
  }
  Tensor u = new_tensor({p.batch, p.channels, size[0], size[1]}, format, y.scalar_type());
  p.windows_out[0] = map_of(u);
  run(beta.has_value() ? kernels().unpool : kernels().unpool_single, p);
  return u;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> ada_unpool_backward(
    Tensor grad, Tensor y, Tensor mask, std::optional<Tensor> mask_em, std::optional<Tensor> beta,
    IntList size, IntList kernel, IntList stride, IntList padding, bool ceil_mode, double gain) {
  if (size.size() != 2 || !is_ours(y, size[0], size[1], kernel, stride, padding, ceil_mode) ||
      !masks_fit(y, mask, mask_em, beta) || !fits(grad, y)) {
    return reference<4>("ada_unpool_backward", grad, y, mask, mask_em, beta, size, kernel, stride,
                        padding, ceil_mode, gain);
  }
  const Format format = format_of(y);
  const ScalarType type = y.scalar_type();
  const Format mask_format = format_of(mask);
  y = in_format(y, format);
  grad = in_format(grad, format);
  mask = in_format(mask, format);
  Problem p = unpooling(y, format, size[0], size[1], gain);
  p.windows_in[0] = map_of(grad);
  p.windows_in[1] = map_of(mask);
  Tensor grad_y = new_tensor(sizes_of(y), format, type);
  Tensor grad_mask = new_tensor(sizes_of(mask), format, type);
  p.cells_out[0] = map_of(grad_y);
  p.windows_out[0] = map_of(grad_mask);
  if (!beta.has_value()) {
    run(kernels().unpool_single_backward, p);
    const std::array<int64_t, 1> nothing{0};
    const Tensor none = torch::stable::new_empty(y, {nothing.data(), 1});
    const Tensor none_too = torch::stable::new_empty(y, {nothing.data(), 1});
    return {grad_y, in_format(grad_mask, mask_format), none, none_too};
  }
  const Format em_format = format_of(*mask_em);
  mask_em = in_format(*mask_em, format);
  p.windows_in[2] = map_of(*mask_em);
  p.beta = beta_of(*beta);
  Tensor grad_em = new_tensor(sizes_of(mask), format, type);
  p.windows_out[1] = map_of(grad_em);
  const BetaGradient grad_beta(*beta, format, p);
  run(kernels().unpool_backward, p);
  return {grad_y, in_format(grad_mask, mask_format), in_format(grad_em, em_format),
          grad_beta.result(p)};
}

Tensor ada_unpool_like(Tensor y, Tensor x, Tensor beta, IntList kernel, IntList stride,
                       IntList padding, bool ceil_mode, bool weight_grad, double gain) {
  if (x.dim() != 4 || !is_ours(y, x.size(2), x.size(3), kernel, stride, padding, ceil_mode) ||
      !like_fits(y, x, beta)) {
    return reference<1>("ada_unpool_like", y, x, beta, kernel, stride, padding, ceil_mode,
                        weight_grad, gain);
  }
  const Format format = format_of(y);
  y = in_format(y, format);
  x = in_format(x, format);
  Problem p = unpooling(y, format, x.size(2), x.size(3), gain);
  p.windows_in[0] = map_of(x);
  p.beta = beta_of(beta);
  Tensor u = new_tensor(sizes_of(x), format, y.scalar_type());
  p.windows_out[0] = map_of(u);
  run(kernels().unpool_like, p);
  return u;
}

std::tuple<Tensor, Tensor, Tensor> ada_unpool_like_backward(Tensor grad, Tensor y, Tensor x,
                                                            Tensor beta, IntList kernel,
                                                            IntList stride, IntList padding,
                                                            bool ceil_mode, bool weight_grad,
                                                            double gain) {
  if (x.dim() != 4 || !is_ours(y, x.size(2), x.size(3), kernel, stride, padding, ceil_mode) ||
      !like_fits(y, x, beta) || !fits(grad, y)) {
    return reference<3>("ada_unpool_like_backward", grad, y, x, beta, kernel, stride, padding,
                        ceil_mode, weight_grad, gain);
  }
  const Format format = format_of(y);
  const Format x_format = format_of(x);
  y = in_format(y, format);
  x = in_format(x, format);
  grad = in_format(grad, format);
  Problem p = unpooling(y, format, x.size(2), x.size(3), gain);
  p.weight_grad = weight_grad;
  p.windows_in[0] = map_of(grad);
  p.windows_in[1] = map_of(x);
  p.beta = beta_of(beta);
  Tensor grad_y = new_tensor(sizes_of(y), format, y.scalar_type());
  Tensor grad_x = new_tensor(sizes_of(x), format, y.scalar_type());
  p.cells_out[0] = map_of(grad_y);
  p.windows_out[0] = map_of(grad_x);
  const BetaGradient grad_beta(beta, format, p);
  run(kernels().unpool_like_backward, p);
  return {grad_y, in_format(grad_x, x_format), grad_beta.result(p)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(adapool, CPU, m) {
  m.impl("ada_unpool", TORCH_BOX(&ada_unpool));
  m.impl("ada_unpool_backward", TORCH_BOX(&ada_unpool_backward));
  m.impl("ada_unpool_like", TORCH_BOX(&ada_unpool_like));
  m.impl("ada_unpool_like_backward", TORCH_BOX(&ada_unpool_like_backward));
}

}  // namespace adapool
