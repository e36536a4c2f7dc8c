// SPDX-License-Identifier: Apache-2.0
// Epilogues of brgemm_split spread among the products of the next tiles: a row of two panels here and there, since many
// loads and stores at once wait for the loads of tiles, while few of them and their arithmetic take no time.
#pragma once
#include "brgemm_split_finish.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// The rows of two tiles of pixels, one after another.
struct RowsLeft {
  float* sums;      // of the first panel; those of the second follow its tile
  int left, after;  // in this tile, and in the one behind it

  explicit RowsLeft(Block& block) : sums(block.sums[0]), left(block.rows[0].count), after(block.rows[1].count) {
    first_ = left;
  }
  // Returns whether the next tile begins.
  [[gnu::always_inline]] bool next() {
    sums += kPairs;
    if (--left > 0) [[likely]]
      return false;
    sums += 2 * kTileWords - first_ * kPairs;
    left = after;
    after = 0;
    return true;
  }

 private:
  int first_;
};

constexpr std::int64_t kFetched = 4;  // rows before their turn, into L1

// What Finish::join does, for a block whose rows are dense.
template <int kTerms, class Act>
class SpreadJoin {
 public:
  SpreadJoin(const Finish& f, Block& block, const Act& act) : rows_(block), made_{act} {
    const float* const bias = static_cast<const float*>(f.p.bias);
    const std::int64_t column = block.panel * kPairs;
    low_ = bias ? load(bias + column) : zero();
    high_ = bias ? load(bias + column + kPairs) : zero();
    out_ = first(f, block, 0);
    behind_ = first(f, block, 1);
  }

  [[gnu::always_inline]] void step() {
    if (rows_.left == 0) return;
    made_.put(made_, load(rows_.sums) + low_, load(rows_.sums + kTileWords) + high_, out_);
    for (int t = 0; t < kTerms; ++t) __builtin_prefetch(out_ + (kFetched * kTerms + t) * kPairs, 1, 3);
    out_ += kTerms * kPairs;
    if (rows_.next()) out_ = behind_;
  }
  bool done() const { return rows_.left == 0; }
  bool finite() const { return made_.finite(); }

 private:
  static float* first(const Finish& f, const Block& block, int tile) {
    const Rows& rows = block.rows[tile];
    return reinterpret_cast<float*>(rows.made + block.panel / 2 * f.p.made_block + rows.x * kTerms * kPairs);
  }

  RowsLeft rows_;
  float *out_, *behind_;
  Vec low_, high_;
  AllTerms<kTerms, Act> made_;
};

// What Finish::finish does, for a block whose rows are dense: kOld where C has the sums of the chunks before, kAdds
// where a residual is added.
template <bool kOld, bool kAdds>
class SpreadResults {
 public:
  SpreadResults(const Finish& f, Block& block) : rows_(block), bounds_(f.p, kInf), block_(block) {
    const std::int64_t column = block.panel * kPairs;
    if (block.last && f.p.bias) {
      low_ = load(static_cast<const float*>(f.p.bias) + column);
      high_ = load(static_cast<const float*>(f.p.bias) + column + kPairs);
    }
    if (!block.last) bounds_ = {set1(-kInf), set1(kInf)};
    c_col_ = f.p.c_col;
    r_col_ = f.p.r_col;
    const Rows &first = block.rows[0], &second = block.rows[1];
    c_ = first.c + first.x * c_col_ + column;
    c_behind_ = second.c + second.x * c_col_ + column;
    if (!kAdds) return;
    r_ = first.residual + first.x * r_col_ + column;
    r_behind_ = second.residual + second.x * r_col_ + column;
  }

  [[gnu::always_inline]] void step() {
    if (rows_.left == 0) return;
    float* const sums = rows_.sums;
    Vec a = load(sums), b = load(sums + kTileWords);
    if constexpr (kOld) {
      a = load(c_) + a;
      b = load(c_ + kPairs) + b;
      store(sums, a);
      store(sums + kTileWords, b);
    }
    finite_.see(a);
    finite_.see(b);
    a = a + low_;
    b = b + high_;
    if constexpr (kAdds) {
      a = a + load(r_);
      b = b + load(r_ + kPairs);
      r_ += r_col_;
    }
    store(c_, bounds_.apply(a));
    store(c_ + kPairs, bounds_.apply(b));
    __builtin_prefetch(c_ + kFetched * c_col_, 1, 3);
    __builtin_prefetch(c_ + kFetched * c_col_ + kPairs, 1, 3);
    c_ += c_col_;
    if (!rows_.next()) return;
    c_ = c_behind_;
    if constexpr (kAdds) r_ = r_behind_;
  }
  bool done() const { return rows_.left == 0; }

  // Sums of some chunks that are not finite come to those of all. Else the block has those of all now.
  bool finite() const {
    if (!block_.last || finite_.all()) return true;
    block_.first = true;
    return false;
  }

 private:
  RowsLeft rows_;
  Vec low_ = zero(), high_ = zero();
  Bounds bounds_;
  Finite finite_;
  Block& block_;
  std::int64_t c_col_, r_col_;
  float *c_, *c_behind_;
  const float *r_ = nullptr, *r_behind_ = nullptr;
};

// Whether a tile's rows of results, and of what is added to them, are as far from each other as pixels are.
inline bool is_dense(const Finish& f, const Rows& rows) {
  const BrgemmSplitParams& p = f.p;
  if (rows.x + rows.count <= p.width) return true;
  if (p.width != p.span || rows.x >= p.span) return false;
  if (p.makes) return p.made_row == p.span * p.terms * kPairs;
  return p.c_row == p.span * p.c_col && (!rows.residual || p.r_row == p.span * p.r_col);
}

// Whether SpreadJoin or SpreadResults can finish all of a block: two tiles of pixels and two panels. Not so of results
// that go past the caches, of which each panel is finished with the one before it.
inline bool spreads(const Finish& f, const Block& block) {
  if (f.past.on || block.done > 0 || block.count < 4) return false;
  if (!is_dense(f, block.rows[0]) || !is_dense(f, block.rows[1])) return false;
  if (f.p.makes) return f.joins<3>(block) && !block.rows[0].residual;
  return f.p.n >= (block.panel + 2) * kPairs && !runs_on_rows(f.p.activation) && f.p.r_block == 0;
}

// Weights to fetch, and rows to finish beside.
template <class Rest>
struct Spread {
  static constexpr bool kBeside = false;

  Ahead& ahead;
  Rest& rest;

  [[gnu::always_inline]] void fetch(int part, int parts) {
    ahead.fetch(part, parts);
    if (part % 2 == 0) rest.step();
  }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
