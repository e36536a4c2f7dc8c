// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution between products on matrix tiles: it reads and writes their operands, one term of bfloat16
// (terms.hpp), and sums in float32. Every output is fma over its taps row by row from zero, then the bias, then the
// activation, as in depthwise_f32.
#include "near_pair.hpp"
#include "tiles.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Pixels side by side that registers hold. Without tiles this only stands in for them.
constexpr int kPixels = kHasTiles ? 7 : 1;

struct Row {
  const DepthwiseBf16Params& q;
  const WordBounds& bounds;
  bool fits;        // the bounds, to what the layer asks for
  const float* in;  // words at the first tap of the first pixel
  const float* weights;
  const float* bias;  // or null
  float* out;
};

// Sums that are not all finite: their terms are none that near_pair gives.
[[gnu::noinline]] void store_any(const DepthwiseBf16Params& q, const Vec (*sums)[2], int count, float* out) {
  for (int p = 0; p < count; ++p, out += kPairs) {
    Vec y[2] = {sums[p][0], sums[p][1]};
    for (Vec& v : y) {
      if (q.activation == k_relu) v = max(zero(), v);
      if (q.activation == k_clip) v = min(set1(q.beta), max(set1(q.alpha), v));
    }
    store_terms<1>(y[0], y[1], out, 0);
  }
}

// kP pixels of a kK x kK kernel. Each column of the input is loaded once for all the pixels that it is a tap of; a
// pixel meets its columns from left to right.
template <int kK, int kStride, int kP>
FP_INLINE void group(const Row& r, std::int64_t first) {
  for (int j = 0; j < kPairs; j += kLanes) {
    Vec acc[kP][2];
#pragma GCC unroll 8
    for (int p = 0; p < kP; ++p) acc[p][0] = acc[p][1] = zero();
    const float* w = r.weights + j;
    const float* row = r.in + first * kStride * kPairs + j;
    for (int ky = 0; ky < kK; ++ky, row += r.q.in_row, w += kK * kBlock) {
      Vec tap[kK][2];
#pragma GCC unroll 5
      for (int kx = 0; kx < kK; ++kx) {
        tap[kx][0] = load(w + kx * kBlock);
        tap[kx][1] = load(w + kx * kBlock + kPairs);
      }
#pragma GCC unroll 20
      for (int column = 0; column < (kP - 1) * kStride + kK; ++column) {
        const IVec words = bits(load(row + column * kPairs));
        const Vec low = from_bits(shift_left<16>(words)), high = from_bits(high_half(words));
#pragma GCC unroll 5
        for (int kx = 0; kx < kK; ++kx) {
          const int p = (column - kx) / kStride;
          if (column < kx || (column - kx) % kStride != 0 || p >= kP) continue;
          acc[p][0] = fma(low, tap[kx][0], acc[p][0]);
          acc[p][1] = fma(high, tap[kx][1], acc[p][1]);
        }
      }
    }
    const Vec low = r.bias ? load(r.bias + j) : zero(), high = r.bias ? load(r.bias + kPairs + j) : zero();
    float* const out = r.out + first * kPairs + j;
    Largest largest;
#pragma GCC unroll 8
    for (int p = 0; p < kP; ++p) {
      acc[p][0] = acc[p][0] + low;
      acc[p][1] = acc[p][1] + high;
      const IVec words = near_pair(acc[p][0], acc[p][1]);
      largest.see(words);
      store(out + p * kPairs, from_bits(r.bounds.apply(words)));
    }
    Finite added;
    added.see(low);
    added.see(high);
    if (r.fits && largest.finite(added)) [[likely]]
      continue;
    Vec sums[kP][2];
    for (int p = 0; p < kP; ++p) {
      sums[p][0] = acc[p][0];
      sums[p][1] = acc[p][1];
    }
    store_any(r.q, sums, kP, out);
  }
}

// The last pixels are a group too: it starts early enough to be full, and computes again what it shares with the one
// before.
template <int kK, int kStride, int kP>
void groups(const Row& r) noexcept {
  for (std::int64_t x = 0; x < r.q.ow; x += kP) group<kK, kStride, kP>(r, min_of(x, r.q.ow - kP));
}

template <int kK, int kStride>
void row(const Row& r) noexcept {
  if (r.q.ow < kPixels) return groups<kK, kStride, 1>(r);
  groups<kK, kStride, kPixels>(r);
}

using RowOf = void (*)(const Row&) noexcept;

RowOf row_for(const DepthwiseBf16Params& q) {
  if (q.k == 3) return q.stride == 1 ? row<3, 1> : row<3, 2>;
  return q.stride == 1 ? row<5, 1> : row<5, 2>;
}

}  // namespace

void depthwise_bf16(const KernelArgs& args, Range range) noexcept {
  const DepthwiseBf16Params& q = params_of<DepthwiseBf16Params>(args);
  const auto compute = row_for(q);
  const WordBounds bounds(q);
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const std::int64_t y = i % q.oh, plane = i / q.oh, block = plane % q.blocks, image = plane / q.blocks;
    compute({q, bounds, WordBounds::fit(q),
             static_cast<const float*>(args.in[0]) + image * q.in_batch + block * q.in_block + y * q.stride * q.in_row,
             static_cast<const float*>(q.weights) + block * q.k * q.k * kBlock,
             q.bias ? static_cast<const float*>(q.bias) + block * kBlock : nullptr,
             static_cast<float*>(args.out) + image * q.out_batch + block * q.out_block + y * q.out_row});
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
