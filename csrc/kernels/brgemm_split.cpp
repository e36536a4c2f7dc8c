// SPDX-License-Identifier: Apache-2.0
// brgemm_split_f32: brgemm on matrix tiles, both operands split in terms of bfloat16 (terms.hpp). Of the products of
// terms those that count in float32 are summed, smallest first: six of three terms, three of two, one of one.
//
// A sum that is not finite is not trusted: the terms of an infinity or NaN multiply to other things than it does, and
// a term can overflow where the number would not. It is computed again in float32 from the sums of the terms, in the
// order of brgemm_f32. Infinities and NaN stay in a sum, so none is missed.
#include "brgemm_split_finish.hpp"
#include "brgemm_split_step.hpp"
#include "cursor.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Of weights that stay in L2, so that nothing needs to fetch them ahead.
constexpr std::int64_t kResidentWords = 512 * 1024 / 4;

template <int kTiles>
FP_INLINE void store_sums(const Tiles& tiles, Block& block) {
  tiles.store<0>(block.sums[0]);
  if constexpr (kTiles > 1) tiles.store<1>(block.sums[1]);
  if constexpr (kTiles > 2) tiles.store<2>(block.sums[2]);
  if constexpr (kTiles > 3) tiles.store<3>(block.sums[3]);
  block.count = kTiles;
  block.done = 0;
}

struct Loops : Finish {
  const std::uint32_t* a;
  const float* residual;
  float* c;
  std::uint32_t* made;
  std::int64_t tiles_per_row;
  Tiles& tiles;

  Rows rows_at(const Cursor<BrgemmSplitParams>& at) const {
    const std::int64_t y = at.position() / p.span;
    return {a + at.a(),
            residual ? residual + at.batch() * p.r_batch + (at.row() + y) * p.r_row : nullptr,
            c + at.batch() * p.c_batch + (at.row() + y) * p.c_row,
            made ? made + at.batch() * p.made_batch + (at.row() + y) * p.made_row : nullptr,
            at.position() - y * p.span,
            at.rows()};
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
      finish_next<kTerms>(before);
    }
    finish_all<kTerms>(before);
    store_sums<kM * kN>(tiles, now);
    now.panels = kN;
    now.first = chunk.begin == 0;
    now.last = chunk.end == p.n_steps;
  }

  // The memory that a tile's results go to, and what is added to them, on their way into L2 while it multiplies.
  // Where the tile goes on in the next row of the output, this misses, and nothing more.
  void fetch_results(const Part& part) const {
    if constexpr (!kHasTiles) return;
    const Rows& rows = part.rows;
    if (p.makes != kInstead) {
      const float* c = rows.c + rows.x * p.c_col + part.panel * kPairs;
      for (int i = 0; i < rows.count; ++i) __builtin_prefetch(c + i * p.c_col, 0, 2);
    }
    if (rows.residual == nullptr) return;
    const float* r = rows.residual + rows.x * p.r_col + part.panel * kPairs;
    for (int i = 0; i < rows.count; ++i) __builtin_prefetch(r + i * p.r_col, 0, 2);
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
    for (Block& block : blocks) finish_all<kTerms>(block);
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

std::uint32_t* made_by(const BrgemmSplitParams& p, const KernelArgs& args) {
  if (p.makes == kInstead) return static_cast<std::uint32_t*>(args.out);
  return p.makes ? const_cast<std::uint32_t*>(static_cast<const std::uint32_t*>(args.in[2])) : nullptr;
}

}  // namespace

void brgemm_split_f32(const KernelArgs& args, Range range) noexcept {
  const BrgemmSplitParams& p = params_of<BrgemmSplitParams>(args);
  Tiles tiles(static_cast<int>(p.tile_m));
  const Loops loops{{p, static_cast<const std::uint32_t*>(p.b)},
                    static_cast<const std::uint32_t*>(args.in[0]),
                    static_cast<const float*>(args.in[1]),
                    static_cast<float*>(args.out),
                    made_by(p, args),
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
