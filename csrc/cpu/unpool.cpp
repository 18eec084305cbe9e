// adapool::ada_unpool, ada_unpool_like and their backward on the CPU; see pool.cpp.
#include "host.h"

namespace adapool {
namespace {

// The call that spreads y over a map of `size`, if y and the window are ours.
Call unpooling(const Tensor& y, const int64_t* size, int64_t dims, const IntList& kernel,
               const IntList& stride, const IntList& padding, bool ceil_mode, double gain) {
  Call call(y, size, dims, kernel, stride, padding, ceil_mode);
  call.valid = call.valid && call.has(y, call.cells);
  call.p.gain = gain;
  call.set(format_of(y));
  return call;
}

// With masks that are kept.
Call by_masks(const Tensor& y, const Tensor& mask, const std::optional<Tensor>& mask_em,
              const std::optional<Tensor>& beta, const IntList& size, const IntList& kernel,
              const IntList& stride, const IntList& padding, bool ceil_mode, double gain) {
  Call call = unpooling(y, size.data(), static_cast<int64_t>(size.size()), kernel, stride, padding,
                        ceil_mode, gain);
  const auto is_mask = [&](const Tensor& t) { return fits(t, y) && call.has(t, call.mask); };
  call.valid = call.valid && is_mask(mask) && mask_em.has_value() == beta.has_value();
  if (call.valid && beta.has_value()) {
    call.valid = is_mask(*mask_em) && fits(*beta, y) && call.broadcasts(*beta);
    if (call.valid) call.p.beta = beta_of(*beta);
  }
  return call;
}

// With the weights of the map x that was pooled.
Call by_like(const Tensor& y, const Tensor& x, const Tensor& beta, const IntList& kernel,
             const IntList& stride, const IntList& padding, bool ceil_mode, double gain) {
  Call call = unpooling(y, x.sizes().data() + 2, x.dim() - 2, kernel, stride, padding, ceil_mode,
                        gain);
  call.valid = call.valid && fits(x, y) && call.has(x, call.map) && fits(beta, y) &&
               call.broadcasts(beta);
  if (call.valid) call.p.beta = beta_of(beta);
  return call;
}

Tensor ada_unpool(Tensor y, Tensor mask, std::optional<Tensor> mask_em, std::optional<Tensor> beta,
                  IntList size, IntList kernel, IntList stride, IntList padding, bool ceil_mode,
                  double gain) {
  Call call = by_masks(y, mask, mask_em, beta, size, kernel, stride, padding, ceil_mode, gain);
  if (!call.valid) {
    return reference<1>("ada_unpool", y, mask, mask_em, beta, size, kernel, stride, padding,
                        ceil_mode, gain);
  }
  const Format format = format_of(y);
  y = in_format(y, format);
  mask = in_format(mask, format);
  call.p.cell_in = y.data_ptr();
  call.p.windows_in[0] = mask.data_ptr();
  if (beta.has_value()) {
    mask_em = in_format(*mask_em, format);
    call.p.windows_in[1] = mask_em->data_ptr();
  }
  Tensor u = new_tensor(call.map, format, y.scalar_type());
  call.p.windows_out[0] = u.mutable_data_ptr();
  run(beta.has_value() ? kUnpool : kUnpoolSingle, call.p);
  return u;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> ada_unpool_backward(
    Tensor grad, Tensor y, Tensor mask, std::optional<Tensor> mask_em, std::optional<Tensor> beta,
    IntList size, IntList kernel, IntList stride, IntList padding, bool ceil_mode, double gain) {
  Call call = by_masks(y, mask, mask_em, beta, size, kernel, stride, padding, ceil_mode, gain);
  if (!call.valid || !fits(grad, y) || !call.has(grad, call.map)) {
    return reference<4>("ada_unpool_backward", grad, y, mask, mask_em, beta, size, kernel, stride,
                        padding, ceil_mode, gain);
  }
  const Format format = format_of(y);
  const ScalarType type = y.scalar_type();
  const Format mask_format = format_of(mask);
  y = in_format(y, format);
  grad = in_format(grad, format);
  mask = in_format(mask, format);
  Tensor grad_y = new_tensor(call.cells, format, type);
  Tensor grad_mask = new_tensor(call.mask, format, type);
  call.p.cell_in = y.data_ptr();
  call.p.cell_out = grad_y.mutable_data_ptr();
  call.p.windows_in[0] = grad.data_ptr();
  call.p.windows_in[1] = mask.data_ptr();
  call.p.windows_out[0] = grad_mask.mutable_data_ptr();
  if (!beta.has_value()) {
    run(kUnpoolSingleBackward, call.p);
    const Shape nothing{{0}, 1};
    return {grad_y, in_format(grad_mask, mask_format),
            new_tensor(nothing, Format::kContiguous, type),
            new_tensor(nothing, Format::kContiguous, type)};
  }
  const Format em_format = format_of(*mask_em);
  mask_em = in_format(*mask_em, format);
  Tensor grad_em = new_tensor(call.mask, format, type);
  call.p.windows_in[2] = mask_em->data_ptr();
  call.p.windows_out[1] = grad_em.mutable_data_ptr();
  const BetaGradient grad_beta(*beta, format, call);
  run(kUnpoolBackward, call.p);
  return {grad_y, in_format(grad_mask, mask_format), in_format(grad_em, em_format),
          grad_beta.result()};
}

Tensor ada_unpool_like(Tensor y, Tensor x, Tensor beta, IntList kernel, IntList stride,
                       IntList padding, bool ceil_mode, bool weight_grad, double gain) {
  Call call = by_like(y, x, beta, kernel, stride, padding, ceil_mode, gain);
  if (!call.valid) {
    return reference<1>("ada_unpool_like", y, x, beta, kernel, stride, padding, ceil_mode,
                        weight_grad, gain);
  }
  const Format format = format_of(y);
  y = in_format(y, format);
  x = in_format(x, format);
  Tensor u = new_tensor(call.map, format, y.scalar_type());
  call.p.cell_in = y.data_ptr();
  call.p.windows_in[0] = x.data_ptr();
  call.p.windows_out[0] = u.mutable_data_ptr();
  run(kUnpoolLike, call.p);
  return u;
}

std::tuple<Tensor, Tensor, Tensor> ada_unpool_like_backward(Tensor grad, Tensor y, Tensor x,
                                                            Tensor beta, IntList kernel,
                                                            IntList stride, IntList padding,
                                                            bool ceil_mode, bool weight_grad,
                                                            double gain) {
  Call call = by_like(y, x, beta, kernel, stride, padding, ceil_mode, gain);
  if (!call.valid || !fits(grad, y) || !call.has(grad, call.map)) {
    return reference<3>("ada_unpool_like_backward", grad, y, x, beta, kernel, stride, padding,
                        ceil_mode, weight_grad, gain);
  }
  const Format format = format_of(y);
  const Format x_format = format_of(x);
  y = in_format(y, format);
  x = in_format(x, format);
  grad = in_format(grad, format);
  Tensor grad_y = new_tensor(call.cells, format, y.scalar_type());
  Tensor grad_x = new_tensor(call.map, format, y.scalar_type());
  call.p.weight_grad = weight_grad;
  call.p.cell_in = y.data_ptr();
  call.p.cell_out = grad_y.mutable_data_ptr();
  call.p.windows_in[0] = grad.data_ptr();
  call.p.windows_in[1] = x.data_ptr();
  call.p.windows_out[0] = grad_x.mutable_data_ptr();
  const BetaGradient grad_beta(beta, format, call);
  run(kUnpoolLikeBackward, call.p);
  return {grad_y, in_format(grad_x, x_format), grad_beta.result()};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(adapool, CPU, m) {
  m.impl("ada_unpool", TORCH_BOX(&ada_unpool));
  m.impl("ada_unpool_backward", TORCH_BOX(&ada_unpool_backward));
  m.impl("ada_unpool_like", TORCH_BOX(&ada_unpool_like));
  m.impl("ada_unpool_like_backward", TORCH_BOX(&ada_unpool_like_backward));
}

}  // namespace adapool
