// SPDX-License-Identifier: Apache-2.0
// brgemm_split_f32: brgemm on matrix tiles, both operands split in terms of bfloat16 (terms.hpp). Of the products of
// terms those that count in float32 are summed, smallest first: six of three terms, three of two, one of one.
//
// A sum that is not finite is not trusted: the terms of an infinity or NaN multiply to other things than it does, and
// a term can overflow where the number would not. It is computed again in float32 from the sums of the terms, in the
// order of brgemm_f32. Infinities and NaN stay in a sum, so none is missed.
#include "brgemm_split_step.hpp"
#include "cursor.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Of weights that stay in L2, so that nothing needs to fetch them ahead.
constexpr std::int64_t kResidentWords = 512 * 1024 / 4;

struct Step {
  std::int64_t offset;  // into A, in words
  std::int64_t valid;   // numbers of the block that are no filling
};

// One tile of positions. A position is a pixel of the output, or falls between two rows of it.
struct Rows {
  const std::uint32_t* a;
  const float* residual;  // of the first position's row of pixels, as is c
  float* c;
  std::int64_t x;  // in that row
  int count;
};

// The part of a tile that is in one row of the output.
struct Pixels {
  int first;  // in the tile
  int count;
  float* c;
  const float* residual;
};

// One tile of sums: of some positions and a panel.
struct Part {
  Rows rows;
  std::int64_t panel;
};

// The sums of up to four tiles, that go to C while the next ones multiply.
struct Block {
  alignas(64) float sums[4][256];
  Part parts[4];
  int count = 0;
  int done = 0;
  bool first, last;  // of the chunks of K
};

template <int kTiles>
FP_INLINE void store_sums(const Tiles& tiles, Block& block) {
  tiles.store<0>(block.sums[0]);
  if constexpr (kTiles > 1) tiles.store<1>(block.sums[1]);
  if constexpr (kTiles > 2) tiles.store<2>(block.sums[2]);
  if constexpr (kTiles > 3) tiles.store<3>(block.sums[3]);
  block.count = kTiles;
  block.done = 0;
}

struct Loops {
  const BrgemmSplitParams& p;
  const std::uint32_t* a;
  const float* residual;
  const std::uint32_t* b;
  float* c;
  std::int64_t tiles_per_row;
  Tiles& tiles;

  std::int64_t b_panel() const { return p.n_steps * p.terms * kTileWords; }
  const Step* steps() const { return static_cast<const Step*>(p.steps); }

  Rows rows_at(const Cursor<BrgemmSplitParams>& at) const {
    const std::int64_t y = at.position() / p.span;
    return {a + at.a(), residual ? residual + at.batch() * p.r_batch + (at.row() + y) * p.r_row : nullptr,
            c + at.batch() * p.c_batch + (at.row() + y) * p.c_row, at.position() - y * p.span, at.rows()};
  }

  // The sums of the block's tiles over a chunk, and beside them those of the block before into C.
  template <int kTerms, int kM, int kN>
  void multiply(Block& now, Block& before, Range chunk, Ahead& next) const {
    const std::int64_t a_col = p.a_col;
    const std::uint32_t* b0 = weights<kTerms>(now.parts[0].panel, chunk.begin);
    const std::uint32_t* b1 = b0 + b_panel();
    const std::uint32_t *a0 = now.parts[0].rows.a, *a1 = now.parts[(kM - 1) * kN].rows.a;
    const Step* const end = steps() + chunk.end;
    for (int i = 0; i < kM * kN; ++i) fetch_results(now.parts[i]);
    clear_sums<kM * kN>(tiles);
    for (const Step* s = steps() + chunk.begin; s != end; ++s) {
      const std::int64_t ahead = s + 1 == end ? 0 : s[1].offset - s->offset;
      multiply_step<kTerms, kM, kN>(tiles, a0 + s->offset, a1 + s->offset, a_col, b0, b1, ahead);
      b0 += kTerms * kTileWords;
      b1 += kTerms * kTileWords;
      next.fetch();
      finish_next(before);
    }
    finish_all(before);
    store_sums<kM * kN>(tiles, now);
    now.first = chunk.begin == 0;
    now.last = chunk.end == p.n_steps;
  }

