// SPDX-License-Identifier: Apache-2.0
// attention_bf16: scores, softmax and their product with the values (attention_tile.hpp), with products on matrix tiles
// of operands rounded to bfloat16. Infinities and NaN have one term, so they need no care.
//
// Weights are powers of two, to 8e-5 before they are rounded; what a row is divided by is the sum of the rounded ones,
// a product on tiles too.
#include "attention_tile.hpp"
#include "brgemm_split_step.hpp"
#include "near_pair.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kRows = 16;                  // of a tile: all that it needs stays in L1
constexpr std::int64_t kMostBlocks = 256 / kBlock;  // of a head
constexpr std::int64_t kAwakeRows = 8;              // take 0.15 us

// Exponents that are taken from a row's scores in one rounding, which the largest of them shares, are smaller.
constexpr float kMostExponent = 0x1p20f;

constexpr std::uint32_t kOne = 0x3f803f80;
alignas(64) constexpr std::uint32_t kOnes[kPairs] = {kOne, kOne, kOne, kOne, kOne, kOne, kOne, kOne,
                                                     kOne, kOne, kOne, kOne, kOne, kOne, kOne, kOne};

FP_INLINE std::int64_t blocks_of(std::int64_t n) { return (n + kBlock - 1) / kBlock; }

FP_INLINE const std::uint32_t* words(const float* packed) { return reinterpret_cast<const std::uint32_t*>(packed); }

// In the upper halves of its bits 2^(t + 1/2), rounded: with the exponent half too small, the polynomial is in [1, 2],
// where half a unit in the last place is 2^-8, and part of it; the rest is cut off. Fit 7.5e-5. From t = -127 down it
// is zero.
FP_INLINE Vec rounded_power(Vec t) {
  t = max(set1(-127.0f), t);
  const Vec sum = t + set1(kRounder);
  const Vec f = t - (sum - set1(kRounder));
  return polynomial(f, 1.418018103e+0f, 9.804190993e-1f, 3.431039453e-1f, 7.802452147e-2f) * power_from_bits(sum);
}

// The largest of numbers that are no NaN.
struct LargestFold : Plain {
  static constexpr float kIdentity = -kInf;
  FP_INLINE Vec apply(Vec a, Vec b) { return max(a, b); }
};

// The lanes of the largest score of a row; of all columns, or of those in a span.
FP_INLINE void largest(const float* row, std::int64_t n, float* lanes) {
  Lanes sets[kSets];
  for (Lanes& s : sets) s = lanes_of<LargestFold>();
  std::int64_t at = 0;
  const auto see = [&](int set) __attribute__((always_inline)) {
    for (int k = 0; k < kLaneVecs; ++k)
      sets[set].v[k] = max(sets[set].v[k], load(row + at + set * kPairs + k * kLanes));
  };
  for (; at + kSets * kPairs <= n; at += kSets * kPairs) {
    for (int set = 0; set < kSets; ++set) see(set);
  }
  for (; at < n; at += kPairs) see(0);
  store_sets<LargestFold>(sets, lanes);
}

[[gnu::noinline]] void largest_of(const float* row, Span in, float* lanes) {
  Lanes sets[kSets];
  for (Lanes& s : sets) s = lanes_of<LargestFold>();
  for_each_vector(in, [&](int set, std::int64_t at, int k) __attribute__((always_inline)) {
    sets[set].v[k] = max(sets[set].v[k], inside(in, at, k, load(row + at + k * kLanes), set1(-kInf)));
  });
  store_sets<LargestFold>(sets, lanes);
}

FP_INLINE Vec weight_of(const float* score, Vec factor, Vec shift) {
  return rounded_power(fma(load(score), factor, shift));
}

// The weights of a row, rounded, in place of its n scores, a multiple of 32.
FP_INLINE void weigh(float* row, std::int64_t n, Vec factor, Vec shift) {
  float* out = row;
  for (std::int64_t at = 0; at < n; at += kBlock, out += kPairs) {
    for (int k = 0; k < kPairs; k += kLanes) {
      const float* low = row + at + k;
      store(out + k, pair_of(weight_of(low, factor, shift), weight_of(low + kPairs, factor, shift)));
    }
  }
}

// The same of n columns of which those of a span count.
[[gnu::noinline]] void weigh_some(float* row, Span in, std::int64_t n, Vec factor, Vec shift) {
  const auto weight = [=](std::int64_t at, int k) __attribute__((always_inline)) {
    return at < in.end ? inside(in, at, k, weight_of(row + at + k * kLanes, factor, shift), zero()) : zero();
  };
  float* out = row;
  for (std::int64_t at = 0; at < n; at += kBlock, out += kPairs) {
    for (int k = 0; k < kLaneVecs; ++k) store(out + k * kLanes, pair_of(weight(at, k), weight(at + kPairs, k)));
  }
}

