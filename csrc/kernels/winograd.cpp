// SPDX-License-Identifier: Apache-2.0
// winograd_f32: 3 x 3 convolution of stride 1 by Winograd's F(r x c, 3 x 3). A tile of (r + 2) x (c + 2) inputs becomes
// as many sums of inputs, each a row of one of so many matrix products over the channels; the products' rows become
// r x c outputs. 16 multiplications do the work of 36 for 2 x 2 outputs, 24 that of 72 for 2 x 4, 36 that of 144 for
// 4 x 4. The transforms (winograd_lines.hpp) are the same operations in the same order on every ISA.
// Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
#include "lanes.hpp"
#include "winograd_lines.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

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
  std::int64_t in_rows, in_cols;
  std::int64_t out_rows, out_cols;
};

Place place_of(const WinogradParams& p, std::int64_t tile) {
  const std::int64_t across = (p.ow + p.cols - 1) / p.cols;
  const std::int64_t down = (p.oh + p.rows - 1) / p.rows;
  Place t;
  t.image = tile / across / down;
  t.y = tile / across % down * p.rows;
  t.x = tile % across * p.cols;
  t.out_rows = min_of(p.rows, p.oh - t.y);
  t.out_cols = min_of(p.cols, p.ow - t.x);
  t.in_rows = t.out_rows + 2;
  t.in_cols = t.out_cols + 2;
  return t;
}

struct Outputs {
  const float* products;
  std::int64_t step;  // from one product to the next
  const float* bias;
  const float* residual;
  float* out;
};

// Tiles of kRows x kCols outputs.
template <int kRows, int kCols>
struct Scheme {
  using Down = Line<kRows>;
  using Across = Line<kCols>;

  // One vector of channels of a tile. What is outside the image is zero.
  template <bool kWhole, bool kMasked>
  FP_INLINE void transform_input(const WinogradParams& p, const Place& t, const float* in, float* out,
                                 std::int64_t out_step, int lanes) {
    Vec rows[Down::kIn][Across::kIn];
#pragma GCC unroll 6
    for (int x = 0; x < Across::kIn; ++x) {
      Vec d[Down::kIn];
#pragma GCC unroll 6
      for (int y = 0; y < Down::kIn; ++y) {
        const bool inside = kWhole || (y < t.in_rows && x < t.in_cols);
        d[y] = inside ? load_some<kMasked>(in + y * p.in_row + x * p.in_col, lanes) : zero();
      }
      Down::forward(d);
#pragma GCC unroll 6
      for (int y = 0; y < Down::kIn; ++y) rows[y][x] = d[y];
    }
#pragma GCC unroll 6
    for (int y = 0; y < Down::kIn; ++y) {
      Across::forward(rows[y]);
#pragma GCC unroll 6
      for (int x = 0; x < Across::kIn; ++x) {
        store_some<kMasked>(out + (Across::kIn * y + x) * out_step, rows[y][x], lanes);
      }
    }
  }

  static void transform_inputs(const WinogradParams& p, const Place& t, const float* in, float* out,
                               std::int64_t out_step) {
    std::int64_t c = 0;
    if (t.in_rows == Down::kIn && t.in_cols == Across::kIn) {
      for (; c + kLanes <= p.c; c += kLanes) transform_input<true, false>(p, t, in + c, out + c, out_step, kLanes);
    } else {
      for (; c + kLanes <= p.c; c += kLanes) transform_input<false, false>(p, t, in + c, out + c, out_step, kLanes);
    }
    if (c < p.c) transform_input<false, true>(p, t, in + c, out + c, out_step, static_cast<int>(p.c - c));
  }

  // One vector of outputs of a tile.
  template <bool kMasked>
  FP_INLINE void transform_output(const WinogradParams& p, const Place& t, const Outputs& o, std::int64_t n,
                                  int lanes) {
    Vec columns[kRows][Across::kIn];
#pragma GCC unroll 6
    for (int x = 0; x < Across::kIn; ++x) {
      Vec m[Down::kIn], y[kRows];
#pragma GCC unroll 6
      for (int i = 0; i < Down::kIn; ++i) {
        m[i] = load_some<kMasked>(o.products + (Across::kIn * i + x) * o.step + n, lanes);
      }
      Down::backward(m, y);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) columns[i][x] = y[i];
    }
    const Vec bias = o.bias ? load_some<kMasked>(o.bias + n, lanes) : zero();
    const bool clips = p.activation == k_relu || p.activation == k_clip;
    const Vec low = set1(p.activation == k_clip ? p.alpha : 0.0f);
    const Vec high = set1(p.activation == k_clip ? p.beta : __builtin_inff());
    Vec largest[kCols / 2];
    for (Vec& v : largest) v = zero();
#pragma GCC unroll 4
    for (int y = 0; y < kRows; ++y) {
      Vec pixel[kCols];
      Across::backward(columns[y], pixel);
      if (y >= t.out_rows) return;
#pragma GCC unroll 4
      for (int x = 0; x < kCols; ++x) {
        if (x >= t.out_cols) break;
        Vec v = pixel[x];
        if (o.bias) v = v + bias;
        if (o.residual) v = v + load_some<kMasked>(o.residual + y * p.r_row + x * p.r_col + n, lanes);
        if (clips) v = min(high, max(low, v));
        if (p.pooled) {  // in the order of the taps of max_pool_f32
          Vec& window = largest[x / 2];
          window = x % 2 + y % 2 == 0 ? v : MaxFold::apply(window, v);
          if (x % 2 && y % 2) store_some<kMasked>(o.out + y / 2 * p.out_row + x / 2 * p.out_col + n, window, lanes);
        } else {
          store_some<kMasked>(o.out + y * p.out_row + x * p.out_col + n, v, lanes);
        }
      }
    }
  }

  // `count` columns of a tile.
  static void transform_outputs(const WinogradParams& p, const Place& t, const Outputs& o, std::int64_t count) {
    std::int64_t n = 0;
    for (; n + kLanes <= count; n += kLanes) transform_output<false>(p, t, o, n, kLanes);
    if (n < count) transform_output<true>(p, t, o, n, static_cast<int>(count - n));
    if (!runs_on_rows(p.activation)) return;
    const RowFn activate = kActivationRows[p.activation];
    for (std::int64_t y = 0; y < t.out_rows; ++y) {
      for (std::int64_t x = 0; x < t.out_cols; ++x) {
        float* pixel = o.out + y * p.out_row + x * p.out_col;
        activate(pixel, pixel, count, p.alpha, p.beta);
      }
    }
  }
};

