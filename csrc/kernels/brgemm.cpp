// SPDX-License-Identifier: Apache-2.0
// brgemm_f32: C = epilogue(sum over entries of A x B) for matrix products and convolutions, B packed in panels.
// Here the loops around the register tile of brgemm_tile.hpp.
#include "brgemm_shape.hpp"
#include "brgemm_tile.hpp"
#include "cursor.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Bytes of A that stay in L2 while panels of B stream past.
constexpr std::int64_t kResidentBytes = 512 * 1024;

// Chains of additions that hide the latency of an FMA.
constexpr int kChains = 8;

// tiles[m][n]: the tile of m rows and n panels, null where the registers do not hold it.
struct Tiles {
  TileFn fn[kTileM + 1][kMaxPanels + 1];
};

template <int kM, int kPanels>
constexpr void fill(Tiles& tiles) {
  if constexpr (kPanels <= panels_for(kM)) tiles.fn[kM][kPanels] = &tile<kM, kPanels>;
  if constexpr (kPanels < panels_for(kM)) {
    fill<kM, kPanels + 1>(tiles);
  } else if constexpr (kM < kTileM) {
    fill<kM + 1, 1>(tiles);
  }
}

constexpr Tiles make_tiles() {
  Tiles tiles{};
  fill<1, 1>(tiles);
  return tiles;
}

constexpr Tiles kTiles = make_tiles();

struct Loops {
  const BrgemmParams& p;
  const float* a;
  const float* residual;
  const float* b;
  const float* bias;
  float* c;
  std::int64_t tiles_per_row;
  std::int64_t panels;

  // What all tiles of some panels and one chunk have in common.
  Tile common(Range range, std::int64_t chunk) const {
    const std::int64_t* chunks = static_cast<const std::int64_t*>(p.chunks);
    const std::int64_t column = range.begin * kPanel;
    Tile t;
    t.p = &p;
    t.lda = p.a_col;
    t.entries = static_cast<const std::int64_t*>(p.entries) + 3 * chunks[chunk];
    t.n_entries = chunks[chunk + 1] - chunks[chunk];
    t.b_panel = p.k * kPanel;
    t.ldc = p.c_col;
    t.ldr = p.r_col;
    t.bias = bias ? bias + column : nullptr;
    t.cols = static_cast<int>(min_of(p.n - column, (range.end - range.begin) * kPanel));
    t.first = chunk == 0;
    t.last = chunk + 1 == p.n_chunks;
    return t;
  }

  void move(Tile& t, const Cursor<BrgemmParams>& at, std::int64_t panel) const {
    const std::int64_t column = panel * kPanel;
    t.a = a + at.a();
    t.b = b + at.batch() * p.b_batch + panel * t.b_panel;
    t.c = c + at.c() + column;
    t.residual = residual ? residual + at.residual() + column : nullptr;
  }

  // For blocks of A that stay in L2: panels of B outside, so that B is read once per block and in order; then chunks,
  // so that a chunk of the panels stays in L1 while the block's tiles stream past it.
  void run(Range tiles, Range range) const {
    const std::int64_t row_bytes = 4 * p.k * p.tile_m;
    const std::int64_t block = max_of(1, kResidentBytes / max_of(row_bytes, 1));
    const std::int64_t most = panels_for(static_cast<int>(min_of(p.tile_m, p.ow)));
    const std::int64_t count = range.end - range.begin;
    const std::int64_t groups = (count + most - 1) / most;
    for (std::int64_t first = tiles.begin; first < tiles.end; first += block) {
      const Range part = {first, min_of(tiles.end, first + block)};
      for (std::int64_t g = 0; g < groups; ++g) {  // of even size: a lone last panel would make poor tiles
        const Range group = {range.begin + count * g / groups, range.begin + count * (g + 1) / groups};
        for (std::int64_t chunk = 0; chunk < p.n_chunks; ++chunk) run_chunk(part, group, chunk);
      }
    }
  }

  void run_chunk(Range tiles, Range range, std::int64_t chunk) const {
    Tile t = common(range, chunk);
    const auto& fns = kTiles.fn;
    Cursor<BrgemmParams> at(p, tiles_per_row, tiles.begin);
    for (std::int64_t i = tiles.begin; i < tiles.end; ++i, at.next()) {
      move(t, at, range.begin);
      fns[at.rows()][range.end - range.begin](t);
    }
  }

  // A single row of few columns, with the chunks in parallel. Needs one entry per chunk.
  bool narrow(Range tiles) const {
    return tiles.end - tiles.begin == 1 && p.ow == 1 && panels <= kChains / 2 && p.n_chunks > 1 &&
           static_cast<const std::int64_t*>(p.chunks)[p.n_chunks] == p.n_chunks;
  }

  void run_narrow(Range tiles, Range range) const {
    Tile t = common(range, 0);
    t.last = true;
    move(t, Cursor<BrgemmParams>(p, tiles_per_row, tiles.begin), range.begin);
    switch (range.end - range.begin) {
      case 1:
        return narrow_row<kChains, 1>(t, p.n_chunks);
      case 2:
        return narrow_row<kChains / 2, 2>(t, p.n_chunks);
      case 3:
        return narrow_row<kChains / 4, 3>(t, p.n_chunks);
      case 4:
        return narrow_row<kChains / 4, 4>(t, p.n_chunks);
    }
  }
};

}  // namespace

void brgemm_f32(const KernelArgs& args, Range range) noexcept {
  const BrgemmParams& p = params_of<BrgemmParams>(args);
  const float* b = static_cast<const float*>(p.b ? p.b : args.in[2]);
  Loops loops{p,
              static_cast<const float*>(args.in[0]),
              static_cast<const float*>(args.in[1]),
              b,
              static_cast<const float*>(p.bias),
              static_cast<float*>(args.out),
              (p.ow + p.tile_m - 1) / p.tile_m,
              (p.n + kPanel - 1) / kPanel};
  const std::int64_t all_tiles = p.batch * p.oh * loops.tiles_per_row;
  const Range tiles = p.split_n ? Range{0, all_tiles} : range;
  const Range panels = p.split_n ? range : Range{0, loops.panels};
  for (std::int64_t g = 0; g < p.groups; ++g) {
    if (loops.narrow(tiles)) {
      loops.run_narrow(tiles, panels);
    } else {
      loops.run(tiles, panels);
    }
    loops.a += p.a_group;
    loops.b += p.b_group;
    loops.c += p.c_group;
    if (loops.residual) loops.residual += p.r_group;
    if (loops.bias) loops.bias += p.n;
  }
}

void pack_b_f32(const KernelArgs& args, Range range) noexcept {
  const PackParams& p = params_of<PackParams>(args);
  const std::int64_t panels = (p.n + kPanel - 1) / kPanel;
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t first = u % panels * kPanel;
    const std::int64_t cols = min_of(kPanel, p.n - first);
    const float* in = static_cast<const float*>(args.in[0]) + u / panels * p.in_batch + first * p.in_n;
    float* out = static_cast<float*>(args.out) + u / panels * p.out_batch + u % panels * p.k * kPanel;
    for (std::int64_t k = 0; k < p.k; ++k, in += p.in_k, out += kPanel) {
      for (std::int64_t j = 0; j < cols; ++j) out[j] = in[j * p.in_n];
      for (std::int64_t j = cols; j < kPanel; ++j) out[j] = 0.0f;
    }
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