  // The memory that a tile's results go to, and what is added to them, on their way into L2 while it multiplies.
  // Where the tile goes on in the next row of the output, this misses, and nothing more.
  void fetch_results(const Part& part) const {
    if constexpr (!kHasTiles) return;
    const Rows& rows = part.rows;
    const float* c = rows.c + rows.x * p.c_col + part.panel * kPairs;
    for (int i = 0; i < rows.count; ++i) __builtin_prefetch(c + i * p.c_col, 0, 2);
    if (rows.residual == nullptr) return;
    const float* r = rows.residual + rows.x * p.r_col + part.panel * kPairs;
    for (int i = 0; i < rows.count; ++i) __builtin_prefetch(r + i * p.r_col, 0, 2);
  }

  void finish_all(Block& block) const {
    while (block.done < block.count) finish_next(block);
  }

  void finish_next(Block& block) const {
    if (block.done >= block.count) return;
    const Part& part = block.parts[block.done];
    finish(part.rows, block.sums[block.done++], part.panel, block.first, block.last);
  }

  // The sums of one tile, which are dense, into C, where those of the chunks before are.
  void finish(const Rows& rows, float* sums, std::int64_t panel, bool first, bool last) const {
    if (!last) {
      return each_row(rows, panel, [=, this](const Pixels& to, int cols) { add_chunk(sums, to, first, cols); });
    }
    if (!first) each_row(rows, panel, [=, this](const Pixels& to, int cols) { take_chunks(sums, to, cols); });
    Vec sticky = zero();
    for (int i = 0; i < kPairs * rows.count; i += kLanes) sticky = fma(load(sums + i), zero(), sticky);
    if (any(is_nan(sticky))) [[unlikely]]
      repair(rows, sums, panel);
    const std::int64_t column = panel * kPairs;
    each_row(rows, panel, [=, this](const Pixels& to, int cols) {
      if (cols == kPairs) {
        finish_pixels<true>(sums, to, column, cols);
      } else {
        finish_pixels<false>(sums, to, column, cols);
      }
    });
  }

  // Calls act(pixels, columns) for each row of pixels that the tile has a part of.
  template <class Act>
  void each_row(const Rows& rows, std::int64_t panel, Act act) const {
    const std::int64_t column = panel * kPairs;
    const int cols = static_cast<int>(min_of(kPairs, p.n - column));
    float* c_row = rows.c + column;
    const float* r_row = rows.residual ? rows.residual + column : nullptr;
    std::int64_t x = rows.x;
    for (int i = 0; i < rows.count;) {
      const int count = static_cast<int>(min_of(rows.count - i, max_of(p.width - x, 0)));
      if (count > 0) act(Pixels{i, count, c_row + x * p.c_col, r_row ? r_row + x * p.r_col : nullptr}, cols);
      i += static_cast<int>(p.span - x);
      x = 0;
      c_row += p.c_row;
      if (r_row) r_row += p.r_row;
    }
  }

  // A chunk's sums onto those of the chunks before, in C.
  void add_chunk(const float* sums, const Pixels& to, bool first, int cols) const {
    for (int i = 0; i < to.count; ++i) {
      float* out = to.c + i * p.c_col;
      for (int j = 0; j < cols; j += kLanes) {
        const Vec sum = load(sums + (to.first + i) * kPairs + j);
        const Vec y = first ? sum : load_valid(out + j, cols - j) + sum;
        if (cols - j >= kLanes) {
          store(out + j, y);
        } else {
          store(out + j, y, cols - j);
        }
      }
    }
  }

  // The sums of the chunks before from C onto those of the last.
  void take_chunks(float* sums, const Pixels& from, int cols) const {
    for (int i = 0; i < from.count; ++i) {
      float* sum = sums + (from.first + i) * kPairs;
      for (int j = 0; j < cols; j += kLanes) {
        store(sum + j, load_valid(from.c + i * p.c_col + j, cols - j) + load(sum + j));
      }
    }
  }