// The products of a block of tiles and a slice of columns.
void multiply(const WinogradParams& p, int taps, const float* sums, std::int64_t sums_step, std::int64_t slice,
              float* products, std::int64_t products_step, std::int64_t tiles) {
  BrgemmParams g{};
  g.batch = g.oh = g.groups = 1;
  g.ow = tiles;
  g.n = min_of(p.slice, p.n - slice * p.slice);
  g.k = p.c;
  g.a_col = p.c;
  g.c_col = p.slice;
  g.n_chunks = p.n_chunks;
  g.chunks = p.chunks;
  g.entries = p.entries;
  g.activation = kNone;
  g.tile_m = min_of(p.tile_m, tiles);
  for (int k = 0; k < taps; ++k) {
    g.b = static_cast<const float*>(p.b) + (slice * taps + k) * p.slice * p.c;
    KernelArgs args{};
    args.in[0] = sums + k * sums_step;
    args.out = products + k * products_step;
    args.params = &g;
    brgemm_f32(args, {0, (tiles + g.tile_m - 1) / g.tile_m});
  }
}

template <int kRows, int kCols>
void convolve(const KernelArgs& args, Range range) {
  using Tiles = Scheme<kRows, kCols>;
  constexpr int kTaps = Tiles::Down::kIn * Tiles::Across::kIn;
  const WinogradParams& p = params_of<WinogradParams>(args);
  const std::int64_t all_tiles = p.batch * ((p.oh + kRows - 1) / kRows) * ((p.ow + kCols - 1) / kCols);
  const std::int64_t slices = (p.n + p.slice - 1) / p.slice;
  // A cache line between the products: a power of two would put all of them into one set of L1.
  const std::int64_t sums_step = p.block * p.c + 16;
  const std::int64_t products_step = p.block * p.slice + 16;
  // The workspace has a part for every thread. It is an input only to the plan.
  float* const sums = const_cast<float*>(static_cast<const float*>(args.in[2])) + range.part * p.workspace;
  float* const products = sums + kTaps * sums_step;
  const float* const in = static_cast<const float*>(args.in[0]);
  const float* const residual = static_cast<const float*>(args.in[1]);
  const float* const bias = static_cast<const float*>(p.bias);
  float* const out = static_cast<float*>(args.out);
  std::int64_t transformed = -1;  // the block whose sums are there
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) {
    const std::int64_t block = unit / slices, slice = unit % slices;
    const std::int64_t first = block * p.block;
    const std::int64_t tiles = min_of(p.block, all_tiles - first);
    for (std::int64_t i = 0; i < tiles && block != transformed; ++i) {
      const Place t = place_of(p, first + i);
      const float* from = in + t.image * p.in_batch + t.y * p.in_row + t.x * p.in_col;
      Tiles::transform_inputs(p, t, from, sums + i * p.c, sums_step);
    }
    transformed = block;
    multiply(p, kTaps, sums, sums_step, slice, products, products_step, tiles);
    const std::int64_t n = slice * p.slice;
    for (std::int64_t i = 0; i < tiles; ++i) {
      const Place t = place_of(p, first + i);
      const float* add = residual ? residual + t.image * p.r_batch + t.y * p.r_row + t.x * p.r_col + n : nullptr;
      const int part = p.pooled ? 2 : 1;
      float* const to = out + t.image * p.out_batch + t.y / part * p.out_row + t.x / part * p.out_col + n;
      const Outputs o = {products + i * p.slice, products_step, bias ? bias + n : nullptr, add, to};
      Tiles::transform_outputs(p, t, o, min_of(p.slice, p.n - n));
    }
  }
}

}  // namespace

void winograd_f32(const KernelArgs& args, Range range) noexcept {
  const WinogradParams& p = params_of<WinogradParams>(args);
  if (p.cols == 2) return convolve<2, 2>(args, range);
  if (p.rows == 2) return convolve<2, 4>(args, range);
  convolve<4, 4>(args, range);
}

}  // namespace forwardpass::FORWARDPASS_ISA
