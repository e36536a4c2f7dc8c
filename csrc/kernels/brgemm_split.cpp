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

// Bytes of A that stay in L2 while panels of B stream past.
constexpr std::int64_t kResidentBytes = 1024 * 1024;

struct Step {
  std::int64_t offset;  // into A, in words
  std::int64_t valid;   // numbers of the block that are no filling
};

// One tile of output pixels.
struct Rows {
  const std::uint32_t* a;
  const float* residual;
  float* c;
  int count;
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

// The products of a step from kAt on, for kM tiles of pixels times kN panels. Tiles that the product before has loaded
// are used again.
template <int kTerms, int kM, int kN, int kAt = 0>
FP_INLINE void multiply_step(Tiles& tiles, const std::uint32_t* a0, const std::uint32_t* a1, std::int64_t a_col,
                             std::int64_t a_term, const std::uint32_t* b0, const std::uint32_t* b1) {
  constexpr int kCount = kTerms * (kTerms + 1) / 2;
  if constexpr (kAt < kCount) {
    constexpr Product now = kProducts<kTerms>[kAt];
    constexpr Product before = kAt == 0 ? Product{-1, -1} : kProducts<kTerms>[kAt == 0 ? 0 : kAt - 1];
    if constexpr (now.right != before.right) {
      tiles.load<6>(b0 + now.right * kTileWords, kPairs);
      if constexpr (kN > 1) tiles.load<7>(b1 + now.right * kTileWords, kPairs);
    }
    if constexpr (now.left != before.left) {
      tiles.load<4>(a0 + now.left * a_term, a_col);
      if constexpr (kM > 1) tiles.load<5>(a1 + now.left * a_term, a_col);
    }
    tiles.multiply<0, 4, 6>();
    if constexpr (kN > 1) tiles.multiply<1, 4, 7>();
    if constexpr (kM > 1) tiles.multiply<2, 5, 6>();
    if constexpr (kM > 1 && kN > 1) tiles.multiply<3, 5, 7>();
    multiply_step<kTerms, kM, kN, kAt + 1>(tiles, a0, a1, a_col, a_term, b0, b1);
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
    return {a + at.a(), residual ? residual + at.residual() : nullptr, c + at.c(), at.rows()};
  }

  template <int kTerms, int kM, int kN>
  void block(const Rows* rows, std::int64_t panel) const {
    const std::int64_t a_col = p.a_col, a_term = p.a_term;
    const std::uint32_t *b0 = b + panel * b_panel(), *b1 = b0 + b_panel();
    const Step* const end = steps() + p.n_steps;
    tiles.clear<0>();
    if constexpr (kN > 1) tiles.clear<1>();
    if constexpr (kM > 1) tiles.clear<2>();
    if constexpr (kM > 1 && kN > 1) tiles.clear<3>();
    const std::uint32_t *a0 = rows[0].a, *a1 = rows[kM - 1].a;
    for (const Step* s = steps(); s != end; ++s, b0 += kTerms * kTileWords, b1 += kTerms * kTileWords) {
      multiply_step<kTerms, kM, kN>(tiles, a0 + s->offset, a1 + s->offset, a_col, a_term, b0, b1);
    }
    alignas(64) float sums[4][256];
    tiles.store<0>(sums[0]);
    if constexpr (kN > 1) tiles.store<1>(sums[1]);
    if constexpr (kM > 1) tiles.store<2>(sums[2]);
    if constexpr (kM > 1 && kN > 1) tiles.store<3>(sums[3]);
    for (int m = 0; m < kM; ++m) {
      for (int n = 0; n < kN; ++n) finish(rows[m], sums[2 * m + n], panel + n);
    }
  }

  // The sums of one tile, which are dense, into C.
  void finish(const Rows& rows, float* sums, std::int64_t panel) const {
    const std::int64_t column = panel * kPairs;
    const int cols = static_cast<int>(min_of(kPairs, p.n - column));
    const float* bias = p.bias ? static_cast<const float*>(p.bias) + column : nullptr;
    for (int j = 0; j < cols; j += kLanes) {
      const int valid = static_cast<int>(min_of(kLanes, cols - j));
      const Vec shift = bias ? load_valid(bias + j, valid) : zero();
      const Vec low = set1(p.activation == k_clip ? p.alpha : 0.0f), high = set1(p.beta);
      for (int i = 0; i < rows.count; ++i) {
        Vec y = load(sums + i * kPairs + j);
        const Mask bad = ~(abs(y) <= set1(0x1.fffffep127f));
        if (any(bad)) [[unlikely]] y = select(bad, exact(rows.a + i * p.a_col, panel, j), y);
        if (bias) y = y + shift;
        if (rows.residual) y = y + load_valid(rows.residual + i * p.r_col + column + j, valid);
        if (p.activation == k_relu || p.activation == k_clip) y = max(low, y);
        if (p.activation == k_clip) y = min(high, y);
        float* out = rows.c + i * p.c_col + column + j;
        valid == kLanes ? store(out, y) : store(out, y, valid);
      }
    }
    if (!runs_on_rows(p.activation)) return;
    for (int i = 0; i < rows.count; ++i) {
      float* row = rows.c + i * p.c_col + column;
      kActivationRows[p.activation](row, row, cols, p.alpha, p.beta);
    }
  }

  // kLanes columns of a row of the product as brgemm_f32 sums them.
  [[gnu::noinline]] Vec exact(const std::uint32_t* row, std::int64_t panel, int column) const {
    Vec total = zero(), sum = zero();
    const std::uint32_t* tile = b + panel * b_panel() + column;
    std::int64_t count = 0;
    bool first = true;
    for (std::int64_t s = 0; s < p.n_steps; ++s, tile += p.terms * kTileWords) {
      for (std::int64_t k = 0; k < steps()[s].valid; ++k) {
        Vec x = zero(), w = zero();
        for (std::int64_t t = p.terms - 1; t >= 0; --t) {
          const std::uint32_t* word = row + steps()[s].offset + t * p.a_term + k % kPairs;
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
    const std::int64_t bytes = p.tile_m * p.n_steps * kTerms * kPairs * 4;
    const std::int64_t most = max_of(2, kResidentBytes / max_of(bytes, 1) / 2 * 2);
    for (std::int64_t first = range.begin; first < range.end; first += most) {
      const Range part = {first, min_of(range.end, first + most)};
      for (std::int64_t panel = panels.begin; panel < panels.end; panel += 2) {
        if (panel + 1 < panels.end) {
          run_panels<kTerms, 2>(part, panel);
        } else {
          run_panels<kTerms, 1>(part, panel);
        }
      }
    }
  }

  template <int kTerms, int kN>
  void run_panels(Range range, std::int64_t panel) const {
    Cursor<BrgemmSplitParams> at(p, tiles_per_row, range.begin);
    std::int64_t i = range.begin;
    for (; i + 1 < range.end; i += 2) {
      Rows rows[2] = {rows_at(at), {}};
      at.next();
      rows[1] = rows_at(at);
      at.next();
      block<kTerms, 2, kN>(rows, panel);
    }
    if (i == range.end) return;
    const Rows rows[1] = {rows_at(at)};
    block<kTerms, 1, kN>(rows, panel);
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
