// SPDX-License-Identifier: Apache-2.0
// The zero border that lets a convolution read its padding from memory. The right pad of one row and the left pad of
// the next are neighbours in memory, so a border is one run in front, one between rows, and one behind.
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

void clear(float* p, std::int64_t n) { __builtin_memset(p, 0, sizeof(float) * static_cast<std::size_t>(n)); }

}  // namespace

// A unit is a row of an image: what is behind it, and with the first one what is in front of it too.
void halo_f32(const KernelArgs& args, Range range) noexcept {
  const HaloParams& p = params_of<HaloParams>(args);
  const std::int64_t row = (p.pad_left + p.w + p.pad_right) * p.c;
  const std::int64_t front = p.pad_top * row + p.pad_left * p.c;
  const std::int64_t between = (p.pad_right + p.pad_left) * p.c;
  const std::int64_t behind = p.pad_right * p.c + p.pad_bottom * row;
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const std::int64_t y = i % p.h;
    float* const image = static_cast<float*>(args.out) + i / p.h * p.out_batch;
    if (y == 0) clear(image, front);
    clear(image + front + y * row + p.w * p.c, y + 1 < p.h ? between : behind);
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
