// SPDX-License-Identifier: Apache-2.0
// MaxPool between products on matrix tiles: it reads and writes their operands, one term of bfloat16 (terms.hpp).
#include "lanes.hpp"
#include "terms.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// The taps of a window that are inside the image, of which there is at least one.
struct Window {
  const float* p;
  std::int64_t row, rows, cols;
};

FP_INLINE void pixel(const Window& w, float* out) {
  MaxFold fold;
  for (int j = 0; j < kPairs; j += kLanes) {
    Vec low = set1(MaxFold::kIdentity), high = low;
    for (std::int64_t y = 0; y < w.rows; ++y) {
      const float* p = w.p + y * w.row + j;
      for (std::int64_t x = 0; x < w.cols; ++x, p += kPairs) {
        const IVec words = bits(load(p));
        low = fold.apply(low, from_bits(shift_left<16>(words)));
        high = fold.apply(high, from_bits(high_half(words)));
      }
    }
    store(out + j, pair_of(low, high));
  }
}

Range inside(std::int64_t start, std::int64_t taps, std::int64_t size) {
  return {max_of(start, 0), min_of(start + taps, size)};
}

}  // namespace

void max_pool_bf16(const KernelArgs& args, Range range) noexcept {
  const PoolBf16Params& q = params_of<PoolBf16Params>(args);
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const std::int64_t oy = i % q.oh, plane = i / q.oh, block = plane % q.blocks, image = plane / q.blocks;
    const float* in = static_cast<const float*>(args.in[0]) + image * q.in_batch + block * q.in_block;
    float* out = static_cast<float*>(args.out) + image * q.out_batch + block * q.out_block + oy * q.out_row;
    const Range y = inside(oy * q.stride_h - q.pad_top, q.kh, q.ih);
    for (std::int64_t ox = 0; ox < q.ow; ++ox) {
      const Range x = inside(ox * q.stride_w - q.pad_left, q.kw, q.iw);
      const float* p = in + y.begin * q.in_row + x.begin * kPairs;
      pixel({p, q.in_row, y.end - y.begin, x.end - x.begin}, out + ox * kPairs);
    }
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
