// The poolings of every method and their backward on the CPU: checks what is ours, lays out the results
// and runs the kernel; all else goes to the reference.
#include "host.h"

namespace adapool {
namespace {

// x, the windows, what differs between methods (beta; IDW's rule) and what is the same for all.
struct Pooling {
  Weighting weighting;
  Call call;
  Format format;
  std::optional<Tensor> beta;

  Pooling(Weighting w, const Tensor& x, const std::optional<Tensor>& b, const IntList& kernel,
          const IntList& stride, const IntList& padding, bool ceil_mode)
      : weighting(w),
        call(x, x.sizes().data() + 2, x.dim() - 2, kernel, stride, padding, ceil_mode),
        format(format_of(x)),
        beta(b) {
    if (beta.has_value() && call.valid) {
      call.valid = fits(*beta, x) && call.broadcasts(*beta);
      if (call.valid) call.p.beta = beta_of(*beta);
    }
    call.set(format);
  }
  bool valid() const { return call.valid; }

  Tensor forward(const Tensor& given) {
    const Tensor x = in_format(given, format);
    call.p.windows_in[0] = x.data_ptr();
    Tensor y = new_tensor(call.cells, format, x.scalar_type());
    call.p.cell_out = y.mutable_data_ptr();
    run(weighting, kPool, call.p);
    return y;
  }

  // y and as many masks as the method has.
  std::array<Tensor, 3> with_masks(const Tensor& given) {
    const Tensor x = in_format(given, format);
    call.p.windows_in[0] = x.data_ptr();
    std::array<Tensor, 3> results{new_tensor(call.cells, format, x.scalar_type()),
                                  new_tensor(call.mask, format, x.scalar_type())};
    if (beta.has_value()) results[2] = new_tensor(call.mask, format, x.scalar_type());
    call.p.cell_out = results[0].mutable_data_ptr();
    call.p.windows_out[0] = results[1].mutable_data_ptr();
    if (beta.has_value()) call.p.windows_out[1] = results[2].mutable_data_ptr();
    run(weighting, kPoolMasks, call.p);
    return results;
  }

  bool fits_backward(const Tensor& grad, const std::optional<Tensor>& first,
                     const std::optional<Tensor>& second, const Tensor& x) const {
    const auto is_mask = [&](const std::optional<Tensor>& t) {
      return !t.has_value() || (fits(*t, x) && call.has(*t, call.mask));
    };
    return valid() && fits(grad, x) && call.has(grad, call.cells) && is_mask(first) &&
           is_mask(second);
  }

