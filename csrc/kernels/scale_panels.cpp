// SPDX-License-Identifier: Apache-2.0
// Packed weights times a factor per row: a product of A with columns that have factors, without another pass over A.
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {

void scale_panels_f32(const KernelArgs& args, Range range) noexcept {
  const PackParams& p = params_of<PackParams>(args);
  const std::int64_t panels = (p.n + kPanel - 1) / kPanel;
  const std::int64_t size = p.k * kPanel;
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const float* factor = static_cast<const float*>(args.in[0]) + u / panels * p.in_batch;
    const float* b = static_cast<const float*>(args.in[1]) + u % panels * size;
    float* out = static_cast<float*>(args.out) + u / panels * p.out_batch + u % panels * size;
    for (std::int64_t k = 0; k < p.k; ++k, b += kPanel, out += kPanel) {
      const Vec scale = set1(factor[k]);
      for (int j = 0; j < kPanel; j += kLanes) store(out + j, load(b + j) * scale);
    }
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
