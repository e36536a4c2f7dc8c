// SPDX-License-Identifier: Apache-2.0
// winograd_f32: 3 x 3 convolution of stride 1 by Winograd's F(2x2, 3x3). A tile of 4 x 4 inputs becomes 16 sums of
// inputs, each a row of one of 16 matrix products over the channels; the products' rows become 2 x 2 outputs. 16
// multiplications do the work of 36. Both transforms only add and subtract, in the same order on every ISA.
// Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kTaps = 16;

template <bool kMasked>
FP_INLINE Vec load_some(const float* p, int lanes) {
  return kMasked ? load(p, lanes) : load(p);
}
template <bool kMasked>
FP_INLINE void store_some(float* p, Vec v, int lanes) {
  kMasked ? store(p, v, lanes) : store(p, v);
}

// Where a tile is: its image, its first output, and how much of it is inside the image.
struct Place {
  std::int64_t image, y, x;
  std::int64_t in_rows, in_cols;    // of 4
  std::int64_t out_rows, out_cols;  // of 2
};

Place place_of(const WinogradParams& p, std::int64_t tile) {
  const std::int64_t across = (p.ow + 1) / 2;
  const std::int64_t down = (p.oh + 1) / 2;
  Place t;
  t.image = tile / across / down;
  t.y = tile / across % down * 2;
  t.x = tile % across * 2;
  t.out_rows = min_of(2, p.oh - t.y);
  t.out_cols = min_of(2, p.ow - t.x);
  t.in_rows = t.out_rows + 2;
  t.in_cols = t.out_cols + 2;
  return t;
}

// (d0 - d2, d1 + d2, d2 - d1, d1 - d3)
FP_INLINE void forward(Vec (&d)[4]) {
  const Vec first = d[0] - d[2], sum = d[1] + d[2], difference = d[2] - d[1], last = d[1] - d[3];
  d[0] = first;
  d[1] = sum;
  d[2] = difference;
  d[3] = last;
}

// One vector of channels of a tile. What is outside the image is zero.
template <bool kWhole, bool kMasked>
FP_INLINE void transform_input(const WinogradParams& p, const Place& t, const float* in, float* out,
                               std::int64_t out_step, int lanes) {
  Vec rows[4][4];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    Vec d[4];
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) {
      const bool inside = kWhole || (y < t.in_rows && x < t.in_cols);
      d[y] = inside ? load_some<kMasked>(in + y * p.in_row + x * p.in_col, lanes) : zero();
    }
    forward(d);
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) rows[y][x] = d[y];
  }
#pragma GCC unroll 4
  for (int y = 0; y < 4; ++y) {
    forward(rows[y]);
#pragma GCC unroll 4
    for (int x = 0; x < 4; ++x) store_some<kMasked>(out + (4 * y + x) * out_step, rows[y][x], lanes);
  }
}

template <bool kWhole>
void transform_inputs(const WinogradParams& p, const Place& t, const float* in, float* out, std::int64_t out_step) {
  std::int64_t c = 0;
  for (; c + kLanes <= p.c; c += kLanes) transform_input<kWhole, false>(p, t, in + c, out + c, out_step, kLanes);
  if (c < p.c) transform_input<kWhole, true>(p, t, in + c, out + c, out_step, static_cast<int>(p.c - c));
}

// (m0 + m1 + m2, m1 - m2 - m3)
FP_INLINE void backward(const Vec (&m)[4], Vec& first, Vec& second) {
  first = m[0] + m[1] + m[2];
  second = m[1] - m[2] - m[3];
}

struct Outputs {
  const float* products;
  std::int64_t step;  // from one product to the next
  const float* bias;
  const float* residual;
  float* out;
};

// One vector of outputs of a tile.
template <bool kMasked>
FP_INLINE void transform_output(const WinogradParams& p, const Place& t, const Outputs& o, std::int64_t n, int lanes) {
  Vec columns[2][4];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    Vec m[4];
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) m[y] = load_some<kMasked>(o.products + (4 * y + x) * o.step + n, lanes);
    backward(m, columns[0][x], columns[1][x]);
  }
  const Vec bias = o.bias ? load_some<kMasked>(o.bias + n, lanes) : zero();
  const bool clips = p.activation == k_relu || p.activation == k_clip;
  const Vec low = set1(p.activation == k_clip ? p.alpha : 0.0f);
  const Vec high = set1(p.activation == k_clip ? p.beta : __builtin_inff());