  // The gradients of x and, if there is one, of beta.
  std::array<Tensor, 2> backward(const Tensor& grad_given, const std::optional<Tensor>& grad_first,
                                 const std::optional<Tensor>& grad_second, const Tensor& x_given,
                                 bool weight_grad) {
    const Tensor x = in_format(x_given, format);
    const Tensor grad = in_format(grad_given, format);
    const bool masks = weight_grad && (grad_first.has_value() || grad_second.has_value());
    const auto mask_gradient = [&](const std::optional<Tensor>& given) {
      if (given.has_value()) return in_format(*given, format);
      Tensor none = new_tensor(call.mask, format, x.scalar_type());
      return torch::stable::zero_(none);
    };
    const Tensor first = masks ? mask_gradient(grad_first) : grad;
    const Tensor second = masks && beta.has_value() ? mask_gradient(grad_second) : grad;
    call.p.weight_grad = weight_grad;
    call.p.windows_in[0] = x.data_ptr();
    call.p.windows_in[1] = first.data_ptr();
    call.p.windows_in[2] = second.data_ptr();
    call.p.cell_in = grad.data_ptr();
    std::array<Tensor, 2> results{new_tensor(call.map, format, x.scalar_type())};
    call.p.windows_out[0] = results[0].mutable_data_ptr();
    const Method method = masks ? kPoolMasksBackward : kPoolBackward;
    if (!beta.has_value()) {
      run(weighting, method, call.p);
    } else {
      const BetaGradient grad_beta(*beta, format, call);
      run(weighting, method, call.p);
      results[1] = grad_beta.result();
    }
    return results;
  }
};

// --- AdaPool

Tensor ada_pool(Tensor x, Tensor beta, IntList kernel, IntList stride, IntList padding,
                bool ceil_mode, bool weight_grad) {
  Pooling pooling(kAda, x, beta, kernel, stride, padding, ceil_mode);
  if (pooling.valid()) return pooling.forward(x);
  return reference<1>("ada_pool", x, beta, kernel, stride, padding, ceil_mode, weight_grad);
}

std::tuple<Tensor, Tensor, Tensor> ada_pool_masks(Tensor x, Tensor beta, IntList kernel,
                                                  IntList stride, IntList padding, bool ceil_mode,
                                                  bool weight_grad) {
  Pooling pooling(kAda, x, beta, kernel, stride, padding, ceil_mode);
  if (!pooling.valid()) {
    return reference<3>("ada_pool_masks", x, beta, kernel, stride, padding, ceil_mode, weight_grad);
  }
  const auto found = pooling.with_masks(x);
  return {found[0], found[1], found[2]};
}

std::tuple<Tensor, Tensor> ada_pool_backward(Tensor grad, std::optional<Tensor> grad_edscw,
                                             std::optional<Tensor> grad_em, Tensor x, Tensor beta,
                                             IntList kernel, IntList stride, IntList padding,
                                             bool ceil_mode, bool weight_grad) {
  Pooling pooling(kAda, x, beta, kernel, stride, padding, ceil_mode);
  if (!pooling.fits_backward(grad, grad_edscw, grad_em, x)) {
    return reference<2>("ada_pool_backward", grad, grad_edscw, grad_em, x, beta, kernel, stride,
                        padding, ceil_mode, weight_grad);
  }
  const auto found = pooling.backward(grad, grad_edscw, grad_em, x, weight_grad);
  return {found[0], found[1]};
}

// --- the methods of one mask

constexpr const char* kNames[] = {"ada_pool", "edscw_pool", "em_pool", "idw_pool"};

template <Weighting kMethod>
Tensor pool(Tensor x, IntList kernel, IntList stride, IntList padding, bool ceil_mode,
            bool weight_grad) {
  Pooling pooling(kMethod, x, std::nullopt, kernel, stride, padding, ceil_mode);
  if (pooling.valid()) return pooling.forward(x);
  return reference<1>(kNames[kMethod], x, kernel, stride, padding, ceil_mode, weight_grad);
}

template <Weighting kMethod>
std::tuple<Tensor, Tensor> pool_masks(Tensor x, IntList kernel, IntList stride, IntList padding,
                                      bool ceil_mode, bool weight_grad) {
  Pooling pooling(kMethod, x, std::nullopt, kernel, stride, padding, ceil_mode);
  if (!pooling.valid()) {
    const std::string name = std::string(kNames[kMethod]) + "_masks";
    return reference<2>(name.c_str(), x, kernel, stride, padding, ceil_mode, weight_grad);
  }
  const auto found = pooling.with_masks(x);
  return {found[0], found[1]};
}

template <Weighting kMethod>
Tensor pool_backward(Tensor grad, std::optional<Tensor> grad_mask, Tensor x, IntList kernel,
                     IntList stride, IntList padding, bool ceil_mode, bool weight_grad) {
  Pooling pooling(kMethod, x, std::nullopt, kernel, stride, padding, ceil_mode);
  if (pooling.fits_backward(grad, grad_mask, std::nullopt, x)) {
    return pooling.backward(grad, grad_mask, std::nullopt, x, weight_grad)[0];
  }
  const std::string name = std::string(kNames[kMethod]) + "_backward";
  return reference<1>(name.c_str(), grad, grad_mask, x, kernel, stride, padding, ceil_mode,
                      weight_grad);
}

// --- IDW, which has a rule of its own; of single values all distances but huber are the same

void set_rule(Pooling& pooling, const std::string& distance, double delta, bool drop, bool vector) {
  Problem& p = pooling.call.p;
  p.huber = distance == "huber";
  p.delta = delta;
  p.drop = drop;
  if (vector) pooling.call.valid = false;
}

Tensor idw_pool(Tensor x, IntList kernel, IntList stride, IntList padding, bool ceil_mode,
                bool weight_grad, std::string distance, double delta, bool drop, bool vector) {
  Pooling pooling(kIdw, x, std::nullopt, kernel, stride, padding, ceil_mode);
  set_rule(pooling, distance, delta, drop, vector);
  if (pooling.valid()) return pooling.forward(x);
  return reference<1>("idw_pool", x, kernel, stride, padding, ceil_mode, weight_grad, distance,
                      delta, drop, vector);
}

std::tuple<Tensor, Tensor> idw_pool_masks(Tensor x, IntList kernel, IntList stride,
                                          IntList padding, bool ceil_mode, bool weight_grad,
                                          std::string distance, double delta, bool drop,
                                          bool vector) {
  Pooling pooling(kIdw, x, std::nullopt, kernel, stride, padding, ceil_mode);
  set_rule(pooling, distance, delta, drop, vector);
  if (!pooling.valid()) {
    return reference<2>("idw_pool_masks", x, kernel, stride, padding, ceil_mode, weight_grad,
                        distance, delta, drop, vector);
  }
  const auto found = pooling.with_masks(x);
  return {found[0], found[1]};
}

Tensor idw_pool_backward(Tensor grad, std::optional<Tensor> grad_mask, Tensor x, IntList kernel,
                         IntList stride, IntList padding, bool ceil_mode, bool weight_grad,
                         std::string distance, double delta, bool drop, bool vector) {
  Pooling pooling(kIdw, x, std::nullopt, kernel, stride, padding, ceil_mode);
  set_rule(pooling, distance, delta, drop, vector);
  if (pooling.fits_backward(grad, grad_mask, std::nullopt, x)) {
    return pooling.backward(grad, grad_mask, std::nullopt, x, weight_grad)[0];
  }
  return reference<1>("idw_pool_backward", grad, grad_mask, x, kernel, stride, padding, ceil_mode,
                      weight_grad, distance, delta, drop, vector);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(adapool, CPU, m) {
  m.impl("ada_pool", TORCH_BOX(&ada_pool));
  m.impl("ada_pool_masks", TORCH_BOX(&ada_pool_masks));
  m.impl("ada_pool_backward", TORCH_BOX(&ada_pool_backward));
  m.impl("edscw_pool", TORCH_BOX(&pool<kEdscw>));
  m.impl("edscw_pool_masks", TORCH_BOX(&pool_masks<kEdscw>));
  m.impl("edscw_pool_backward", TORCH_BOX(&pool_backward<kEdscw>));
  m.impl("em_pool", TORCH_BOX(&pool<kEm>));
  m.impl("em_pool_masks", TORCH_BOX(&pool_masks<kEm>));
  m.impl("em_pool_backward", TORCH_BOX(&pool_backward<kEm>));
  m.impl("idw_pool", TORCH_BOX(&idw_pool));
  m.impl("idw_pool_masks", TORCH_BOX(&idw_pool_masks));
  m.impl("idw_pool_backward", TORCH_BOX(&idw_pool_backward));
}

}  // namespace adapool
