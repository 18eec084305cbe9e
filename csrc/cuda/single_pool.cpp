// adapool::edscw_pool, em_pool, idw_pool, theirs with masks and their backward on CUDA; see
// ada_pool.cpp. Weights of whole channel vectors are the reference's.
#include "host.h"

namespace adapool::cuda {
namespace {

struct Method {
  Weighting weighting;
  Rule rule;
};

std::optional<std::tuple<Tensor, Tensor>> pool(const Method& method, const Tensor& x,
                                               const Windows& windows, bool masks) {
  Geometry g;
  if (!is_map(x) || !geometry_of(space_of(x), windows, g)) return std::nullopt;
  Request request(Operation::kPool, method.weighting, x, g);
  if (!request.supported()) return std::nullopt;
  request.problem().rule = method.rule;
  request.in(kX, x);
  const size_t rank = windows.kernel.size();
  const Tensor y = request.out(kY, last_of(g.out, rank), x);
  const Tensor mask = masks ? request.out(kMask, mask_space(g, rank), x) : y;
  request.run();
  return std::make_tuple(y, mask);
}

std::optional<Tensor> backward(const Method& method, const Tensor& grad,
                               const std::optional<Tensor>& grad_mask, const Tensor& x,
                               const Windows& windows, bool weight_grad) {
  Geometry g;
  const size_t rank = windows.kernel.size();
  if (!is_map(x) || !geometry_of(space_of(x), windows, g) ||
      !fits(grad, x, last_of(g.out, rank)) || !fits(grad_mask, x, mask_space(g, rank))) {
    return std::nullopt;
  }
  Request request(Operation::kPoolBackward, method.weighting, x, g);
  if (!request.supported()) return std::nullopt;
  request.problem().rule = method.rule;
  request.problem().weight_grad = weight_grad;
  request.in(kX, x);
  request.in(kGradient, grad);
  if (weight_grad) request.in(kGradMask, grad_mask);
  const Tensor grad_x = request.out(kU, space_of(x), x);
  request.run();
  return grad_x;
}

// eDSCW and eM differ in name and weighting alone.
template <Weighting kWeighting>
constexpr const char* name_of(int kind) {
  constexpr bool kEdscw = kWeighting == Weighting::kEdscw;
  if (kind == 0) return kEdscw ? "edscw_pool" : "em_pool";
  if (kind == 1) return kEdscw ? "edscw_pool_masks" : "em_pool_masks";
  return kEdscw ? "edscw_pool_backward" : "em_pool_backward";
}

template <Weighting kWeighting>
Tensor plain_pool(Tensor x, IntList kernel, IntList stride, IntList padding, bool ceil_mode,
                  bool weight_grad) {
  const Method method{kWeighting, {false, false, 1.0}};
  if (const auto found = pool(method, x, {kernel, stride, padding, ceil_mode}, false)) {
    return std::get<0>(*found);
  }
  return reference<1>(name_of<kWeighting>(0), x, kernel, stride, padding, ceil_mode, weight_grad);
}

template <Weighting kWeighting>
std::tuple<Tensor, Tensor> plain_masks(Tensor x, IntList kernel, IntList stride, IntList padding,
                                       bool ceil_mode, bool weight_grad) {
  const Method method{kWeighting, {false, false, 1.0}};
  if (const auto found = pool(method, x, {kernel, stride, padding, ceil_mode}, true)) {
    return *found;
  }
  return reference<2>(name_of<kWeighting>(1), x, kernel, stride, padding, ceil_mode, weight_grad);
}

template <Weighting kWeighting>
Tensor plain_backward(Tensor grad, std::optional<Tensor> grad_mask, Tensor x, IntList kernel,
                      IntList stride, IntList padding, bool ceil_mode, bool weight_grad) {
  const Method method{kWeighting, {false, false, 1.0}};
  const Windows windows{kernel, stride, padding, ceil_mode};
  if (const auto found = backward(method, grad, grad_mask, x, windows, weight_grad)) return *found;
  return reference<1>(name_of<kWeighting>(2), grad, grad_mask, x, kernel, stride, padding,
                      ceil_mode, weight_grad);
}

// Of single values all distances but huber are |x - m|.
Method idw(const std::string& distance, double delta, bool drop) {
  return {Weighting::kIdw, {distance == "huber", drop, delta}};
}

Tensor idw_pool(Tensor x, IntList kernel, IntList stride, IntList padding, bool ceil_mode,
                bool weight_grad, std::string distance, double delta, bool drop, bool vector) {
  if (!vector) {
    const Windows windows{kernel, stride, padding, ceil_mode};
    if (const auto found = pool(idw(distance, delta, drop), x, windows, false)) {
      return std::get<0>(*found);
    }
  }
  return reference<1>("idw_pool", x, kernel, stride, padding, ceil_mode, weight_grad, distance,
                      delta, drop, vector);
}

std::tuple<Tensor, Tensor> idw_pool_masks(Tensor x, IntList kernel, IntList stride,
                                          IntList padding, bool ceil_mode, bool weight_grad,
                                          std::string distance, double delta, bool drop,
                                          bool vector) {
  if (!vector) {
    const Windows windows{kernel, stride, padding, ceil_mode};
    if (const auto found = pool(idw(distance, delta, drop), x, windows, true)) return *found;
  }
  return reference<2>("idw_pool_masks", x, kernel, stride, padding, ceil_mode, weight_grad,
                      distance, delta, drop, vector);
}

Tensor idw_pool_backward(Tensor grad, std::optional<Tensor> grad_mask, Tensor x, IntList kernel,
                         IntList stride, IntList padding, bool ceil_mode, bool weight_grad,
                         std::string distance, double delta, bool drop, bool vector) {
  if (!vector) {
    const Windows windows{kernel, stride, padding, ceil_mode};
    const Method method = idw(distance, delta, drop);
    if (const auto found = backward(method, grad, grad_mask, x, windows, weight_grad)) {
      return *found;
    }
  }
  return reference<1>("idw_pool_backward", grad, grad_mask, x, kernel, stride, padding, ceil_mode,
                      weight_grad, distance, delta, drop, vector);
}

}  // namespace

ADAPOOL_LIBRARY(ADAPOOL_NAMESPACE, ADAPOOL_KEY, m) {
  m.impl("edscw_pool", TORCH_BOX(&plain_pool<Weighting::kEdscw>));
  m.impl("edscw_pool_masks", TORCH_BOX(&plain_masks<Weighting::kEdscw>));
  m.impl("edscw_pool_backward", TORCH_BOX(&plain_backward<Weighting::kEdscw>));
  m.impl("em_pool", TORCH_BOX(&plain_pool<Weighting::kEm>));
  m.impl("em_pool_masks", TORCH_BOX(&plain_masks<Weighting::kEm>));
  m.impl("em_pool_backward", TORCH_BOX(&plain_backward<Weighting::kEm>));
  m.impl("idw_pool", TORCH_BOX(&idw_pool));
  m.impl("idw_pool_masks", TORCH_BOX(&idw_pool_masks));
  m.impl("idw_pool_backward", TORCH_BOX(&idw_pool_backward));
}

}  // namespace adapool::cuda
