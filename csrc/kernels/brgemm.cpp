// SPDX-License-Identifier: Apache-2.0
// brgemm_f32: C = epilogue(sum over entries of A x B) for matrix products and convolutions, B packed in panels.
// Here the loops around the register tile of brgemm_tile.hpp.
#include "brgemm_tile.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Bytes of B that stay in L2 while tiles of A stream past, and bytes of A that may stay while panels of B do.
constexpr std::int64_t kResidentBytes = 512 * 1024;
// Rows of A whose distance is a multiple of this share few L1 sets and evict each other.
constexpr std::int64_t kAliasElements = 512;

constexpr bool fits(int m, int panels) {
  return (m + 1) * panels * kPanelVectors + 1 <= kRegisters;
}
// Panels per tile of m rows: enough accumulators to hide the latency of an FMA, few enough for the registers.
constexpr int panels_for(int m) { return m == 1 || fits(m, 4) ? 4 : fits(m, 2) ? 2 : 1; }

struct TileFns {
  TileFn one[kTileM + 1];
  TileFn many[kTileM + 1];
};

template <int kCount, int... kM>
struct Sequence : Sequence<kCount - 1, kCount, kM...> {};
template <int... kM>
struct Sequence<0, kM...> {
  static constexpr TileFns make() { return {{nullptr, &tile<kM, 1>...}, {nullptr, &tile<kM, panels_for(kM)>...}}; }
};

constexpr TileFns kTiles = Sequence<kTileM>::make();

// Where a tile of output pixels starts, and how many pixels it has.
struct Place {
  std::int64_t a;
  std::int64_t c;
  std::int64_t residual;
  std::int64_t b;
  int rows;
};

struct Loops {
  const BrgemmParams& p;
  const float* a;
  const float* residual;
  const float* b;
  const float* bias;
  float* c;
  std::int64_t tiles_per_row;
  std::int64_t panels;

  Place place(std::int64_t index) const {
    const std::int64_t t = index % tiles_per_row;
    const std::int64_t row = index / tiles_per_row;
    const std::int64_t oy = row % p.oh;
    const std::int64_t batch = row / p.oh;
    const std::int64_t ox = t * p.tile_m;
    return {batch * p.a_batch + oy * p.a_row + ox * p.a_col, batch * p.c_batch + oy * p.c_row + ox * p.c_col,
            batch * p.r_batch + oy * p.r_row + ox * p.r_col, batch * p.b_batch,
            static_cast<int>(min_of(p.tile_m, p.ow - ox))};
  }

  Tile tile_at(const Place& at, std::int64_t chunk) const {
    const std::int64_t* chunks = static_cast<const std::int64_t*>(p.chunks);
    Tile t;
    t.p = &p;
    t.a = a + at.a;
    t.lda = p.a_col;
    t.entries = static_cast<const std::int64_t*>(p.entries) + 3 * chunks[chunk];
    t.n_entries = chunks[chunk + 1] - chunks[chunk];
    t.b_panel = p.k * kPanel;
    t.ldc = p.c_col;
    t.ldr = p.r_col;
    t.first = chunk == 0;
    t.last = chunk + 1 == p.n_chunks;
    return t;
  }

  // The tile's columns from `panel` on; returns how many panels were done, at most up to `end`.
  std::int64_t run_panels(Tile& t, const Place& at, std::int64_t panel, std::int64_t end) const {
    const std::int64_t column = panel * kPanel;
    t.b = b + at.b + panel * t.b_panel;
    t.c = c + at.c + column;
    t.residual = residual ? residual + at.residual + column : nullptr;
    t.bias = bias ? bias + column : nullptr;
    const std::int64_t many = panels_for(at.rows);
    const bool wide = many > 1 && panel + many <= end;
    const std::int64_t done = wide ? many : 1;
    t.cols = static_cast<int>(min_of(p.n - column, done * kPanel));
    (wide ? kTiles.many : kTiles.one)[at.rows](t);
    return done;
  }

