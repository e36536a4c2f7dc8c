// SPDX-License-Identifier: Apache-2.0
// attention_f32: scores, softmax and their product with the values (attention_tile.hpp), with products of float32.
#include "attention_in_place.hpp"
#include "attention_tile.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kMostChunks = 16;  // of the elements of a head

class Tile : public QueryTile<Tile> {
 public:
  using QueryTile::QueryTile;

  void scores(std::int64_t key, std::int64_t n) {
    if (p_.k_row) {
      for (std::int64_t i = 0; i < rows_; ++i) {
        keys_in_place(q_ + i * p_.q_row, k_ + key * p_.k_row, p_.k_row, p_.head, n, scores_ + i * stride_);
      }
      return;
    }
    std::int64_t entries[3 * kMostChunks], chunks[kMostChunks + 1] = {0};
    BrgemmParams g = product(n, p_.head);
    g.n_chunks = max_of(1, (p_.head + kKeys - 1) / kKeys);
    for (std::int64_t c = 0; c < g.n_chunks; ++c) {
      std::int64_t* entry = entries + 3 * c;
      entry[0] = entry[2] = c * kKeys;
      entry[1] = min_of(kKeys, p_.head - c * kKeys);
      chunks[c + 1] = c + 1;
    }
    g.chunks = chunks;
    g.entries = entries;
    g.a_col = p_.q_row;
    g.c_col = stride_;
    multiply(g, q_, nullptr, k_ + key * p_.head, scores_);
  }

  // Out += weights x values of a block.
  void values(std::int64_t key, std::int64_t n, bool started) const {
    if (p_.v_row) {
      for (std::int64_t i = 0; i < rows_; ++i) {
        values_in_place(scores_ + i * stride_, v_ + key * p_.v_row, p_.v_row, n, p_.value, started,
                        out_ + i * p_.out_row);
      }
      return;
    }
    const std::int64_t entries[3] = {0, n, key}, chunks[2] = {0, 1};
    BrgemmParams g = product(p_.value, p_.keys);
    g.n_chunks = 1;
    g.chunks = chunks;
    g.entries = entries;
    g.a_col = stride_;
    g.c_col = g.r_col = p_.out_row;
    multiply(g, scores_, started ? out_ : nullptr, v_, out_);
  }

 private:
  BrgemmParams product(std::int64_t n, std::int64_t k) const {
    BrgemmParams g{};
    g.batch = g.oh = g.groups = 1;
    g.ow = rows_;
    g.n = n;
    g.k = k;
    g.activation = kNone;
    g.tile_m = p_.tile_m;
    return g;
  }

  void multiply(const BrgemmParams& g, const float* a, const float* residual, const float* b, float* c) const {
    const KernelArgs args = {{a, residual, b, nullptr}, c, &g, nullptr, 0};
    brgemm_f32(args, {0, (rows_ + g.tile_m - 1) / g.tile_m});
  }
};

}  // namespace

void attention_f32(const KernelArgs& args, Range range) noexcept {
  const AttentionParams& p = params_of<AttentionParams>(args);
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) Tile(args, p, unit).run();
}

}  // namespace forwardpass::FORWARDPASS_ISA
