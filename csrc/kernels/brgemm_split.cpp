// SPDX-License-Identifier: Apache-2.0
// brgemm_split_f32: brgemm on matrix tiles, both operands split in terms of bfloat16 (terms.hpp). Of the products of
// terms those that count in float32 are summed, smallest first: six of three terms, three of two, one of one.
//
// A sum that is not finite is not trusted: the terms of an infinity or NaN multiply to other things than it does, and
// a term can overflow where the number would not. It is computed again in float32 from the sums of the terms, in the
// order of brgemm_f32. Infinities and NaN stay in a sum, so none is missed.
#include "cursor.hpp"
#include "terms.hpp"
#include "tiles.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

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

// The sums of up to four tiles, that go to C while the next ones multiply.
struct Block {
  alignas(64) float sums[4][256];
  Rows rows[2];
  std::int64_t panel;
  int ms, ns;
  int done;  // of 2 * ms tiles, of which those with odd numbers count only where ns is 2
};

struct Product {
  int left, right;
};

template <int kTerms>
constexpr Product kProducts[1] = {{0, 0}};
template <>
constexpr Product kProducts<2>[3] = {{0, 1}, {1, 0}, {0, 0}};
template <>
constexpr Product kProducts<3>[6] = {{0, 2}, {2, 0}, {1, 1}, {0, 1}, {1, 0}, {0, 0}};

// Brings a tile into L1. There need be no memory there.
FP_INLINE void prefetch(const std::uint32_t* p, std::int64_t stride) {
  if constexpr (!kHasTiles) return;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) __builtin_prefetch(p + i * stride);
}

