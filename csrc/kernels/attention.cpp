// SPDX-License-Identifier: Apache-2.0
// attention_f32: scores, softmax and their product with the values (attention_tile.hpp), with products of float32.
#include "attention_in_place.hpp"
#include "attention_tile.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kMostChunks = 16;  // of the elements of a head

class Tile : public QueryTile<Tile> {
 public:
  Tile(const KernelArgs& args, const AttentionParams& p, std::int64_t unit) : QueryTile(args, p, unit) {
    if (p.past == 0) return;
    past_k_ = static_cast<const float*>(args.in[5]) + batch_ * p.past_k_batch + group_ * p.past_k_group;
    past_v_ = static_cast<const float*>(args.in[6]) + batch_ * p.past_v_batch + group_ * p.past_v_group;
    // Heads may share keys and values: the first one of them writes.
    writes_ = head_ % (p.heads / p.groups) == 0 && first_ == 0;
    const bool fits = suits(k_, p.k_row, p.head) && suits(v_, p.v_row, p.value);
    streams_ = p.streams != 0 && fits;
  }

  void scores(std::int64_t key, std::int64_t n) {
    if (p_.k_row) {
      for (std::int64_t i = 0; i < rows_; ++i) {
        float* row = scores_ + i * stride_;
        const Parts keys = parts(past_k_, p_.past_k_row, k_, p_.k_row, key, n, i);
        for (const Rows& part : keys.of) {
          keys_in_place(q_ + i * p_.q_row, part, p_.head, row);
          row += part.count;
        }
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
        const Parts values = parts(past_v_, p_.past_v_row, v_, p_.v_row, key, n, i);
        values_in_place(scores_ + i * stride_, values.of, p_.value, started, out_ + i * p_.out_row);
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
  struct Parts {
    Rows of[2];
  };

  static bool suits(const float* at, std::int64_t row, std::int64_t size) {
    return reinterpret_cast<std::uintptr_t>(at) % sizeof(Vec) == 0 && row % kLanes == 0 && size % kLanes == 0;
  }

  // n keys or values from `key` on: those that are still where they were, which the first query of a tile moves to
  // the others, and those. The others are the output of a step before this one.
  Parts parts(const float* past, std::int64_t past_row, const float* rows, std::int64_t row, std::int64_t key,
              std::int64_t n, std::int64_t query) const {
    const std::int64_t old = max_of(0, min_of(n, p_.past - key));
    float* to = writes_ && query == 0 ? const_cast<float*>(rows) + key * row : nullptr;
    return {{{past + key * past_row, past_row, old, to, row, streams_},
             {rows + (key + old) * row, row, n - old, nullptr, 0, false}}};
  }

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

  const float* past_k_ = nullptr;
  const float* past_v_ = nullptr;
  bool writes_ = false;
  bool streams_ = false;
};

}  // namespace

void attention_f32(const KernelArgs& args, Range range) noexcept {
  const AttentionParams& p = params_of<AttentionParams>(args);
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) Tile(args, p, unit).run();
  if (p.streams) fence();
}

}  // namespace forwardpass::FORWARDPASS_ISA
