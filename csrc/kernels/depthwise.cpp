// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution of an NHWC image. Vectors run over channels, registers hold neighbouring pixels of a
// row. Every output is fma over its taps row by row from zero, then the bias, then the activation, so all of
// the paths below give the same bits.
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kWide = kRegisters > 16 ? 14 : 8;   // pixels of the widest group
constexpr std::int64_t kL1Bytes = 24 * 1024;      // of rows that are read again
constexpr std::int64_t kNearBytes = 1024 * 1024;  // an image that L2 holds
constexpr std::int64_t kLeastBlock = 64;          // channels: whole vectors on every ISA, neighbouring lines

// A group of pixels in a row and a vector of channels.
struct Group {
  const DepthwiseParams* q;
  const float* x;  // first tap of the first pixel
  const float* weights;
  const float* bias;  // or null
  float* out;
  std::int64_t tap_row;   // distance of two rows of taps
  std::int64_t tap_col;   // distance of two taps of a row
  std::int64_t step;      // distance of two pixels
  int lanes;              // channels, at most kLanes
  std::int64_t channels;  // of this block
};

// Loads a vector and moves on to the next. The compiler may not look through the step: it would keep the
// offsets of all the vectors of an unrolled loop in registers of their own and run out of them. Nor may it
// take memory for unchanged: it would load a vector again for each of its uses.
template <bool kMasked>
FP_INLINE Vec take(const float*& p, std::int64_t step, int lanes) {
  const Vec x = kMasked ? load(p, lanes) : load(p);
  p += step;
  asm volatile("" : "+r"(p) : : "memory");
  return x;
}

template <bool kMasked>
FP_INLINE Vec load_lanes(const float* p, int lanes) {
  return kMasked ? load(p, lanes) : load(p);
}

template <int kP, bool kMasked>
FP_INLINE void finish(const Group& g, Vec (&acc)[kP]) {
  const DepthwiseParams& q = *g.q;
  if (g.bias) {
    const Vec bias = load_lanes<kMasked>(g.bias, g.lanes);
#pragma GCC unroll 16
    for (int p = 0; p < kP; ++p) acc[p] = acc[p] + bias;
  }
  if (q.activation == k_relu || q.activation == k_clip) {
    const Vec low = q.activation == k_relu ? zero() : set1(q.alpha);
#pragma GCC unroll 16
    for (int p = 0; p < kP; ++p) acc[p] = max(low, acc[p]);
    if (q.activation == k_clip) {
      const Vec high = set1(q.beta);
#pragma GCC unroll 16
      for (int p = 0; p < kP; ++p) acc[p] = min(high, acc[p]);
    }
  }
  const std::int64_t step = q.out_col;
  float* out = g.out;
#pragma GCC unroll 16
  for (int p = 0; p < kP; ++p) {
    kMasked ? store(out, acc[p], g.lanes) : store(out, acc[p]);
    out += step;
  }
}

// A kernel of any size. Each tap loads one vector of every pixel.
template <int kP, bool kMasked>
FP_INLINE void any_taps(const Group& g, Vec (&acc)[kP]) {
  const float* w = g.weights;
  for (std::int64_t ky = 0; ky < g.q->kh; ++ky) {
    const float* x = g.x + ky * g.tap_row;
    for (std::int64_t kx = 0; kx < g.q->kw; ++kx, x += g.tap_col, w += g.q->c) {
      const Vec tap = load_lanes<kMasked>(w, g.lanes);
#pragma GCC unroll 16
      for (int p = 0; p < kP; ++p) acc[p] = fma(load_lanes<kMasked>(x + p * g.step, g.lanes), tap, acc[p]);
    }
  }
}