// Tops of rows are exponents of two.
class Tile : Queries {
 public:
  Tile(const KernelArgs& args, const AttentionParams& params, std::int64_t unit, Tiles& tiles)
      : Queries(args, params, unit), tiles_(tiles), k_(words(k(args))), v_(words(v(args))), out_(out(args)) {
    plain = plain && p->scale >= 0.0f;
    for (std::int64_t i = 0; i < kRows; ++i) {
      top_[i] = first_top(kLog2e);
      sum_[i] = first_sum();
    }
    if (p->q_block) {
      q_ = words(q(args));
      q_block_ = p->q_block;
    } else {
      split(q(args));
      q_ = operand_;
      q_block_ = kTileWords;
    }
  }

  void run() {
    const Span some = all();
    const bool single = some.end <= some.begin + kKeys;
    for (std::int64_t key = some.begin; key < some.end; key += kKeys) {
      const std::int64_t n = min_of(kKeys, some.end - key);
      scores(key, n);
      weights(key, n);
      values(key, n, key == some.begin, single);
    }
    if (p->out_block) return fill_words(some.begin >= some.end);
    for (std::int64_t i = 0; i < rows; ++i) {
      float* row = out_ + i * p->out_row;
      if (some.begin >= some.end || top_[i] == -kInf) {
        fill_row(row, p->value, of_nothing());
      } else if (!single) {
        scale_row(row, p->value, 1.0f / sum_[i]);
      }
    }
  }

 private:
  void split(const float* in) {
    for (std::int64_t at = 0; at < p->head; at += kBlock) {
      float* to = reinterpret_cast<float*>(operand_ + at / kBlock * kTileWords);
      for (std::int64_t i = 0; i < rows; ++i, to += kPairs) {
        store_block<1>(in + i * p->q_row + at, p->head - at, to, kPairs);
      }
    }
  }

  void scores(std::int64_t key, std::int64_t n) {
    const std::int64_t blocks = blocks_of(p->head), panel = blocks * kTileWords;
    const std::uint32_t* b = k_ + key / kPairs * panel;
    for (std::int64_t at = 0; at < n; at += 2 * kPairs, b += 2 * panel) {
      const bool two = at + kPairs < n;
      clear_sums<2>(tiles_);
      for (std::int64_t i = 0; i < blocks; ++i) {
        if (blocks > 1 || at == 0) tiles_.load<4>(q_ + i * q_block_, kPairs);
        tiles_.load<6>(b + i * kTileWords, kPairs);
        tiles_.multiply<0, 4, 6>();
        if (!two) continue;
        tiles_.load<7>(b + panel + i * kTileWords, kPairs);
        tiles_.multiply<1, 4, 7>();
      }
      tiles_.store<0>(scores_ + at, stride);
      if (two) tiles_.store<1>(scores_ + at + kPairs, stride);
    }
  }

  // The scores become weights, up to a factor of each row that its result is divided by.
  void weights(std::int64_t key, std::int64_t n) {
    const float factor = plain ? p->scale * kLog2e : 1.0f;
    const bool all = n % kBlock == 0 && span(rows - 1).begin <= key && span(0).end >= key + n;
    for (std::int64_t i = 0; i < rows; ++i) {
      float *const row = scores_ + i * stride, *const own = lanes_ + i * kVirtualLanes;
      factor_[i] = factor;
      if (!plain) {
        adjust(row, i, key, n, kLog2e, own);
      } else if (all) {
        largest(row, n, own);
      } else {
        largest_of(row, seen(i, key, n), own);
      }
    }
    for (std::int64_t i = 0; i < rows; i += kLanes) {
      store(now_ + i, fold_rows<MaxFold>(lanes_ + i * kVirtualLanes) * set1(factor));
    }
    for (std::int64_t i = 0; plain && i < rows; ++i) {
      if (!(__builtin_fabsf(now_[i]) < kMostExponent)) [[unlikely]]
        adjust_alone(i, key, n);
    }
    for (std::int64_t i = 0; i < rows; i += kLanes) {
      const Vec before = load(top_ + i), top = MaxFold::apply(before, load(now_ + i));
      // Of rows that have seen nothing, the difference would be NaN.
      store(correction_ + i, select(top == set1(-kInf), set1(1.0f), exp((before - top) * set1(1.0f / kLog2e))));
      store(top_ + i, top);
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      if (i % kAwakeRows == 0) tiles_.keep_storing();
      const bool some = top_[i] != -kInf;
      const Vec of_row = set1(factor_[i]), shift = set1(-0.5f - top_[i]);
      float* const row = scores_ + i * stride;
      if (all && some) {
        weigh(row, n, of_row, shift);
      } else {
        weigh_some(row, some ? seen(i, key, n) : Span{0, 0}, n, of_row, shift);
      }
    }
  }

  [[gnu::noinline]] void adjust_alone(std::int64_t i, std::int64_t key, std::int64_t n) {
    float* const own = lanes_ + i * kVirtualLanes;
    adjust(scores_ + i * stride, i, key, n, kLog2e, own);
    Lanes lanes;
    for (int k = 0; k < kLaneVecs; ++k) lanes.v[k] = load(own + k * kLanes);
    now_[i] = combine_lanes<MaxFold>(lanes);
    factor_[i] = 1.0f;
  }

