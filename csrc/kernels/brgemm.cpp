// SPDX-License-Identifier: Apache-2.0
// brgemm_f32, brgemm_bf16: C = epilogue(sum over entries of A x B) for matrix products and convolutions, B packed in
// panels, of float32 numbers or of bfloat16 ones that become float32 where they are loaded.
// Here the loops around the register tile of brgemm_tile.hpp.
#include "brgemm_shape.hpp"
#include "brgemm_tile.hpp"
#include "cursor.hpp"
#include "transpose.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Bytes of A that stay in L2 while panels of B stream past.
constexpr std::int64_t kResidentBytes = 512 * 1024;

// Bytes of B that stay in L2 while rows of C stream past.
constexpr std::int64_t kStreamBytes = 320 * 1024;
// Tiles that it takes to make up for the weights not being fetched ahead.
constexpr std::int64_t kStreamTiles = 16;
// Products along K whose weights a tile meets at once: those of a few panels and a tile's rows of A fit into L1.
constexpr std::int64_t kDepth = 256;
// Weights of a thread that come from beyond L2, and how far ahead of their use those of few rows are fetched from
// there: two pages, as the hardware's own fetching ends with each page.
constexpr std::int64_t kFarBytes = 3 << 19, kFarAhead = 8192;
// Chains of additions that hide the latency of an FMA.
constexpr int kChains = 8;

// tiles[m][n]: the tile of m rows and n panels, null where the registers do not hold it.
template <class Weight>
struct Tiles {
  TileFn<Weight> fn[kTileM + 1][kMaxPanels + 1];
};

template <int kM, int kPanels, class Weight>
constexpr void fill(Tiles<Weight>& tiles) {
  if constexpr (kPanels <= panels_for(kM)) tiles.fn[kM][kPanels] = &tile<kM, kPanels>;
  if constexpr (kPanels < panels_for(kM)) {
    fill<kM, kPanels + 1>(tiles);
  } else if constexpr (kM < kTileM) {
    fill<kM + 1, 1>(tiles);
  }
}

template <class Weight>
constexpr Tiles<Weight> make_tiles() {
  Tiles<Weight> tiles{};
  fill<1, 1>(tiles);
  return tiles;
}

template <class Weight>
constexpr Tiles<Weight> kTiles = make_tiles<Weight>();

// Tiles of one panel whose weights are far, by rows.
template <class Weight>
constexpr TileFn<Weight> kFarTiles[kRowsThatFetch - 1] = {&tile<1, 1, true>, &tile<2, 1, true>, &tile<3, 1, true>};

template <class Weight>
struct Loops {
  static constexpr std::int64_t kBytes = sizeof(Weight);

  const BrgemmParams& p;
  const float* a;
  const float* residual;
  const Weight* b;
  const float* bias;
  float* c;
  std::int64_t tiles_per_row;
  std::int64_t panels;

  // The columns of some panels that exist.
  int columns(Range range) const {
    return static_cast<int>(min_of(p.n - range.begin * kPanel, (range.end - range.begin) * kPanel));
  }
  // What all tiles of some panels and some chunks have in common.
  Tile<Weight> common(Range range, Range chunks) const {
    const std::int64_t column = range.begin * kPanel;
    Tile<Weight> t;
    t.p = &p;
    t.lda = p.a_col;
    t.chunks = chunks;
    t.b_panel = p.k * kPanel;
    t.bias = bias ? bias + column : nullptr;
    t.c_step = p.c_col;
    t.residual = nullptr;
    t.r_step = p.r_col;
    t.cols = columns(range);
    t.ahead = reinterpret_cast<const char*>(b);
    t.ahead_step = t.ahead_panel = 0;
    return t;
  }

  void move(Tile<Weight>& t, const Cursor<BrgemmParams>& at, std::int64_t panel) const {
    const std::int64_t column = panel * kPanel;
    t.a = a + at.a();
    t.b = b + at.batch() * p.b_batch + panel * t.b_panel;
    t.c = c + at.c() + column;
    if (residual) t.residual = residual + at.residual() + column;
  }

  // Panels of B in groups of even size: a lone last panel would make poor tiles.
  std::int64_t groups(Range range) const {
    const std::int64_t most = panels_for(static_cast<int>(min_of(p.tile_m, p.ow)));
    return (range.end - range.begin + most - 1) / most;
  }
  static Range group(Range range, std::int64_t index, std::int64_t count) {
    const std::int64_t panels = range.end - range.begin;
    return {range.begin + panels * index / count, range.begin + panels * (index + 1) / count};
  }