  // Bias, residual and activation.
  template <bool kFull>
  void finish_pixels(const float* sums, const Pixels& to, std::int64_t column, int cols) const {
    const float* const bias = p.bias ? static_cast<const float*>(p.bias) + column : nullptr;
    const std::int64_t c_col = p.c_col, r_col = p.r_col;
    const bool clips = p.activation == k_relu || p.activation == k_clip;
    const Vec low = set1(p.activation == k_clip ? p.alpha : 0.0f);
    const Vec high = set1(p.activation == k_clip ? p.beta : __builtin_inff());
    sums += to.first * kPairs;
    for (int j = 0; j < cols; j += kLanes) {
      const int valid = kFull ? kLanes : cols - j;
      const Vec shift = bias ? load_valid(bias + j, valid) : zero();
      for (int i = 0; i < to.count; ++i) {
        Vec y = load(sums + i * kPairs + j);
        if (bias) y = y + shift;
        if (to.residual) y = y + load_valid(to.residual + i * r_col + j, valid);
        if (clips) y = min(high, max(low, y));
        if (valid >= kLanes) {
          store(to.c + i * c_col + j, y);
        } else {
          store(to.c + i * c_col + j, y, valid);
        }
      }
    }
    if (!runs_on_rows(p.activation)) return;
    const RowFn activate = kActivationRows[p.activation];
    for (int i = 0; i < to.count; ++i) activate(to.c + i * c_col, to.c + i * c_col, cols, p.alpha, p.beta);
  }

  // Puts what brgemm_f32 would have summed in place of the sums that are not finite.
  [[gnu::noinline]] void repair(const Rows& rows, float* sums, std::int64_t panel) const {
    const std::int64_t cols = min_of(kPairs, p.n - panel * kPairs);
    for (int i = 0; i < rows.count; ++i) {
      for (int j = 0; j < cols; j += kLanes) {
        float* at = sums + i * kPairs + j;
        const Vec y = load(at);
        const Mask bad = ~(abs(y) <= set1(0x1.fffffep127f));
        if (any(bad)) store(at, select(bad, exact(rows.a + i * p.a_col, panel, j), y));
      }
    }
  }

  // kLanes columns of a row of the product as brgemm_f32 sums them: the taps one after another.
  Vec exact(const std::uint32_t* row, std::int64_t panel, int column) const {
    Vec total = zero(), sum = zero();
    const std::uint32_t* tiles_of_panel = b + panel * b_panel() + column;
    const std::int64_t taps = p.taps, blocks = p.n_steps / taps;
    std::int64_t count = 0;
    bool first = true;
    for (std::int64_t i = 0; i < p.n_steps; ++i) {
      const std::int64_t s = i % blocks * taps + i / blocks;
      const std::uint32_t* tile = tiles_of_panel + s * p.terms * kTileWords;
      for (std::int64_t k = 0; k < steps()[s].valid; ++k) {
        Vec x = zero(), w = zero();
        for (std::int64_t t = p.terms - 1; t >= 0; --t) {
          const std::uint32_t* word = row + steps()[s].offset + t * kPairs + k % kPairs;
          x = x + half(iset1(static_cast<std::int32_t>(*word)), k);
          w = w + half(bits(load(reinterpret_cast<const float*>(tile + t * kTileWords + k % kPairs * kPairs))), k);
        }
        sum = fma(x, w, sum);
        if (++count < p.chunk && !(i + 1 == p.n_steps && k + 1 == steps()[s].valid)) continue;
        total = first ? sum : total + sum;
        sum = zero();
        first = false;
        count = 0;
      }
    }
    return total;
  }

  FP_INLINE Vec half(IVec words, std::int64_t k) {
    return from_bits(k < kPairs ? shift_left<16>(words) : high_half(words));
  }