  void values(std::int64_t key, std::int64_t n, bool first, bool single) {
    const std::int64_t panel = blocks_of(p->keys) * kTileWords, blocks = blocks_of(n);
    const std::uint32_t* b = v_ + key / kBlock * kTileWords;
    for (std::int64_t at = 0; at < p->value; at += kBlock, b += 2 * panel) {
      const bool two = at + kPairs < p->value;
      clear_sums<3>(tiles_);
      for (std::int64_t i = 0; i < blocks; ++i) {
        tiles_.load<4>(words(scores_) + i * kPairs, stride);
        tiles_.load<6>(b + i * kTileWords, kPairs);
        tiles_.multiply<0, 4, 6>();
        if (two) {
          tiles_.load<7>(b + panel + i * kTileWords, kPairs);
          tiles_.multiply<1, 4, 7>();
        }
        if (at == 0) {
          tiles_.load<7>(kOnes, 0);
          tiles_.multiply<2, 4, 7>();
        }
      }
      store_sums<3>(tiles_, sums_);
      if (at == 0) add_up(single);
      if (p->out_block) {
        put_words(at);
      } else {
        put(sums_, at, first);
        if (two) put(sums_ + kTileWords, at + kPairs, first);
      }
    }
  }

  void add_up(bool single) {
    for (std::int64_t i = 0; i < rows; ++i) {
      sum_[i] = sum_[i] * correction_[i] + sums_[2 * kTileWords + i * kPairs];
      factor_[i] = single ? 1.0f / sum_[i] : 1.0f;
    }
  }

  // A tile of sums, times the factors of their rows, to `out_` from a column on.
  void put(const float* sums, std::int64_t column, bool first) const {
    float* out = out_ + column;
    if (first && column + kPairs <= p->value) {
      for (std::int64_t i = 0; i < rows; ++i, sums += kPairs, out += p->out_row) {
        for (int j = 0; j < kPairs; j += kLanes) store(out + j, load(sums + j) * set1(factor_[i]));
      }
      return;
    }
    for (std::int64_t i = 0; i < rows; ++i, sums += kPairs, out += p->out_row) {
      const Vec factor = set1(factor_[i]), correction = set1(correction_[i]);
      for (int j = 0; j < kPairs; j += kLanes) {
        const std::int64_t left = p->value - column - j;
        if (left <= 0) break;
        Vec y = load(sums + j) * factor;
        if (!first) y = fma(load_valid(out + j, left), correction, y);
        if (left >= kLanes) {
          store(out + j, y);
        } else {
          store(out + j, y, static_cast<int>(left));
        }
      }
    }
  }

  // Two tiles of sums as a block of the next product's operand, where all keys are one block.
  void put_words(std::int64_t column) const {
    float* const out = out_ + column / kBlock * p->out_block;
    Largest seen;
    for (std::int64_t i = 0; i < rows * kPairs; i += kLanes) {
      const Vec factor = set1(factor_[i / kPairs]);
      const IVec made = near_pair(load(sums_ + i) * factor, load(sums_ + kTileWords + i) * factor);
      seen.see(made);
      store(out + i, from_bits(made));
    }
    if (seen.finite()) return;
    for (std::int64_t i = 0; i < rows * kPairs; i += kLanes) {
      const Vec factor = set1(factor_[i / kPairs]);
      store_terms<1>(load(sums_ + i) * factor, load(sums_ + kTileWords + i) * factor, out + i, 0);
    }
  }

  // Rows that see nothing, as such an operand.
  void fill_words(bool all) const {
    const Vec nothing = pair_of(set1(of_nothing()), set1(of_nothing()));
    for (std::int64_t i = 0; i < rows; ++i) {
      if (!all && top_[i] != -kInf) continue;
      for (std::int64_t at = 0; at < blocks_of(p->value); ++at) {
        for (int j = 0; j < kPairs; j += kLanes) store(out_ + at * p->out_block + i * kPairs + j, nothing);
      }
    }
  }

  Tiles& tiles_;
  const std::uint32_t* q_;
  std::int64_t q_block_;
  const std::uint32_t* k_;
  const std::uint32_t* v_;
  float* out_;
  float top_[kRows];
  float sum_[kRows];
  float now_[kRows];     // tops of a block of keys
  float factor_[kRows];  // from scores to exponents, then of results
  float correction_[kRows];
  alignas(64) float lanes_[kRows * kVirtualLanes];
  alignas(64) float scores_[kRows * kKeys];  // then weights, as an operand with the same stride
  alignas(64) float sums_[3 * kTileWords];   // of two panels of values, and of the weights in every column
  alignas(64) std::uint32_t operand_[kMostBlocks * kTileWords];
};

}  // namespace

void attention_bf16(const KernelArgs& args, Range range) noexcept {
  const AttentionParams& p = params_of<AttentionParams>(args);
  Tiles tiles(static_cast<int>(p.tile_m));
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) Tile(args, p, unit, tiles).run();
}

}  // namespace forwardpass::FORWARDPASS_ISA