// The products of a step from kAt on, for kM tiles of pixels times kN panels. Tiles that the product before has loaded
// are used again.
template <int kTerms, int kM, int kN, int kAt = 0>
FP_INLINE void multiply_step(Tiles& tiles, const std::uint32_t* a0, const std::uint32_t* a1, std::int64_t a_col,
                             const std::uint32_t* b0, const std::uint32_t* b1, std::int64_t ahead) {
  constexpr int kCount = kTerms * (kTerms + 1) / 2;
  if constexpr (kAt < kCount) {
    if constexpr (kAt < kTerms) {
      prefetch(a0 + ahead + kAt * kPairs, a_col);
      prefetch(b0 + (kTerms + kAt) * kTileWords, kPairs);
    } else if constexpr (kAt < 2 * kTerms) {
      if constexpr (kM > 1) prefetch(a1 + ahead + (kAt - kTerms) * kPairs, a_col);
      if constexpr (kN > 1) prefetch(b1 + kAt * kTileWords, kPairs);
    }
    constexpr Product now = kProducts<kTerms>[kAt];
    constexpr Product before = kAt == 0 ? Product{-1, -1} : kProducts<kTerms>[kAt == 0 ? 0 : kAt - 1];
    if constexpr (now.right != before.right) {
      tiles.load<6>(b0 + now.right * kTileWords, kPairs);
      if constexpr (kN > 1) tiles.load<7>(b1 + now.right * kTileWords, kPairs);
    }
    if constexpr (now.left != before.left) {
      tiles.load<4>(a0 + now.left * kPairs, a_col);
      if constexpr (kM > 1) tiles.load<5>(a1 + now.left * kPairs, a_col);
    }
    tiles.multiply<0, 4, 6>();
    if constexpr (kN > 1) tiles.multiply<1, 4, 7>();
    if constexpr (kM > 1) tiles.multiply<2, 5, 6>();
    if constexpr (kM > 1 && kN > 1) tiles.multiply<3, 5, 7>();
    multiply_step<kTerms, kM, kN, kAt + 1>(tiles, a0, a1, a_col, b0, b1, ahead);
  }
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

  // The sums of the block's tiles, and beside them those of the block before into C.
  template <int kTerms, int kM, int kN>
  void multiply(Block& now, Block& before) const {
    const std::int64_t a_col = p.a_col;
    const std::uint32_t *b0 = b + now.panel * b_panel(), *b1 = b0 + b_panel();
    const Step* const end = steps() + p.n_steps;
    tiles.clear<0>();
    if constexpr (kN > 1) tiles.clear<1>();
    if constexpr (kM > 1) tiles.clear<2>();
    if constexpr (kM > 1 && kN > 1) tiles.clear<3>();
    const std::uint32_t *a0 = now.rows[0].a, *a1 = now.rows[kM - 1].a;
    for (const Step* s = steps(); s != end; ++s, b0 += kTerms * kTileWords, b1 += kTerms * kTileWords) {
      const std::int64_t ahead = s + 1 == end ? 0 : s[1].offset - s->offset;
      multiply_step<kTerms, kM, kN>(tiles, a0 + s->offset, a1 + s->offset, a_col, b0, b1, ahead);
      finish_next(before);
    }
    finish_all(before);
    tiles.store<0>(now.sums[0]);
    if constexpr (kN > 1) tiles.store<1>(now.sums[1]);
    if constexpr (kM > 1) tiles.store<2>(now.sums[2]);
    if constexpr (kM > 1 && kN > 1) tiles.store<3>(now.sums[3]);
    now.ms = kM;
    now.ns = kN;
    now.done = 0;
  }

  void finish_all(Block& block) const {
    while (block.done < 2 * block.ms) finish_next(block);
  }

  void finish_next(Block& block) const {
    if (block.done >= 2 * block.ms) return;
    const int tile = block.done;
    block.done += 3 - block.ns;
    finish(block.rows[tile / 2], block.sums[tile], block.panel + tile % 2);
  }

  // The sums of one tile, which are dense, into C.
  void finish(const Rows& rows, float* sums, std::int64_t panel) const {
    const std::int64_t column = panel * kPairs;
    const int cols = static_cast<int>(min_of(kPairs, p.n - column));
    Vec sticky = zero();
    for (int i = 0; i < kPairs * rows.count; i += kLanes) sticky = fma(load(sums + i), zero(), sticky);
    if (any(is_nan(sticky))) [[unlikely]]
      repair(rows, sums, panel);
    float* c_row = rows.c + column;
    const float* r_row = rows.residual ? rows.residual + column : nullptr;
    std::int64_t x = rows.x;
    for (int i = 0; i < rows.count;) {  // one row of pixels after another
      const int count = static_cast<int>(min_of(rows.count - i, max_of(p.width - x, 0)));
      if (count > 0) {
        const float* residual = r_row ? r_row + x * p.r_col : nullptr;
        if (cols == kPairs) {
          finish_pixels<true>(sums + i * kPairs, residual, c_row + x * p.c_col, count, column, cols);
        } else {
          finish_pixels<false>(sums + i * kPairs, residual, c_row + x * p.c_col, count, column, cols);
        }
      }
      i += static_cast<int>(p.span - x);
      x = 0;
      c_row += p.c_row;
      if (r_row) r_row += p.r_row;
    }
  }

  // Bias, residual and activation, on `count` pixels of a row.
  template <bool kFull>
  void finish_pixels(const float* sums, const float* residual, float* out, int count, std::int64_t column,
                     int cols) const {
    const float* const bias = p.bias ? static_cast<const float*>(p.bias) + column : nullptr;
    const std::int64_t c_col = p.c_col, r_col = p.r_col;
    const bool clips = p.activation == k_relu || p.activation == k_clip;
    const Vec low = set1(p.activation == k_clip ? p.alpha : 0.0f);
    const Vec high = set1(p.activation == k_clip ? p.beta : __builtin_inff());
    for (int j = 0; j < cols; j += kLanes) {
      const int valid = kFull ? kLanes : cols - j;
      const Vec shift = bias ? load_valid(bias + j, valid) : zero();
      for (int i = 0; i < count; ++i) {
        Vec y = load(sums + i * kPairs + j);
        if (bias) y = y + shift;
        if (residual) y = y + load_valid(residual + i * r_col + j, valid);
        if (clips) y = min(high, max(low, y));
        if (valid >= kLanes) {
          store(out + i * c_col + j, y);
        } else {
          store(out + i * c_col + j, y, valid);
        }
      }
    }
    if (!runs_on_rows(p.activation)) return;
    const RowFn activate = kActivationRows[p.activation];
    for (int i = 0; i < count; ++i) activate(out + i * c_col, out + i * c_col, cols, p.alpha, p.beta);
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

  // kLanes columns of a row of the product as brgemm_f32 sums them.
  Vec exact(const std::uint32_t* row, std::int64_t panel, int column) const {
    Vec total = zero(), sum = zero();
    const std::uint32_t* tile = b + panel * b_panel() + column;
    std::int64_t count = 0;
    bool first = true;
    for (std::int64_t s = 0; s < p.n_steps; ++s, tile += p.terms * kTileWords) {
      for (std::int64_t k = 0; k < steps()[s].valid; ++k) {
        Vec x = zero(), w = zero();
        for (std::int64_t t = p.terms - 1; t >= 0; --t) {
          const std::uint32_t* word = row + steps()[s].offset + t * kPairs + k % kPairs;
          x = x + half(iset1(static_cast<std::int32_t>(*word)), k);
          w = w + half(bits(load(reinterpret_cast<const float*>(tile + t * kTileWords + k % kPairs * kPairs))), k);
        }
        sum = fma(x, w, sum);
        if (++count < p.chunk && !(s + 1 == p.n_steps && k + 1 == steps()[s].valid)) continue;
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

  template <int kTerms>
  void run(Range range, Range panels) const {
    Block blocks[2];
    for (Block& block : blocks) block.ms = block.done = 0;
    for (std::int64_t first = range.begin; first < range.end; first += p.block) {
      const Range part = {first, min_of(range.end, first + p.block)};
      for (std::int64_t panel = panels.begin; panel < panels.end; panel += 2) {
        if (panel + 1 < panels.end) {
          run_panels<kTerms, 2>(part, panel, blocks);
        } else {
          run_panels<kTerms, 1>(part, panel, blocks);
        }
      }
    }
    for (Block& block : blocks) finish_all(block);
  }

  template <int kTerms, int kN>
  void run_panels(Range range, std::int64_t panel, Block (&blocks)[2]) const {
    Cursor<BrgemmSplitParams> at(p, tiles_per_row, range.begin);
    int turn = blocks[0].done < blocks[0].ms * 2;  // the one that is finished is free
    for (std::int64_t i = range.begin; i < range.end; i += 2, turn ^= 1) {
      Block& now = blocks[turn];
      now.panel = panel;
      now.rows[0] = rows_at(at);
      at.next();
      if (i + 1 == range.end) {
        multiply<kTerms, 1, kN>(now, blocks[turn ^ 1]);
        return;
      }
      now.rows[1] = rows_at(at);
      at.next();
      multiply<kTerms, 2, kN>(now, blocks[turn ^ 1]);
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
