// SPDX-License-Identifier: Apache-2.0
// What becomes of the sums of brgemm_split: chunks added up, epilogues, and the operand of the next product.
#pragma once
#include "brgemm_split_alone.hpp"
#include "brgemm_split_join.hpp"
#include "brgemm_split_step.hpp"
#include "near_gelu.hpp"
#include "simd.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// What BrgemmSplitParams' `makes` says.
constexpr std::int64_t kInstead = 1;
constexpr std::int64_t kBeside = 2;

struct Finish : Alone {
  WordBounds bounds;
  bool in_words;  // whether they do what the layer asks for

  Finish(const BrgemmSplitParams& params, const void* residual, const Stream& stream, const float* zeros)
      : Alone(params, residual, stream, zeros), bounds(params), in_words(bounded_in_words(params)) {}

  static bool bounded_in_words(const BrgemmSplitParams& p) {
    if (p.terms != 1 || p.makes != kInstead || runs_on_rows(p.activation) || !WordBounds::fit(p)) return false;
    Finite added;
    const float* const bias = static_cast<const float*>(p.bias);
    for (std::int64_t i = 0; bias && i < p.n; i += kLanes) added.see(load_valid(bias + i, p.n - i));
    return added.all();
  }

  template <int kTerms>
  void finish_all(Block& block) const {
    while (block.done < block.count) finish_next<kTerms>(block);
  }

  template <int kTerms>
  void finish_next(Block& block) const {
    if (block.done >= block.count) return;
    const int first = block.done;
    const Rows& rows = block.rows_of(first);
    const std::int64_t panel = block.panel_of(first);
    if (kHasTiles && alone && p.n >= (panel + block.panels) * kPairs) {
      block.done += block.panels;
      for (int n = 0; n < block.panels; ++n) finish_alone(rows, block.sums[first + n], panel + n);
      return;
    }
    if (!p.makes || !block.last) {
      ++block.done;
      return finish(rows, block.sums[first], panel, block.first, block.last);
    }
    block.done += block.panels;
    const float* const high = block.panels > 1 ? block.sums[first + 1] : nothing;
    if (joins<kTerms>(block) && join<kTerms>(rows, block.sums[first], high, panel)) return;
    for (int n = 0; n < block.panels; ++n) {
      finish_sums(rows, block.sums[first + n], panel + n, block.first);
      if (p.makes != kBeside) continue;
      each_row(rows, panel + n,
               [=, this, sums = block.sums[first + n]](const Pixels& to, int cols) { copy_results(sums, to, cols); });
    }
    make<kTerms>(rows, block.sums[first], block.panels > 1 ? block.sums[first + 1] : nullptr, panel);
  }

  // Whether two panels, or the last one, become one block of the next product's operand, and nothing else, in one pass.
  // Columns that are missing must stay zeros, and have no float32 residuals.
  template <int kTerms>
  bool joins(const Block& block) const {
    if (p.makes != kInstead) return false;
    const bool residual = block.rows[0].residual != nullptr, whole = p.n >= (block.panel + 2) * kPairs;
    if (p.activation == k_gelu) return whole && !residual;
    if constexpr (kTerms > 1) return whole && !runs_on_rows(p.activation);
    const bool zeros = p.activation != k_clip || p.alpha <= 0.0f;
    return in_words && (whole || (zeros && (p.r_block || !residual)));
  }

  // The sums of one tile, which are dense, into C, where those of the chunks before are.
  void finish(const Rows& rows, float* sums, std::int64_t panel, bool first, bool last) const {
    if (!last) {
      return each_row(rows, panel, [=, this](const Pixels& to, int cols) { add_chunk(sums, to, first, cols); });
    }
    if (runs_on_rows(p.activation)) {
      finish_sums(rows, sums, panel, first);
      return each_row(rows, panel, [=, this](const Pixels& to, int cols) { copy_results(sums, to, cols); });
    }
    complete(rows, sums, panel, first);
    each_row(rows, panel,
             [=, this](const Pixels& to, int cols) { finish_pixels(sums, to, panel * kPairs, cols, to.c, p.c_col); });
  }

  // The sums of all chunks, and what brgemm_f32 makes of those that are not finite.
  void complete(const Rows& rows, float* sums, std::int64_t panel, bool first) const {
    if (!first) each_row(rows, panel, [=, this](const Pixels& to, int cols) { take_chunks(sums, to, cols); });
    Vec sticky[4] = {zero(), zero(), zero(), zero()};
    const int all = kPairs * rows.count;
    int i = 0;
    for (; i + 4 * kLanes <= all; i += 4 * kLanes) {
      for (int j = 0; j < 4; ++j) sticky[j] = fma(load(sums + i + j * kLanes), zero(), sticky[j]);
    }
    for (; i < all; i += kLanes) sticky[0] = fma(load(sums + i), zero(), sticky[0]);
    if (any(is_nan((sticky[0] + sticky[1]) + (sticky[2] + sticky[3])))) [[unlikely]]
      repair(rows, sums, panel);
  }