  // Tiles of pixels in parts that stay in L2, with all panels, chunk by chunk.
  template <int kTerms>
  void run(Range range, Range panels) const {
    Block blocks[2];
    for (std::int64_t first = range.begin; first < range.end; first += p.block) {
      const Range part = {first, min_of(range.end, first + p.block)};
      for (std::int64_t k = 0; k < p.n_steps; k += p.chunk_steps) {
        const Range chunk = {k, min_of(p.n_steps, k + p.chunk_steps)};
        for (std::int64_t panel = panels.begin; panel < panels.end; panel += 2) {
          Ahead next = ahead<kTerms>(part, panels, chunk, panel + 2);
          if (panel + 1 < panels.end) {
            run_panels<kTerms, 2>(part, panel, chunk, blocks, next);
          } else {
            run_panels<kTerms, 1>(part, panel, chunk, blocks, next);
          }
        }
      }
    }
    for (Block& block : blocks) finish_all(block);
  }

  template <int kTerms>
  const std::uint32_t* weights(std::int64_t panel, std::int64_t step) const {
    return b + panel * b_panel() + step * kTerms * kTileWords;
  }

  // What to fetch while a part meets the two panels before `panel`: this chunk of the next two, or the next chunk of
  // the first two.
  template <int kTerms>
  Ahead ahead(Range part, Range panels, Range chunk, std::int64_t panel) const {
    if ((panels.end - panels.begin) * b_panel() <= kResidentWords) return {b, 0, 0};
    std::int64_t step = chunk.begin;
    if (panel >= panels.end) {
      panel = panels.begin;
      step = chunk.end < p.n_steps ? chunk.end : 0;
    }
    const std::int64_t lines = (chunk.end - chunk.begin) * kTerms * 16;
    const std::int64_t times = (part.end - part.begin + 1) / 2 * (chunk.end - chunk.begin);
    return {weights<kTerms>(panel, step), panel + 1 < panels.end ? b_panel() : 0, (lines + times - 1) / times};
  }

  template <int kTerms, int kN>
  void run_panels(Range range, std::int64_t panel, Range chunk, Block (&blocks)[2], Ahead& next) const {
    Cursor<BrgemmSplitParams> at(p, tiles_per_row, range.begin);
    int turn = blocks[0].done < blocks[0].count;  // the one that is finished is free
    for (std::int64_t i = range.begin; i < range.end; i += 2, turn ^= 1) {
      Block& now = blocks[turn];
      const int rows = i + 1 < range.end ? 2 : 1;
      for (int m = 0; m < rows; ++m, at.next()) {
        for (int n = 0; n < kN; ++n) now.parts[m * kN + n] = {rows_at(at), panel + n};
      }
      if (rows == 2) {
        multiply<kTerms, 2, kN>(now, blocks[turn ^ 1], chunk, next);
      } else {
        multiply<kTerms, 1, kN>(now, blocks[turn ^ 1], chunk, next);
      }
    }
  }
};

}  // namespace

void brgemm_split_f32(const KernelArgs& args, Range range) noexcept {
  const BrgemmSplitParams& p = params_of<BrgemmSplitParams>(args);
  Tiles tiles(static_cast<int>(p.tile_m));
  const Loops loops{p,
                    static_cast<const std::uint32_t*>(args.in[0]),
                    static_cast<const float*>(args.in[1]),
                    static_cast<const std::uint32_t*>(p.b),
                    static_cast<float*>(args.out),
                    (p.ow + p.tile_m - 1) / p.tile_m,
                    tiles};
  const Range all_tiles = {0, p.batch * p.oh * loops.tiles_per_row};
  const Range all_panels = {0, (p.n + kPairs - 1) / kPairs};
  const Range pixels = p.split_n ? all_tiles : range;
  const Range panels = p.split_n ? range : all_panels;
  if (p.terms == 3) return loops.run<3>(pixels, panels);
  if (p.terms == 2) return loops.run<2>(pixels, panels);
  loops.run<1>(pixels, panels);
}

}  // namespace forwardpass::FORWARDPASS_ISA
