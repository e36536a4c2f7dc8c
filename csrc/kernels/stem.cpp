// SPDX-License-Identifier: Apache-2.0
// stem_f32: convolution of images of few channels, where they lie: planes or pixels, without a border in memory. Its
// sums are those of brgemm_f32, from zero and in the order of K. A tile has two runs of windows, beside each other in
// a row of the output or one below the other; the latter become the rows of a pool of 2 x 2 before they are stored.
#include "brgemm_shape.hpp"
#include "brgemm_tile.hpp"
#include "lanes.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kMostHalf = kTileM < 4 ? 2 : kTileM / 2;
constexpr int kMostPanels = 3;
// Numbers of the windows of a run that are copied because they reach over the image's edge.
constexpr std::int64_t kMostEdge = 2048;

constexpr int stem_panels(int half) { return panels_for(2 * half) < kMostPanels ? panels_for(2 * half) : kMostPanels; }

struct StemTile {
  const StemParams* p;
  const float* a[2];            // the first window of each run
  std::int64_t a_col;           // from a window to the next
  const std::int64_t* offsets;  // of the numbers of a window, in the order of K
  const float* b;
  const float* bias;
  float* c[2];  // of the runs; of the first alone where they are pooled
  int cols;
};

using StemFn = void (*)(const StemTile& t) noexcept;

template <int kHalf, int kV>
FP_INLINE void multiply(const StemTile& t, Vec (&acc)[2][kHalf][kV]) {
  constexpr int kGroups = (kHalf + 3) / 4;
  const std::int64_t a_col = t.a_col, b_panel = t.p->k * kPanel;
  const float* rows[2][kGroups];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    rows[0][g] = t.a[0] + 4 * g * a_col;
    rows[1][g] = t.a[1] + 4 * g * a_col;
  }
  const float* b = t.b;
  const std::int64_t* const end = t.offsets + t.p->k;
#pragma GCC unroll 2
  for (const std::int64_t* offset = t.offsets; offset != end; ++offset, b += kPanel) {
    Vec bv[kV];
#pragma GCC unroll 16
    for (int j = 0; j < kV; ++j) bv[j] = load(b + j / kPanelVectors * b_panel + j % kPanelVectors * kLanes);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 16
      for (int i = 0; i < kHalf; ++i) {
        const Vec av = set1(rows[h][i / 4][*offset + i % 4 * a_col]);
#pragma GCC unroll 16
        for (int j = 0; j < kV; ++j) acc[h][i][j] = fma(av, bv[j], acc[h][i][j]);
      }
    }
  }
}

// Bias, and the activations that a pool may follow.
template <bool kFull, int kHalf, int kV>
FP_INLINE void finish(const StemTile& t, Vec (&acc)[2][kHalf][kV]) {
  const StemParams& p = *t.p;
  const bool clips = p.activation == k_clip;
  const auto each = [&](auto change) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int j = 0; j < kV; ++j) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 16
        for (int i = 0; i < kHalf; ++i) acc[h][i][j] = change(acc[h][i][j], j);
      }
    }
  };
  Vec bias[kV];
#pragma GCC unroll 16
  for (int j = 0; j < kV; ++j) bias[j] = t.bias ? load_columns<kFull>(t.bias, j, t.cols) : set1(-0.0f);
  each([&](Vec v, int j) __attribute__((always_inline)) { return v + bias[j]; });
  if (clips || p.activation == k_relu) {
    const Vec low = set1(clips ? p.alpha : 0.0f);
    each([&](Vec v, int) __attribute__((always_inline)) { return max(low, v); });
  }
  if (clips) {
    const Vec high = set1(p.beta);
    each([&](Vec v, int) __attribute__((always_inline)) { return min(high, v); });
  }
}

template <bool kFull, int kHalf, int kV>
FP_INLINE void write(const StemTile& t, Vec (&acc)[2][kHalf][kV]) {
  const std::int64_t step = t.p->out_col;
  finish<kFull>(t, acc);
  if (t.p->pooled) {
    // In the order of the taps of max_pool_f32.
#pragma GCC unroll 16
    for (int i = 0; i + 1 < kHalf; i += 2) {
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) {
        Vec y = MaxFold::apply(acc[0][i][j], acc[0][i + 1][j]);
        y = MaxFold::apply(MaxFold::apply(y, acc[1][i][j]), acc[1][i + 1][j]);
        store_columns<kFull>(t.c[0] + i / 2 * step, y, j, t.cols);
      }
    }
    return;
  }
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) store_columns<kFull>(t.c[h] + i * step, acc[h][i][j], j, t.cols);
    }
  }
  if (!runs_on_rows(t.p->activation)) return;
  const RowFn activate = kActivationRows[t.p->activation];
  for (int i = 0; i < kHalf; ++i) activate(t.c[0] + i * step, t.c[0] + i * step, t.cols, t.p->alpha, t.p->beta);
  for (int i = 0; i < kHalf; ++i) {
    // In a row shorter than a tile the runs overlap.
    float* const c = t.c[1] + i * step;
    if (c >= t.c[0] + kHalf * step) activate(c, c, t.cols, t.p->alpha, t.p->beta);
  }
}

template <int kHalf, int kPanels>
void stem_tile(const StemTile& t) noexcept {
  constexpr int kV = kPanels * kPanelVectors;
  Vec acc[2][kHalf][kV];
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) acc[h][i][j] = zero();
    }
  }
  multiply(t, acc);
  if (t.cols == kV * kLanes) {
    write<true>(t, acc);
  } else {
    write<false>(t, acc);
  }
}