  // For blocks of A that stay in L2: panels of B outside, so that B is read once per block and in order; then chunks,
  // so that those of the panels stay in L1 while the block's tiles stream past them.
  void run(Range tiles, Range range) const {
    const bool few_weights = kBytes * kPanel * p.k * (range.end - range.begin) <= kStreamBytes;
    const std::int64_t together = min_of(p.n_chunks, max_of(1, kDepth * p.n_chunks / max_of(p.k, 1)));
    if (p.n_chunks == together && few_weights && tiles.end - tiles.begin >= kStreamTiles) return run_rows(tiles, range);
    const std::int64_t row_bytes = 4 * p.k * p.tile_m;
    const std::int64_t block = max_of(1, kResidentBytes / max_of(row_bytes, 1));
    const std::int64_t count = groups(range);
    for (std::int64_t first = tiles.begin; first < tiles.end; first += block) {
      const Range part = {first, min_of(tiles.end, first + block)};
      for (std::int64_t g = 0; g < count; ++g) {
        for (std::int64_t chunk = 0; chunk < p.n_chunks; chunk += together) {
          run_chunks(part, group(range, g, count), {chunk, min_of(p.n_chunks, chunk + together)});
        }
      }
    }
  }
  // Few weights and many rows: tiles outside, so that whole rows of C and of the residual follow each other.
  void run_rows(Range tiles, Range range) const {
    const std::int64_t count = groups(range);
    const std::int64_t rest = 4 * p.tile_m * p.r_col;
    Tile<Weight> t = common(range, {0, p.n_chunks});
    Cursor<BrgemmParams> at(p, tiles_per_row, tiles.begin);
    for (std::int64_t i = tiles.begin; i < tiles.end; ++i, at.next()) {
      for (std::int64_t g = 0; g < count; ++g) {
        const Range part = group(range, g, count);
        t.bias = bias ? bias + part.begin * kPanel : nullptr;
        t.cols = columns(part);
        move(t, at, part.begin);
        if (residual) {  // what the next tile adds, a share per group of panels
          t.ahead = reinterpret_cast<const char*>(residual + at.residual()) + rest + rest * g / count;
          t.ahead_step = rest / (count * max_of(p.k, 1));
        }
        kTiles<Weight>.fn[at.rows()][part.end - part.begin](t);
      }
    }
  }
  void run_chunks(Range tiles, Range range, Range chunks) const {
    Tile<Weight> t = common(range, chunks);
    const std::int64_t n = range.end - range.begin;
    const std::int64_t count = tiles.end - tiles.begin;
    // Each tile fetches its share of the chunks' rows, of all panels.
    const Ahead next = ahead(t, n);
    const char* const from = reinterpret_cast<const char*>(b + range.begin * t.b_panel + next.offset);
    t.ahead_panel = kBytes * t.b_panel;
    t.ahead_step = kBytes * kPanel / count;
    Cursor<BrgemmParams> at(p, tiles_per_row, tiles.begin);
    for (std::int64_t i = 0; i < count; ++i, at.next()) {
      move(t, at, range.begin);
      t.ahead = from + kBytes * (at.batch() * p.b_batch + i * next.depth / count * kPanel);
      kTiles<Weight>.fn[at.rows()][n](t);
    }
  }
  // What the tiles of `panels` panels and some chunks fetch together: the next chunks of these panels, or the first of
  // the next ones.
  struct Ahead {
    std::int64_t offset;  // from the panels' start
    std::int64_t depth;   // rows of it
  };
  Ahead ahead(const Tile<Weight>& t, std::int64_t panels) const {
    const std::int64_t *const begin = t.entry(t.chunks.begin), *const end = t.entry(t.chunks.end);
    if (begin == end) return {0, 1};
    const std::int64_t depth = end[-2] + end[-1] - begin[2];
    return {t.chunks.end == p.n_chunks ? panels * t.b_panel : (begin[2] + depth) * kPanel, depth};
  }

  // A tile of few rows that waits for memory: panel by panel, so that the weights are one stream.
  bool far(Range tiles, Range range) const {
    return kFetchesAhead && tiles.end - tiles.begin == 1 && p.ow < kRowsThatFetch &&
           kBytes * kPanel * p.k * (range.end - range.begin) >= kFarBytes;
  }

  void run_far(Range tiles, Range range) const {
    Tile<Weight> t = common(range, {0, p.n_chunks});
    const Cursor<BrgemmParams> at(p, tiles_per_row, tiles.begin);
    t.ahead_step = kBytes * kPanel;
    for (std::int64_t panel = range.begin; panel < range.end; ++panel) {
      t.bias = bias ? bias + panel * kPanel : nullptr;
      t.cols = columns({panel, panel + 1});
      move(t, at, panel);
      t.ahead = reinterpret_cast<const char*>(t.b) + kFarAhead;
      kFarTiles<Weight>[at.rows() - 1](t);
    }
  }