  // A tile's rows of one chunk, copied to be dense. Returns the entry that describes the copy.
  void gather_rows(Tile& t, int rows, float* copy, std::int64_t* entry) const {
    std::int64_t k = 0;
    for (std::int64_t e = 0; e < t.n_entries; ++e) {
      const std::int64_t* from = t.entries + 3 * e;
      for (int i = 0; i < rows; ++i) {
        __builtin_memcpy(copy + i * kMaxChunk + k, t.a + from[0] + i * t.lda, sizeof(float) * from[1]);
      }
      k += from[1];
    }
    entry[0] = 0;
    entry[1] = k;
    entry[2] = t.entries[2];
    t.a = copy;
    t.lda = kMaxChunk;
    t.entries = entry;
    t.n_entries = 1;
  }

  // Tiles outside, panels inside: a block of B stays in L2, one tile of A in L1.
  void tiles_outside(Range tiles) const {
    alignas(64) float copy[kTileM * kMaxChunk];
    std::int64_t entry[3];
    const std::int64_t block = max_of(4, kResidentBytes / (4 * kPanel * min_of(p.k, kMaxChunk)));
    const bool alias = p.a_col % kAliasElements == 0;
    for (std::int64_t panel = 0; panel < panels; panel += block) {
      const std::int64_t end = min_of(panels, panel + block);
      for (std::int64_t chunk = 0; chunk < p.n_chunks; ++chunk) {
        for (std::int64_t i = tiles.begin; i < tiles.end; ++i) {
          const Place at = place(i);
          Tile t = tile_at(at, chunk);
          if (alias && end - panel >= 4) gather_rows(t, at.rows, copy, entry);
          for (std::int64_t q = panel; q < end;) q += run_panels(t, at, q, end);
        }
      }
    }
  }

  // Panels outside, tiles inside: B is read once, in order; the few tiles of A stay in the caches.
  void panels_outside(Range tiles, Range range) const {
    for (std::int64_t panel = range.begin; panel < range.end;) {
      std::int64_t step = range.end - panel;
      for (std::int64_t chunk = 0; chunk < p.n_chunks; ++chunk) {
        for (std::int64_t i = tiles.begin; i < tiles.end; ++i) {
          const Place at = place(i);
          step = min_of(step, panels_for(at.rows));
        }
        for (std::int64_t i = tiles.begin; i < tiles.end; ++i) {
          const Place at = place(i);
          Tile t = tile_at(at, chunk);
          for (std::int64_t q = panel; q < panel + step;) q += run_panels(t, at, q, panel + step);
        }
      }
      panel += step;
    }
  }

  bool narrow(Range tiles) const {
    return tiles.end - tiles.begin == 1 && p.ow == 1 && panels <= 2 && p.n_chunks > 1 &&
           static_cast<const std::int64_t*>(p.chunks)[p.n_chunks] == p.n_chunks;
  }

  void narrow_rows(Range tiles, Range range) const {
    const Place at = place(tiles.begin);
    for (std::int64_t panel = range.begin; panel < range.end; ++panel) {
      Tile t = tile_at(at, 0);
      const std::int64_t column = panel * kPanel;
      t.b = b + at.b + panel * t.b_panel;
      t.c = c + at.c + column;
      t.residual = residual ? residual + at.residual + column : nullptr;
      t.bias = bias ? bias + column : nullptr;
      t.cols = static_cast<int>(min_of(p.n - column, kPanel));
      narrow_row(t, p.n_chunks);
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
  const std::int64_t a_bytes = 4 * (tiles.end - tiles.begin) * p.tile_m * min_of(p.k, kMaxChunk);
  for (std::int64_t g = 0; g < p.groups; ++g) {
    if (loops.narrow(tiles)) {
      loops.narrow_rows(tiles, panels);
    } else if (p.split_n || a_bytes < kResidentBytes / 2) {
      loops.panels_outside(tiles, panels);
    } else {
      loops.tiles_outside(tiles);
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
