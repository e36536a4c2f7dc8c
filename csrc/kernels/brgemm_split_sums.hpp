// SPDX-License-Identifier: Apache-2.0
// Where the sums of brgemm_split go, and what takes the place of those that are not finite.
#pragma once
#include "brgemm_split_block.hpp"
#include "brgemm_split_step.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

struct Sums {
  const BrgemmSplitParams& p;
  const std::uint32_t* b;

  explicit Sums(const BrgemmSplitParams& params) : p(params), b(static_cast<const std::uint32_t*>(p.b)) {}

  std::int64_t b_step() const { return (p.floats ? 2 : p.terms) * kTileWords; }
  std::int64_t b_panel() const { return p.n_steps * b_step(); }
  const Step* steps() const { return static_cast<const Step*>(p.steps); }
  Start start_of(std::int64_t panel) const {
    return p.starts ? static_cast<const Start*>(p.starts)[panel / 2] : Start{0, 0};
  }

  // Calls act(pixels, columns) for each row of pixels that the tile has a part of.
  template <class Act>
  void each_row(const Rows& rows, std::int64_t panel, Act act) const {
    const std::int64_t column = panel * kPairs;
    const int cols = static_cast<int>(min_of(kPairs, p.n - column));
    float* c_row = rows.c + column;
    const float* r_row = rows.residual ? rows.residual + residual_at(panel) : nullptr;
    std::uint32_t* made_row = rows.made;
    std::int64_t x = rows.x;
    for (int i = 0; i < rows.count;) {
      const int count = static_cast<int>(min_of(rows.count - i, max_of(p.width - x, 0)));
      if (count > 0) {
        act(Pixels{i, count, c_row + x * p.c_col, r_row ? r_row + x * p.r_col : nullptr,
                   made_row ? made_row + x * p.terms * kPairs : nullptr},
            cols);
      }
      i += static_cast<int>(p.span - x);
      x = 0;
      c_row += p.c_row;
      if (r_row) r_row += p.r_row;
      if (made_row) made_row += p.made_row;
    }
  }

  // From a pixel's residual to that of a panel's columns.
  std::int64_t residual_at(std::int64_t panel) const { return p.r_block ? panel / 2 * p.r_block : panel * kPairs; }

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

  // kLanes columns, each of the channels of its group.
  Vec exact(const std::uint32_t* row, std::int64_t panel, int column) const {
    const Start start = start_of(panel);
    if (!p.starts) return exact(row, panel, column, {0, p.n_steps * kBlock});
    alignas(64) float sums[kLanes], found[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t group = (panel * kPairs + column + lane) / p.group_out;
      const std::int64_t first = group * p.group_in - start.channel;
      store(found, exact(row + start.offset, panel, column, {first, first + p.group_in}));
      sums[lane] = found[lane];
    }
    return load(sums);
  }

  // kLanes columns of a row of the product of some channels as brgemm_f32 sums them: the taps one after another.
  Vec exact(const std::uint32_t* row, std::int64_t panel, int column, Range channels) const {
    Vec total = zero(), sum = zero();
    const std::uint32_t* tiles_of_panel = b + panel * b_panel() + column;
    const std::int64_t taps = p.taps, blocks = p.n_steps / taps;
    std::int64_t count = 0;
    bool first = true;
    for (std::int64_t i = 0; i < p.n_steps; ++i) {
      const std::int64_t s = i % blocks * taps + i / blocks;
      const std::uint32_t* tile = tiles_of_panel + s * b_step();
      const std::int64_t valid = steps()[s].valid;
      const std::int64_t block = i % blocks * kBlock;
      for (std::int64_t k = 0; k < kBlock && valid >> k; ++k) {
        if (!(valid >> k & 1) || block + k < channels.begin || block + k >= channels.end) continue;
        Vec x = zero(), w = zero();
        for (std::int64_t t = p.terms - 1; t >= 0; --t) {
          const std::uint32_t* word = row + steps()[s].offset + t * kPairs + k % kPairs;
          x = x + half(iset1(static_cast<std::int32_t>(*word)), k);
          if (p.floats) continue;
          w = w + half(bits(load(reinterpret_cast<const float*>(tile + t * kTileWords + k % kPairs * kPairs))), k);
        }
        if (p.floats) w = load(reinterpret_cast<const float*>(tile + k * kPairs));
        sum = fma(x, w, sum);
        if (++count < p.chunk) continue;
        total = first ? sum : total + sum;
        sum = zero();
        first = false;
        count = 0;
      }
    }
    return first ? sum : count ? total + sum : total;
  }

  FP_INLINE Vec half(IVec words, std::int64_t k) {
    return from_bits(k < kPairs ? shift_left<16>(words) : high_half(words));
  }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