  // As finish, with the results in place of the sums.
  void finish_sums(const Rows& rows, float* sums, std::int64_t panel, bool first) const {
    complete(rows, sums, panel, first);
    each_row(rows, panel, [=, this](const Pixels& to, int cols) {
      finish_pixels(sums, to, panel * kPairs, cols, sums + to.first * kPairs, kPairs);
    });
    if (runs_on_rows(p.activation)) activate(sums, kPairs * rows.count);
  }

  void activate(float* x, int n) const {
    if (p.terms == 1 && p.activation == k_gelu) {
      for (int i = 0; i < n; i += kLanes) store(x + i, rough_gelu(load(x + i)));
    } else if (p.activation == k_gelu) {
      for (int i = 0; i < n; i += kLanes) {
        const Vec y = near_gelu(load(x + i));
        store(x + i, select(load(x + i) == set1(-kInf), set1(__builtin_nanf("")), y));
      }
    } else if (p.terms == 1 && p.activation == k_gelu_tanh) {
      for (int i = 0; i < n; i += kLanes) store(x + i, rough_gelu_tanh(load(x + i)));
    } else {
      kActivationRows[p.activation](x, x, n, p.alpha, p.beta);
    }
  }

  void copy_results(const float* results, const Pixels& to, int cols) const {
    results += to.first * kPairs;
    for (int i = 0; i < to.count; ++i) {
      for (int j = 0; j < cols; j += kLanes)
        store_valid(to.c + i * p.c_col + j, load(results + i * kPairs + j), cols - j);
    }
  }

  FP_INLINE void store_valid(float* out, Vec y, int valid) {
    if (valid >= kLanes) return store(out, y);
    store(out, y, valid);
  }

  // The results of two panels as a block of the next product's operand. Behind the last column are zeros.
  template <int kTerms>
  void make(const Rows& rows, const float* low, const float* high, std::int64_t panel) const {
    const std::int64_t pixel = kTerms * kPairs;
    const std::int64_t valid = p.n - panel * kPairs;
    const std::int64_t block = panel / 2 * p.made_block;
    each_row(rows, panel, [=](const Pixels& to, int) {
      float* out = reinterpret_cast<float*>(to.made + block);
      for (int i = to.first; i < to.first + to.count; ++i, out += pixel) {
        for (int j = 0; j < kPairs; j += kLanes) {
          const Vec rest = high ? load_valid(high + i * kPairs + j, valid - kPairs - j) : zero();
          store_terms<kTerms>(load_valid(low + i * kPairs + j, valid - j), rest, out + j, kPairs);
        }
      }
    });
  }

  // Where `joins`: what finish_sums and make do, one pixel after another. Returns whether all results are finite: else
  // they do it.
  template <int kTerms>
  bool join(const Rows& rows, const float* low, const float* high, std::int64_t panel) const {
    if (p.activation == k_gelu) return join_gelu<kTerms>(rows, low, high, panel);
    const auto add = [&](auto made) {
      if (rows.residual == nullptr) return join_rows<kTerms, kNothing>(rows, low, high, panel, made);
      if constexpr (kTerms == 1) {
        if (p.r_block) return join_rows<kTerms, kWords>(rows, low, high, panel, made);
      }
      return join_rows<kTerms, kNumbers>(rows, low, high, panel, made);
    };
    if constexpr (kTerms == 1) {
      return add(OneTerm{bounds});
    } else {
      const auto act = [most = Bounds(p, kInf)](Vec x) __attribute__((always_inline)) { return most.apply(x); };
      return add(AllTerms<kTerms, decltype(act)>{act});
    }
  }

  template <int kTerms>
  [[gnu::noinline]] bool join_gelu(const Rows& rows, const float* low, const float* high, std::int64_t panel) const {
    const Bounds most(p);
    const auto act = [most](Vec x) __attribute__((always_inline)) {
      return kTerms == 1 ? min(most.high, rough_gelu(x)) : near_gelu(x);
    };
    return join_rows<kTerms, kNothing>(rows, low, high, panel, AllTerms<kTerms, decltype(act)>{act});
  }

  enum Added { kNothing, kNumbers, kWords };

  // Sums of two panels, and the block that is made of them.
  struct Pair {
    const float *low, *high, *residual;
    float* out;
  };