// A kK x kK kernel without gaps between the taps of a row, pixels kStride columns apart. Each column of the
// input is loaded once for all the pixels that it is a tap of; a pixel meets its columns from left to right.
template <int kK, int kStride, int kP, bool kMasked>
FP_INLINE void square_taps(const Group& g, Vec (&acc)[kP]) {
  const float* w = g.weights;
  const float* row = g.x;
  const std::int64_t channels = g.q->c;
#pragma GCC unroll 5
  for (int ky = 0; ky < kK; ++ky, row += g.tap_row) {
    Vec tap[kK];
#pragma GCC unroll 5
    for (int kx = 0; kx < kK; ++kx) tap[kx] = take<kMasked>(w, channels, g.lanes);
    const float* at = row;
#pragma GCC unroll 32
    for (int column = 0; column < (kP - 1) * kStride + kK; ++column) {
      const Vec x = take<kMasked>(at, g.tap_col, g.lanes);
#pragma GCC unroll 5
      for (int kx = 0; kx < kK; ++kx) {
        const int p = (column - kx) / kStride;
        if (column >= kx && (column - kx) % kStride == 0 && p < kP) acc[p] = fma(x, tap[kx], acc[p]);
      }
    }
  }
}

template <int kK, int kStride, int kP, bool kMasked>
FP_INLINE void group(const Group& g) {
  Vec acc[kP];
#pragma GCC unroll 16
  for (int p = 0; p < kP; ++p) acc[p] = zero();
  if constexpr (kK > 0) {
    square_taps<kK, kStride, kP, kMasked>(g, acc);
  } else {
    any_taps<kP, kMasked>(g, acc);
  }
  finish<kP, kMasked>(g, acc);
}

// All channels of the block, of kP pixels that start at `g`.
template <int kK, int kStride, int kP>
void pixels(Group g) noexcept {
  const DepthwiseParams& q = *g.q;
  float* const out = g.out;
  std::int64_t left = g.channels;
  for (; left >= kLanes; left -= kLanes) {
    group<kK, kStride, kP, false>(g);
    g.x += kLanes;
    g.weights += kLanes;
    g.out += kLanes;
    if (g.bias) g.bias += kLanes;
  }
  if (left > 0) {
    g.lanes = static_cast<int>(left);
    group<kK, kStride, kP, true>(g);
  }
  if (!runs_on_rows(q.activation)) return;
  const RowFn activate = kActivationRows[q.activation];
  if (q.out_col == g.channels) {
    activate(out, out, kP * g.channels, q.alpha, q.beta);
  } else {
    for (int p = 0; p < kP; ++p) activate(out + p * q.out_col, out + p * q.out_col, g.channels, q.alpha, q.beta);
  }
}

// A row of outputs, kP pixels at a time. The last pixels are a group too: it starts early enough to be full,
// and computes again what it shares with the group before.
template <int kK, int kStride, int kP>
void row(const Group& g) noexcept {
  const std::int64_t ow = g.q->ow;
  for (std::int64_t ox = 0; ox < ow; ox += kP) {
    const std::int64_t first = min_of(ox, ow - kP);
    Group at = g;
    at.x += first * g.step;
    at.out += first * g.q->out_col;
    pixels<kK, kStride, kP>(at);
  }
}

using RowOfGroups = void (*)(const Group&) noexcept;

// The widest group that fits into the row, or another one where that computes fewer pixels twice: eight sums are just
// enough to hide the latency of an FMA, and of a wide group's pixels fewer are loaded twice.
template <int kK, int kStride>
RowOfGroups row_for(std::int64_t ow) {
  const auto computed = [ow](std::int64_t n) { return (ow + n - 1) / n * n; };
  if constexpr (kWide > 8 && kK > 0) {
    if (ow >= kWide && computed(kWide) <= min_of(computed(7), computed(8))) return row<kK, kStride, kWide>;
  }
  if (ow >= 8 && computed(8) <= computed(7)) return row<kK, kStride, 8>;
  if (ow >= 7) return row<kK, kStride, 7>;
  if (ow >= 4) return row<kK, kStride, 4>;
  return row<kK, kStride, 1>;
}