#pragma GCC unroll 2
  for (int y = 0; y < 2; ++y) {
    Vec pixel[2];
    backward(columns[y], pixel[0], pixel[1]);
    if (y >= t.out_rows) return;
#pragma GCC unroll 2
    for (int x = 0; x < 2; ++x) {
      if (x >= t.out_cols) break;
      Vec v = pixel[x];
      if (o.bias) v = v + bias;
      if (o.residual) v = v + load_some<kMasked>(o.residual + y * p.r_row + x * p.r_col + n, lanes);
      if (clips) v = min(high, max(low, v));
      store_some<kMasked>(o.out + y * p.out_row + x * p.out_col + n, v, lanes);
    }
  }
}

void transform_outputs(const WinogradParams& p, const Place& t, const Outputs& o) {
  std::int64_t n = 0;
  for (; n + kLanes <= p.n; n += kLanes) transform_output<false>(p, t, o, n, kLanes);
  if (n < p.n) transform_output<true>(p, t, o, n, static_cast<int>(p.n - n));
  if (!runs_on_rows(p.activation)) return;
  const RowFn activate = kActivationRows[p.activation];
  for (std::int64_t y = 0; y < t.out_rows; ++y) {
    for (std::int64_t x = 0; x < t.out_cols; ++x) {
      float* pixel = o.out + y * p.out_row + x * p.out_col;
      activate(pixel, pixel, p.n, p.alpha, p.beta);
    }
  }
}

// The 16 products of a block of tiles.
void multiply(const WinogradParams& p, const float* sums, std::int64_t sums_step, float* products,
              std::int64_t products_step, std::int64_t tiles) {
  BrgemmParams g{};
  g.batch = g.oh = g.groups = 1;
  g.ow = tiles;
  g.n = p.n;
  g.k = p.c;
  g.a_col = p.c;
  g.c_col = p.n;
  g.n_chunks = p.n_chunks;
  g.chunks = p.chunks;
  g.entries = p.entries;
  g.activation = kNone;
  g.tile_m = min_of(p.tile_m, tiles);
  const std::int64_t panels = (p.n + kPanel - 1) / kPanel;
  for (int k = 0; k < kTaps; ++k) {
    g.b = static_cast<const float*>(p.b) + k * panels * p.c * kPanel;
    KernelArgs args{};
    args.in[0] = sums + k * sums_step;
    args.out = products + k * products_step;
    args.params = &g;
    brgemm_f32(args, {0, (tiles + g.tile_m - 1) / g.tile_m});
  }
}

}  // namespace

void winograd_f32(const KernelArgs& args, Range range) noexcept {
  const WinogradParams& p = params_of<WinogradParams>(args);
  const std::int64_t all_tiles = p.batch * ((p.oh + 1) / 2) * ((p.ow + 1) / 2);
  // A cache line between the products: a power of two would put all 16 into one set of L1.
  const std::int64_t sums_step = p.block * p.c + 16;
  const std::int64_t products_step = p.block * p.n + 16;
  // The workspace has a part for every thread. It is an input only to the plan.
  float* const sums = const_cast<float*>(static_cast<const float*>(args.in[2])) + range.part * p.workspace;
  float* const products = sums + kTaps * sums_step;
  const float* const in = static_cast<const float*>(args.in[0]);
  const float* const residual = static_cast<const float*>(args.in[1]);
  for (std::int64_t block = range.begin; block < range.end; ++block) {
    const std::int64_t first = block * p.block;
    const std::int64_t tiles = min_of(p.block, all_tiles - first);
    for (std::int64_t i = 0; i < tiles; ++i) {
      const Place t = place_of(p, first + i);
      const float* from = in + t.image * p.in_batch + t.y * p.in_row + t.x * p.in_col;
      if (t.in_rows == 4 && t.in_cols == 4) {
        transform_inputs<true>(p, t, from, sums + i * p.c, sums_step);
      } else {
        transform_inputs<false>(p, t, from, sums + i * p.c, sums_step);
      }
    }
    multiply(p, sums, sums_step, products, products_step, tiles);
    for (std::int64_t i = 0; i < tiles; ++i) {
      const Place t = place_of(p, first + i);
      const float* add = residual ? residual + t.image * p.r_batch + t.y * p.r_row + t.x * p.r_col : nullptr;
      transform_outputs(p, t,
                        {products + i * p.n, products_step, static_cast<const float*>(p.bias), add,
                         static_cast<float*>(args.out) + t.image * p.out_batch + t.y * p.out_row + t.x * p.out_col});
    }
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
