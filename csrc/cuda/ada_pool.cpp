// adapool::ada_pool, ada_pool_masks and their backward on CUDA: checks what is ours, lays out the
// results and runs the kernels; all else goes to the reference.
#include "host.h"

namespace adapool::cuda {
namespace {

bool is_ours(const Tensor& x, const Tensor& beta, const Windows& windows, Geometry& g) {
  return is_map(x) && geometry_of(space_of(x), windows, g) &&
         broadcasts(beta, x, last_of(g.out, windows.kernel.size()));
}

Tensor ada_pool(Tensor x, Tensor beta, IntList kernel, IntList stride, IntList padding,
                bool ceil_mode, bool weight_grad) {
  Geometry g;
  if (is_ours(x, beta, {kernel, stride, padding, ceil_mode}, g)) {
    Request request(Operation::kPool, Weighting::kAda, x, g);
    if (request.supported()) {
      request.in(kX, x);
      request.beta(beta);
      const Tensor y = request.out(kY, last_of(g.out, kernel.size()), x);
      request.run();
      return y;
    }
  }
  return reference<1>("ada_pool", x, beta, kernel, stride, padding, ceil_mode, weight_grad);
}

std::tuple<Tensor, Tensor, Tensor> ada_pool_masks(Tensor x, Tensor beta, IntList kernel,
                                                  IntList stride, IntList padding, bool ceil_mode,
                                                  bool weight_grad) {
  Geometry g;
  if (is_ours(x, beta, {kernel, stride, padding, ceil_mode}, g)) {
    Request request(Operation::kPool, Weighting::kAda, x, g);
    if (request.supported()) {
      request.in(kX, x);
      request.beta(beta);
      const size_t rank = kernel.size();
      const Tensor y = request.out(kY, last_of(g.out, rank), x);
      const Tensor edscw = request.out(kMask, mask_space(g, rank), x);
      const Tensor em = request.out(kMaskEm, mask_space(g, rank), x);
      request.run();
      return {y, edscw, em};
    }
  }
  return reference<3>("ada_pool_masks", x, beta, kernel, stride, padding, ceil_mode, weight_grad);
}

std::tuple<Tensor, Tensor> ada_pool_backward(Tensor grad, std::optional<Tensor> grad_edscw,
                                             std::optional<Tensor> grad_em, Tensor x, Tensor beta,
                                             IntList kernel, IntList stride, IntList padding,
                                             bool ceil_mode, bool weight_grad) {
  Geometry g;
  const size_t rank = kernel.size();
  if (is_ours(x, beta, {kernel, stride, padding, ceil_mode}, g) &&
      fits(grad, x, last_of(g.out, rank)) && fits(grad_edscw, x, mask_space(g, rank)) &&
      fits(grad_em, x, mask_space(g, rank))) {
    Request request(Operation::kPoolBackward, Weighting::kAda, x, g);
    if (request.supported()) {
      request.problem().weight_grad = weight_grad;
      request.in(kX, x);
      request.beta(beta);
      request.in(kGradient, grad);
      if (weight_grad) {
        request.in(kGradMask, grad_edscw);
        request.in(kGradMaskEm, grad_em);
      }
      const Tensor grad_x = request.out(kU, space_of(x), x);
      const Tensor grad_beta = request.beta_gradient();
      request.run();
      return {grad_x, grad_beta};
    }
  }
  return reference<2>("ada_pool_backward", grad, grad_edscw, grad_em, x, beta, kernel, stride,
                      padding, ceil_mode, weight_grad);
}

}  // namespace

ADAPOOL_LIBRARY(ADAPOOL_NAMESPACE, ADAPOOL_KEY, m) {
  m.impl("ada_pool", TORCH_BOX(&ada_pool));
  m.impl("ada_pool_masks", TORCH_BOX(&ada_pool_masks));
  m.impl("ada_pool_backward", TORCH_BOX(&ada_pool_backward));
}

}  // namespace adapool::cuda