// fn[half][panels]: null where the registers do not hold the tile.
struct StemTiles {
  StemFn fn[kMostHalf + 1][kMostPanels + 1];
};

template <int kHalf, int kPanels>
constexpr void fill(StemTiles& tiles) {
  tiles.fn[kHalf][kPanels] = &stem_tile<kHalf, kPanels>;
  if constexpr (kPanels < stem_panels(kHalf)) {
    fill<kHalf, kPanels + 1>(tiles);
  } else if constexpr (kHalf < kMostHalf) {
    fill<kHalf + 1, 1>(tiles);
  }
}

constexpr StemTiles make_tiles() {
  StemTiles tiles{};
  fill<1, 1>(tiles);
  return tiles;
}

constexpr StemTiles kStemTiles = make_tiles();

struct Stem {
  const StemParams& p;
  float (&edge)[2][kMostEdge + kLanes];

  std::int64_t width() const { return (p.half - 1) * p.stride_w + p.kw; }

  bool inside(std::int64_t top, std::int64_t left) const {
    return top >= 0 && top + p.kh <= p.ih && left >= 0 && left + width() <= p.iw;
  }

  // The rows that the windows of a run take, dense and with zeros around the image.
  void copy(const float* image, std::int64_t top, std::int64_t left, float* to) const {
    const std::int64_t length = width() * p.depth;
    const std::int64_t first = min_of(max_of(-left, 0), width()) * p.depth;
    const std::int64_t last = max_of(min_of(p.iw - left, width()) * p.depth, first);
    for (std::int64_t y = top; y < top + p.kh; ++y) {
      for (std::int64_t plane = 0; plane < p.planes; ++plane, to += length) {
        const std::int64_t end = y < 0 || y >= p.ih ? 0 : last;
        const float* from = image + y * p.in_row + left * p.in_col + plane * p.in_plane;
        for (std::int64_t i = 0; i < first; i += kLanes) store(to + i, zero());
        if (p.in_col == p.depth) {
          // Whole vectors, zeros behind the image among them: rows follow each other, and there is room behind the
          // last.
          for (std::int64_t i = first; i < length; i += kLanes) {
            store(to + i, load(from + i, static_cast<int>(max_of(min_of(kLanes, end - i), 0))));
          }
        } else {
          for (std::int64_t i = first; i < length; ++i) to[i] = i < end ? from[i * p.in_col] : 0.0f;
        }
      }
    }
  }

  // A tile whose runs begin at these places of the output, before pooling.
  void tile(const float* image, float* out, const std::int64_t (&y)[2], const std::int64_t (&x)[2]) const {
    StemTile t;
    t.p = &p;
    bool direct = true;
    std::int64_t top[2], left[2];
    for (int h = 0; h < 2; ++h) {
      top[h] = y[h] * p.stride_h - p.pad_top;
      left[h] = x[h] * p.stride_w - p.pad_left;
      direct = direct && inside(top[h], left[h]);
    }
    for (int h = 0; h < 2; ++h) {
      t.a[h] = direct ? image + top[h] * p.in_row + left[h] * p.in_col : edge[h];
      if (!direct) copy(image, top[h], left[h], edge[h]);
    }
    t.a_col = p.stride_w * (direct ? p.in_col : p.depth);
    t.offsets = static_cast<const std::int64_t*>(direct ? p.offsets : p.edges);
    const std::int64_t panels = (p.n + kPanel - 1) / kPanel;
    const std::int64_t most = stem_panels(static_cast<int>(p.half));
    const std::int64_t groups = (panels + most - 1) / most;
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t begin = panels * g / groups, end = panels * (g + 1) / groups;
      t.b = static_cast<const float*>(p.b) + begin * p.k * kPanel;
      t.bias = p.bias ? static_cast<const float*>(p.bias) + begin * kPanel : nullptr;
      for (int h = 0; h < 2; ++h) t.c[h] = out + (p.pooled ? x[h] / 2 : x[h]) * p.out_col + begin * kPanel;
      t.cols = static_cast<int>(min_of(p.n - begin * kPanel, (end - begin) * kPanel));
      kStemTiles.fn[p.half][end - begin](t);
    }
  }

  void row(const float* image, float* out, std::int64_t y) const {
    if (p.pooled) {
      for (std::int64_t x = 0; x < 2 * p.ow; x += p.half) {
        const std::int64_t at = min_of(x, 2 * p.ow - p.half);
        tile(image, out, {2 * y, 2 * y + 1}, {at, at});
      }
      return;
    }
    for (std::int64_t x = 0; x < p.ow; x += 2 * p.half) {
      const std::int64_t at = min_of(x, max_of(p.ow - 2 * p.half, 0));
      tile(image, out, {y, y}, {at, min_of(at + p.half, p.ow - p.half)});
    }
  }
};

}  // namespace

void stem_f32(const KernelArgs& args, Range range) noexcept {
  const StemParams& p = params_of<StemParams>(args);
  alignas(64) float edge[2][kMostEdge + kLanes];
  const Stem stem{p, edge};
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const std::int64_t image = i / p.oh, y = i % p.oh;
    stem.row(static_cast<const float*>(args.in[0]) + image * p.in_batch,
             static_cast<float*>(args.out) + image * p.out_batch + y * p.out_row, y);
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