  // A single row of few columns, with the chunks in parallel. Needs one entry per chunk.
  bool narrow(Range tiles) const {
    return tiles.end - tiles.begin == 1 && p.ow == 1 && panels <= kChains / 2 && p.n_chunks > 1 &&
           static_cast<const std::int64_t*>(p.chunks)[p.n_chunks] == p.n_chunks;
  }

  void run_narrow(Range tiles, Range range) const {
    Tile<Weight> t = common(range, {0, p.n_chunks});
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

template <class Weight>
void brgemm(const KernelArgs& args, Range range) {
  const BrgemmParams& p = params_of<BrgemmParams>(args);
  Loops<Weight> loops{p,
                      static_cast<const float*>(args.in[0]),
                      static_cast<const float*>(args.in[1]),
                      static_cast<const Weight*>(p.b ? p.b : args.in[2]),
                      static_cast<const float*>(p.bias),
                      static_cast<float*>(args.out),
                      (p.ow + p.tile_m - 1) / p.tile_m,
                      (p.n + kPanel - 1) / kPanel};
  const std::int64_t all_tiles = p.batch * p.oh * loops.tiles_per_row;
  const Range tiles = p.split_n ? Range{0, all_tiles, 0} : range;
  const Range panels = p.split_n ? range : Range{0, loops.panels, 0};
  for (std::int64_t g = 0; g < p.groups; ++g) {
    if (loops.narrow(tiles)) {
      loops.run_narrow(tiles, panels);
    } else if (loops.far(tiles, panels)) {
      if constexpr (kFetchesAhead) loops.run_far(tiles, panels);
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

}  // namespace

void brgemm_f32(const KernelArgs& args, Range range) noexcept { brgemm<float>(args, range); }

void brgemm_bf16(const KernelArgs& args, Range range) noexcept { brgemm<std::uint16_t>(args, range); }

// A panel of B whose columns are dense, as in weights that lie transposed, but for the last rows; returns how many
// rows.
static std::int64_t pack_columns(const float* in, std::int64_t stride, float* out, std::int64_t rows) {
  std::int64_t k = 0;
  for (; k + kLanes <= rows; k += kLanes, out += kLanes * kPanel) {
    for (std::int64_t j = 0; j < kPanel; j += kLanes) {
      Vec v[kLanes];
      for (int i = 0; i < kLanes; ++i) v[i] = load(in + (j + i) * stride + k);
      transpose(v);
      for (int i = 0; i < kLanes; ++i) store(out + i * kPanel + j, v[i]);
    }
  }
  return k;
}

// Whole panels of a B whose rows are dense, side by side: a line of a row is read where the one before it was, and not
// after all other rows.
template <int kCount>
static void pack_rows(const float* const* from, std::int64_t stride, float* const* to, std::int64_t rows) {
  const float* in[kCount];
  float* out[kCount];
  for (int i = 0; i < kCount; ++i) in[i] = from[i], out[i] = to[i];
  for (std::int64_t at = 0; at < rows * kPanel; at += kPanel) {
    for (int i = 0; i < kCount; ++i) {
      for (std::int64_t j = 0; j < kPanel; j += kLanes) store(out[i] + at + j, load(in[i] + j));
      in[i] += stride;
    }
  }
}

void pack_b_f32(const KernelArgs& args, Range range) noexcept {
  const PackParams& p = params_of<PackParams>(args);
  const std::int64_t panels = (p.n + kPanel - 1) / kPanel;
  constexpr int kTogether = 4;
  const float* from[kTogether];
  float* to[kTogether];
  int waiting = 0;
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t first = u % panels * kPanel;
    const std::int64_t cols = min_of(kPanel, p.n - first);
    const float* in = static_cast<const float*>(args.in[0]) + u / panels * p.in_batch + first * p.in_n;
    float* out = static_cast<float*>(args.out) + u / panels * p.out_batch + u % panels * p.k * kPanel;
    if (cols == kPanel && p.in_n == 1) {
      from[waiting] = in, to[waiting++] = out;
      if (waiting == kTogether) pack_rows<kTogether>(from, p.in_k, to, p.k), waiting = 0;
      continue;
    }
    std::int64_t k = 0;
    if (cols == kPanel && p.in_k == 1) {
      k = pack_columns(in, p.in_n, out, p.k);
      in += k;
      out += k * kPanel;
    }
    for (; k < p.k; ++k, in += p.in_k, out += kPanel) {
      for (std::int64_t j = 0; j < cols; ++j) out[j] = in[j * p.in_n];
      for (std::int64_t j = cols; j < kPanel; ++j) out[j] = 0.0f;
    }
  }
  for (int i = 0; i < waiting; ++i) pack_rows<1>(from + i, p.in_k, to + i, p.k);
}

}  // namespace forwardpass::FORWARDPASS_ISA
