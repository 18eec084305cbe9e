// adapool::enlarge_add on the CPU; see pool.cpp.
#include "host.h"

namespace adapool {
namespace {

bool has_type(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::BFloat16;
}

Tensor enlarge_add(Tensor lr, Tensor residual, Tensor taps) {
  const int64_t scale = taps.size(0);
  if (lr.scalar_type() != ScalarType::Float || !has_type(residual.scalar_type()) ||
      !lr.is_cpu() || !residual.is_cpu() || lr.numel() == 0 || scale > kMaxEnlargement ||
      residual.size(1) > kMaxEnlargedChannels) {
    return reference<1>("enlarge_add", lr, residual, taps);
  }
  const Format format = format_of(residual);
  residual = in_format(residual, format);
  lr = in_format(lr, Format::kContiguous);
  Enlargement p;
  p.batch = lr.size(0);
  p.channels = lr.size(1);
  p.height = lr.size(2);
  p.width = lr.size(3);
  p.scale = scale;
  p.channels_last = format == Format::kChannelsLast;
  p.bfloat16 = residual.scalar_type() == ScalarType::BFloat16;
  p.lr = static_cast<const float*>(lr.data_ptr());
  p.residual = residual.data_ptr();
  p.taps = static_cast<const float*>(taps.data_ptr());
  Tensor out = new_tensor({{p.batch, p.channels, scale * p.height, scale * p.width}, 4},
                          Format::kContiguous, ScalarType::Float);
  p.out = static_cast<float*>(out.mutable_data_ptr());
  torch::stable::parallel_for(0, p.work_rows(), 1, [&p](int64_t begin, int64_t end) {
    kernels().enlarge_add(p, begin, end);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(adapool, CPU, m) { m.impl("enlarge_add", TORCH_BOX(&enlarge_add)); }

}  // namespace adapool
