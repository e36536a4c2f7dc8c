// SPDX-License-Identifier: Apache-2.0
// attention_bf16: scores, softmax and their product with the values (attention_tile.hpp), with products on matrix tiles
// of operands rounded to bfloat16. Infinities and NaN have one term, so they need no care.
#include "attention_tile.hpp"
#include "brgemm_split_step.hpp"
#include "near_pair.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kMostHead = 256;

FP_INLINE std::int64_t blocks_of(std::int64_t n) { return (n + kBlock - 1) / kBlock; }

class Tile : public QueryTile<Tile> {
 public:
  Tile(const KernelArgs& args, const AttentionParams& p, std::int64_t unit, Tiles& tiles)
      : QueryTile(args, p, unit), tiles_(tiles) {
    split_rows(q_, p.q_row, p.head, queries_);
  }

  void scores(std::int64_t key, std::int64_t n) {
    const std::int64_t blocks = blocks_of(p_.head), panels = (n + kPairs - 1) / kPairs;
    const std::uint32_t* b = words(k_) + key / kPairs * blocks * kTileWords;
    each_block(panels, [&]<int kM, int kN>(std::int64_t row, std::int64_t panel) {
      const std::uint32_t* b0 = b + panel * blocks * kTileWords;
      multiply<kM, kN>(queries_ + row * kPairs, b0, blocks * kTileWords, blocks);
      float* out = scores_ + row * stride_ + panel * kPairs;
      tiles_.store<0>(out, stride_);
      if constexpr (kN > 1) tiles_.store<1>(out + kPairs, stride_);
      if constexpr (kM > 1) tiles_.store<kN>(out + p_.tile_m * stride_, stride_);
      if constexpr (kM > 1 && kN > 1) tiles_.store<3>(out + p_.tile_m * stride_ + kPairs, stride_);
    });
  }

  void values(std::int64_t key, std::int64_t n, bool started) {
    round_weights(n);
    const std::int64_t all = blocks_of(p_.keys), blocks = blocks_of(n), panels = (p_.value + kPairs - 1) / kPairs;
    const std::uint32_t* b = words(v_) + key / kBlock * kTileWords;
    each_block(panels, [&]<int kM, int kN>(std::int64_t row, std::int64_t panel) {
      multiply<kM, kN>(weights_ + row * kPairs, b + panel * all * kTileWords, all * kTileWords, blocks);
      store_sums<kM * kN>(tiles_, sums_);
      for (int i = 0; i < kM * kN; ++i) {
        add(sums_ + i * kTileWords, row + i / kN * p_.tile_m, (panel + i % kN) * kPairs, started);
      }
    });
  }

 private:
  static const std::uint32_t* words(const float* packed) { return reinterpret_cast<const std::uint32_t*>(packed); }

  // Calls act<tiles of rows, panels>(row, panel) for all rows and panels.
  template <class Act>
  void each_block(std::int64_t panels, Act act) const {
    for (std::int64_t panel = 0; panel < panels; panel += 2) {
      const bool two = panel + 1 < panels;
      for (std::int64_t row = 0; row < rows_; row += 2 * p_.tile_m) {
        if (row + p_.tile_m < rows_) {
          two ? act.template operator()<2, 2>(row, panel) : act.template operator()<2, 1>(row, panel);
        } else {
          two ? act.template operator()<1, 2>(row, panel) : act.template operator()<1, 1>(row, panel);
        }
      }
    }
  }

  // Sums of kM tiles of rows times kN panels, which are `panel` words apart.
  template <int kM, int kN>
  void multiply(const std::uint32_t* a, const std::uint32_t* b, std::int64_t panel, std::int64_t blocks) {
    clear_sums<kM * kN>(tiles_);
    for (std::int64_t i = 0; i < blocks; ++i, a += kMostRows * kPairs, b += kTileWords) {
      multiply_once<kM, kN>(tiles_, a, a + p_.tile_m * kPairs, kPairs, b, b + panel);
    }
  }

  // Rows of n numbers as operands: [blocks of 32][kMostRows][16 words].
  void split_rows(const float* in, std::int64_t row, std::int64_t n, std::uint32_t* out) const {
    for (std::int64_t at = 0; at < n; at += kBlock, out += kMostRows * kPairs) {
      float* to = reinterpret_cast<float*>(out);
      for (std::int64_t i = 0; i < rows_; ++i, to += kPairs) store_block<1>(in + i * row + at, n - at, to, kPairs);
    }
  }

  // As split_rows, of weights: they are at most 1, or NaN in rows whose sum is NaN too, and so their result.
  void round_weights(std::int64_t n) {
    std::uint32_t* out = weights_;
    for (std::int64_t at = 0; at < n; at += kBlock, out += kMostRows * kPairs) {
      tiles_.keep_storing();
      float* to = reinterpret_cast<float*>(out);
      const float* in = scores_ + at;
      for (std::int64_t i = 0; i < rows_; ++i, to += kPairs, in += stride_) {
        if (n - at < kBlock) {
          store_block<1>(in, n - at, to, kPairs);
          continue;
        }
        for (int j = 0; j < kPairs; j += kLanes)
          store(to + j, from_bits(near_pair(load(in + j), load(in + j + kPairs))));
      }
    }
  }

  // A tile of sums to `out_`, from a row and a column on.
  void add(const float* sums, std::int64_t row, std::int64_t column, bool started) const {
    const std::int64_t rows = min_of(p_.tile_m, rows_ - row);
    for (std::int64_t i = 0; i < rows; ++i) {
      float* out = out_ + (row + i) * p_.out_row + column;
      for (int j = 0; j < kPairs; j += kLanes) {
        const std::int64_t left = p_.value - column - j;
        if (left <= 0) break;
        Vec y = load(sums + i * kPairs + j);
        if (started) y = load_valid(out + j, left) + y;
        if (left >= kLanes) {
          store(out + j, y);
        } else {
          store(out + j, y, static_cast<int>(left));
        }
      }
    }
  }

  Tiles& tiles_;
  alignas(64) float sums_[4 * kTileWords];
  alignas(64) std::uint32_t queries_[kMostHead / kBlock * kMostRows * kPairs];
  alignas(64) std::uint32_t weights_[kKeys / kBlock * kMostRows * kPairs];
};

}  // namespace

void attention_bf16(const KernelArgs& args, Range range) noexcept {
  const AttentionParams& p = params_of<AttentionParams>(args);
  Tiles tiles(static_cast<int>(p.tile_m));
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) Tile(args, p, unit, tiles).run();
}

}  // namespace forwardpass::FORWARDPASS_ISA