  template <int kTerms, Added kAdded, class Made>
  bool join_rows(const Rows& rows, const float* low, const float* high, std::int64_t panel, const Made& empty) const {
    constexpr std::int64_t kPixel = kTerms * kPairs;
    Made made = empty;
    Pair pair = {low, high, nullptr, reinterpret_cast<float*>(rows.made + panel / 2 * p.made_block) + rows.x * kPixel};
    if constexpr (kAdded != kNothing) pair.residual = rows.residual + residual_at(panel) + rows.x * p.r_col;
    std::int64_t x = rows.x;
    for (std::int64_t left = rows.count; left > 0;) {
      const std::int64_t count = min_of(left, p.width - x);
      if (count > 0) join_pixels<kTerms, kAdded>(*this, pair, panel * kPairs, count, made);
      const std::int64_t positions = p.span - x;
      left -= positions;
      pair.low += positions * kPairs;
      pair.high += positions * kPairs;
      pair.out += p.made_row - x * kPixel;
      if constexpr (kAdded != kNothing) pair.residual += p.r_row - x * p.r_col;
      x = 0;
    }
    return made.finite();
  }

  template <int kTerms, Added kAdded, class Made>
  FP_INLINE void join_pixels(const Finish& f, const Pair& t, std::int64_t column, std::int64_t count, Made& made) {
    const float* const bias = f.p.bias ? static_cast<const float*>(f.p.bias) + column : nullptr;
    const std::int64_t valid = f.p.n - column;
    for (int j = 0; j < kPairs; j += kLanes) {
      const Vec low_shift = bias ? load_valid(bias + j, valid - j) : zero();
      const Vec high_shift = bias ? load_valid(bias + kPairs + j, valid - kPairs - j) : zero();
      const float *low = t.low + j, *high = t.high + j, *r = t.residual + j;
      float* out = t.out + j;
      for (std::int64_t i = 0; i < count; ++i, low += kPairs, high += kPairs, out += kTerms * kPairs) {
        Vec a = load(low) + low_shift, b = load(high) + high_shift;
        if constexpr (kAdded == kNumbers) {
          const Vec low_added = load(r), high_added = load(r + kPairs);
          Made::see(made, low_added, high_added);
          a = a + low_added;
          b = b + high_added;
        } else if constexpr (kAdded == kWords) {
          const IVec words = bits(load(r));
          a = a + half(words, 0);
          b = b + half(words, kPairs);
        }
        if constexpr (kAdded != kNothing) r += f.p.r_col;
        Made::put(made, a, b, out);
      }
    }
  }

  // A chunk's sums onto those of the chunks before, in C.
  void add_chunk(const float* sums, const Pixels& to, bool first, int cols) const {
    for (int i = 0; i < to.count; ++i) {
      float* out = to.c + i * p.c_col;
      for (int j = 0; j < cols; j += kLanes) {
        const Vec sum = load(sums + (to.first + i) * kPairs + j);
        const Vec y = first ? sum : load_valid(out + j, cols - j) + sum;
        store_valid(out + j, y, cols - j);
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

  // Bias, residual, and Relu or Clip, into rows that are `step` apart.
  void finish_pixels(const float* sums, const Pixels& to, std::int64_t column, int cols, float* out,
                     std::int64_t step) const {
    if (cols < kPairs || (to.residual && p.r_block))
      return finish_columns<false, true>(sums, to, column, cols, out, step);
    if (to.residual) return finish_columns<true, true>(sums, to, column, cols, out, step);
    finish_columns<true, false>(sums, to, column, cols, out, step);
  }

  template <bool kFull, bool kAdds>
  void finish_columns(const float* sums, const Pixels& to, std::int64_t column, int cols, float* out,
                      std::int64_t step) const {
    const float* const bias = p.bias ? static_cast<const float*>(p.bias) + column : nullptr;
    const std::int64_t r_col = p.r_col;
    const Vec low = set1(p.activation == k_clip ? p.alpha : p.activation == k_relu ? 0.0f : -__builtin_inff());
    const Vec high = set1(p.activation == k_clip ? p.beta : __builtin_inff());
    for (int j = 0; j < (kFull ? kPairs : cols); j += kLanes) {
      const int valid = kFull ? kLanes : cols - j;
      const Vec shift = bias ? load_valid(bias + j, valid) : zero();
      const float *sum = sums + to.first * kPairs + j, *r = to.residual + j;
      float* y = out + j;
      for (int i = 0; i < to.count; ++i, sum += kPairs, y += step) {
        Vec result = load(sum) + shift;
        if (kAdds && (kFull || to.residual)) {
          result = result + (kFull || !p.r_block ? load_valid(r, valid) : half(bits(load(r)), column % kBlock));
          r += r_col;
        }
        result = min(high, max(low, result));
        if constexpr (kFull) {
          store(y, result);
        } else {
          store_valid(y, result, valid);
        }
      }
    }
  }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