RowOfGroups row_for(const DepthwiseParams& q) {
  const bool plain = q.kh == q.kw && q.dilation_w == 1 && (q.stride_w == 1 || q.stride_w == 2);
  if (plain && q.kw == 3) return q.stride_w == 1 ? row_for<3, 1>(q.ow) : row_for<3, 2>(q.ow);
  if (plain && q.kw == 5) return q.stride_w == 1 ? row_for<5, 1>(q.ow) : row_for<5, 2>(q.ow);
  return row_for<0, 0>(q.ow);
}

// out[c] = the mean of `ow` pixels, from left to right, while they are in L1; several vectors side by side, as each
// waits for its addition.
template <int kVectors>
FP_INLINE std::int64_t mean_columns(const DepthwiseParams& q, const float* x, float* out, std::int64_t c,
                                    std::int64_t n) {
  const Vec count = set1(static_cast<float>(q.ow));
  for (; c + kVectors * kLanes <= n; c += kVectors * kLanes) {
    Vec sum[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sum[j] = load(x + c + j * kLanes);
    for (std::int64_t i = 1; i < q.ow; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sum[j] = sum[j] + load(x + i * q.out_col + c + j * kLanes);
    }
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) store(out + c + j * kLanes, sum[j] / count);
  }
  return c;
}

void mean_row(const DepthwiseParams& q, const float* x, float* out, std::int64_t n) {
  std::int64_t c = mean_columns<8>(q, x, out, 0, n);
  c = mean_columns<1>(q, x, out, c, n);
  if (c == n) return;
  const int rest = static_cast<int>(n - c);
  Vec sum = load(x + c, rest);
  for (std::int64_t i = 1; i < q.ow; ++i) sum = sum + load(x + i * q.out_col + c, rest);
  store(out + c, sum / set1(static_cast<float>(q.ow)), rest);
}

// Channels per block: the rows that a row of outputs reads stay in L1 for the next one. Where `rows` of outputs read
// more than L2 holds, they read whole rows, as the hardware fetches ahead.
std::int64_t block_of(const DepthwiseParams& q, std::int64_t rows) {
  const std::int64_t width = (q.ow - 1) * q.stride_w + (q.kw - 1) * q.dilation_w + 1;
  const std::int64_t height = (rows - 1) * q.stride_h + (q.kh - 1) * q.dilation_h + 1;
  if (4 * height * width * q.c > kNearBytes) return q.c;
  return max_of(kLeastBlock, kL1Bytes / (4 * q.kh * width) / kLeastBlock * kLeastBlock);
}

}  // namespace

void depthwise_f32(const KernelArgs& args, Range range) noexcept {
  const DepthwiseParams& q = params_of<DepthwiseParams>(args);
  const RowOfGroups compute = row_for(q);
  float* const means = static_cast<float*>(const_cast<void*>(args.in[1]));
  Group g;
  g.q = &q;
  g.tap_row = q.dilation_h * q.in_row;
  g.tap_col = q.dilation_w * q.in_col;
  g.step = q.stride_w * q.in_col;
  g.lanes = kLanes;
  for (std::int64_t i = range.begin; i < range.end;) {  // image by image
    const std::int64_t batch = i / q.oh;
    const Range rows = {i % q.oh, min_of(q.oh, i % q.oh + range.end - i), 0};
    const std::int64_t block = block_of(q, rows.end - rows.begin);
    for (std::int64_t c = 0; c < q.c; c += block) {
      g.channels = min_of(block, q.c - c);
      g.weights = static_cast<const float*>(q.weights) + c;
      g.bias = q.bias ? static_cast<const float*>(q.bias) + c : nullptr;
      for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
        g.x = static_cast<const float*>(args.in[0]) + batch * q.in_batch + oy * q.stride_h * q.in_row + c;
        g.out = static_cast<float*>(args.out) + batch * q.out_batch + oy * q.out_row + c;
        compute(g);
        if (means) mean_row(q, g.out, means + (batch * q.oh + oy) * q.c + c, g.channels);
      }
    }
    i += rows.end - rows.begin;
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
