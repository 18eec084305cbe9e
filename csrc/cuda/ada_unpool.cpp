// adapool::ada_unpool, ada_unpool_like and their backward on CUDA; see ada_pool.cpp.
#include "host.h"

namespace adapool::cuda {
namespace {

// y (N, C, *out) spread over a map of `size`.
bool is_ours(const Tensor& y, const IntList& size, const Windows& windows, Geometry& g) {
  return is_map(y) && static_cast<size_t>(y.dim()) == size.size() + 2 &&
         geometry_of(size, windows, g) && space_of(y) == last_of(g.out, size.size());
}

bool masks_fit(const Tensor& y, const Tensor& mask, const std::optional<Tensor>& mask_em,
               const std::optional<Tensor>& beta, const Geometry& g) {
  const size_t rank = static_cast<size_t>(y.dim() - 2);
  const IntList space = mask_space(g, rank);
  if (!fits(mask, y, space) || mask_em.has_value() != beta.has_value()) return false;
  return !beta.has_value() ||
         (fits(*mask_em, y, space) && broadcasts(*beta, y, last_of(g.out, rank)));
}

Request unpooling(Operation operation, const Tensor& y, const Geometry& g, double gain) {
  Request request(operation, Weighting::kAda, y, g);
  request.problem().gain = gain;
  return request;
}

void take_masks(Request& request, const Tensor& y, const Tensor& mask,
                const std::optional<Tensor>& mask_em, const std::optional<Tensor>& beta) {
  request.in(kY, y);
  request.in(kMask, mask);
  if (!beta.has_value()) return;
  request.in(kMaskEm, *mask_em);
  request.beta(*beta);
}

Tensor ada_unpool(Tensor y, Tensor mask, std::optional<Tensor> mask_em, std::optional<Tensor> beta,
                  IntList size, IntList kernel, IntList stride, IntList padding, bool ceil_mode,
                  double gain) {
  Geometry g;
  if (is_ours(y, size, {kernel, stride, padding, ceil_mode}, g) &&
      masks_fit(y, mask, mask_em, beta, g)) {
    Request request = unpooling(Operation::kUnpool, y, g, gain);
    if (request.supported()) {
      take_masks(request, y, mask, mask_em, beta);
      const Tensor u = request.out(kU, size, y);
      request.run();
      return u;
    }
  }
  return reference<1>("ada_unpool", y, mask, mask_em, beta, size, kernel, stride, padding,
                      ceil_mode, gain);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> ada_unpool_backward(
    Tensor grad, Tensor y, Tensor mask, std::optional<Tensor> mask_em, std::optional<Tensor> beta,
    IntList size, IntList kernel, IntList stride, IntList padding, bool ceil_mode, double gain) {
  Geometry g;
  if (is_ours(y, size, {kernel, stride, padding, ceil_mode}, g) &&
      masks_fit(y, mask, mask_em, beta, g) && fits(grad, y, size)) {
    Request request = unpooling(Operation::kUnpoolBackward, y, g, gain);
    if (request.supported()) {
      take_masks(request, y, mask, mask_em, beta);
      request.in(kGradient, grad);
      const IntList space = mask_space(g, size.size());
      const Tensor grad_y = request.out(kGradY, space_of(y), y);
      const Tensor grad_mask = request.out(kGradMask, space, mask);
      if (!beta.has_value()) {
        request.run();
        const std::array<int64_t, 1> nothing{0};
        const Tensor none = torch::stable::new_empty(y, {nothing.data(), 1});
        const Tensor none_too = torch::stable::new_empty(y, {nothing.data(), 1});
        return {grad_y, grad_mask, none, none_too};
      }
      const Tensor grad_em = request.out(kGradMaskEm, space, *mask_em);
      const Tensor grad_beta = request.beta_gradient();
      request.run();
      return {grad_y, grad_mask, grad_em, grad_beta};
    }
  }
  return reference<4>("ada_unpool_backward", grad, y, mask, mask_em, beta, size, kernel, stride,
                      padding, ceil_mode, gain);
}

bool like_fits(const Tensor& y, const Tensor& x, const Tensor& beta, const Windows& windows,
               Geometry& g) {
  return is_map(x) && is_ours(y, space_of(x), windows, g) && fits(x, y, space_of(x)) &&
         broadcasts(beta, y, space_of(y));
}

Tensor ada_unpool_like(Tensor y, Tensor x, Tensor beta, IntList kernel, IntList stride,
                       IntList padding, bool ceil_mode, bool weight_grad, double gain) {
  Geometry g;
  if (like_fits(y, x, beta, {kernel, stride, padding, ceil_mode}, g)) {
    Request request = unpooling(Operation::kLike, y, g, gain);
    if (request.supported()) {
      request.in(kY, y);
      request.in(kX, x);
      request.beta(beta);
      const Tensor u = request.out(kU, space_of(x), y);
      request.run();
      return u;
    }
  }
  return reference<1>("ada_unpool_like", y, x, beta, kernel, stride, padding, ceil_mode,
                      weight_grad, gain);
}

std::tuple<Tensor, Tensor, Tensor> ada_unpool_like_backward(Tensor grad, Tensor y, Tensor x,
                                                            Tensor beta, IntList kernel,
                                                            IntList stride, IntList padding,
                                                            bool ceil_mode, bool weight_grad,
                                                            double gain) {
  Geometry g;
  if (like_fits(y, x, beta, {kernel, stride, padding, ceil_mode}, g) &&
      fits(grad, y, space_of(x))) {
    Request request = unpooling(Operation::kLikeBackward, y, g, gain);
    if (request.supported()) {
      request.problem().weight_grad = weight_grad;
      request.in(kY, y);
      request.in(kX, x);
      request.beta(beta);
      request.in(kGradient, grad);
      const Tensor grad_y = request.out(kGradY, space_of(y), y);
      const Tensor grad_x = request.out(kU, space_of(x), x);
      const Tensor grad_beta = request.beta_gradient();
      request.run();
      return {grad_y, grad_x, grad_beta};
    }
  }
  return reference<3>("ada_unpool_like_backward", grad, y, x, beta, kernel, stride, padding,
                      ceil_mode, weight_grad, gain);
}

}  // namespace

ADAPOOL_LIBRARY(ADAPOOL_NAMESPACE, ADAPOOL_KEY, m) {
  m.impl("ada_unpool", TORCH_BOX(&ada_unpool));
  m.impl("ada_unpool_backward", TORCH_BOX(&ada_unpool_backward));
  m.impl("ada_unpool_like", TORCH_BOX(&ada_unpool_like));
  m.impl("ada_unpool_like_backward", TORCH_BOX(&ada_unpool_like_backward));
}

}  // namespace adapool::cuda
