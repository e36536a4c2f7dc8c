// SPDX-License-Identifier: Apache-2.0
// attention_f32: scores, softmax and their product with the values (attention_tile.hpp), with products of float32.
#include "attention_in_place.hpp"
#include "attention_tile.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kMostChunks = 16;    // of the elements of a head
constexpr std::int64_t kMostRows = 64;      // of a tile, in whole vectors
constexpr std::int64_t kScores = 32 * 256;  // on the stack; ops/lower_attention.py knows it too

class Tile : Queries {
 public:
  Tile(const KernelArgs& args, const AttentionParams& params, std::int64_t unit)
      : Queries(args, params, unit), q_(q(args)), k_(k(args)), v_(v(args)), out_(out(args)) {
    for (std::int64_t i = 0; i < kMostRows; ++i) {
      top_[i] = first_top(1.0f);
      sum_[i] = first_sum();
    }
    if (p->past == 0) return;
    past_k_ = static_cast<const float*>(args.in[5]) + batch * p->past_k_batch + group * p->past_k_group;
    past_v_ = static_cast<const float*>(args.in[6]) + batch * p->past_v_batch + group * p->past_v_group;
    // Heads may share keys and values: the first one of them writes.
    writes_ = head % (p->heads / p->groups) == 0 && first == 0;
    const bool fits = suits(k_, p->k_row, p->head) && suits(v_, p->v_row, p->value);
    streams_ = p->streams != 0 && fits;
  }

  void run() {
    const Span some = all();
    bool started = false;
    for (std::int64_t key = some.begin; key < some.end; key += kKeys) {
      const std::int64_t n = min_of(kKeys, some.end - key);
      scores(key, n);
      weights(key, n, started);
      values(key, n, started);
      started = true;
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      float* row = out_ + i * p->out_row;
      if (!started || top_[i] == -kInf) {
        fill_row(row, p->value, of_nothing());
      } else {
        scale_row(row, p->value, 1.0f / sum_[i]);
      }
    }
  }

 private:
  struct Parts {
    Rows of[2];
  };

  // Of n keys from `key` on, into rows that are `stride` apart.
  void scores(std::int64_t key, std::int64_t n) {
    if (p->k_row) {
      for (std::int64_t i = 0; i < rows; ++i) {
        float* row = scores_ + i * stride;
        const Parts keys = parts(past_k_, p->past_k_row, k_, p->k_row, key, n, i);
        for (const Rows& part : keys.of) {
          keys_in_place(q_ + i * p->q_row, part, p->head, row);
          row += part.count;
        }
      }
      return;
    }
    std::int64_t entries[3 * kMostChunks], chunks[kMostChunks + 1] = {0};
    BrgemmParams g = product(n, p->head);
    g.n_chunks = max_of(1, (p->head + kKeys - 1) / kKeys);
    for (std::int64_t c = 0; c < g.n_chunks; ++c) {
      std::int64_t* entry = entries + 3 * c;
      entry[0] = entry[2] = c * kKeys;
      entry[1] = min_of(kKeys, p->head - c * kKeys);
      chunks[c + 1] = c + 1;
    }
    g.chunks = chunks;
    g.entries = entries;
    g.a_col = p->q_row;
    g.c_col = stride;
    multiply(g, q_, nullptr, k_ + key * p->head, scores_);
  }

  // The scores become weights, up to a factor of each row that the end of the run divides by.
  void weights(std::int64_t key, std::int64_t n, bool started) {
    for (std::int64_t i = 0; i < rows; ++i) tops(i, key, n);
    for (std::int64_t i = 0; i < rows; i += kLanes) {
      const Vec before = load(top_ + i), top = MaxFold::apply(before, fold_rows<MaxFold>(lanes_ + i * kVirtualLanes));
      // Of rows that have seen nothing, the difference would be NaN.
      store(correction_ + i, select(top == set1(-kInf), set1(1.0f), exp(before - top)));
      store(top_ + i, top);
    }
    for (std::int64_t i = 0; i < rows; ++i) powers(i, key, n, started);
    for (std::int64_t i = 0; i < rows; i += kLanes) {
      const Vec sum = fold_rows<SumFold>(lanes_ + i * kVirtualLanes);
      store(sum_ + i, load(sum_ + i) * load(correction_ + i) + sum);
    }
  }

  // The lanes of the largest score of a row. With a mask or a soft cap the scores are adjusted in place.
  void tops(std::int64_t i, std::int64_t key, std::int64_t n) {
    if (!plain) return adjust(scores_ + i * stride, i, key, n, 1.0f, lanes_ + i * kVirtualLanes);
    const Span in = seen(i, key, n);
    const float* row = scores_ + i * stride;
    const Vec scale = set1(p->scale);
    Lanes sets[kSets];
    for (Lanes& s : sets) s = lanes_of<MaxFold>();
    for_each_vector(in, [&](int set, std::int64_t at, int k) __attribute__((always_inline)) {
      Vec x = load(row + at + k * kLanes) * scale;
      if (!whole(in, at)) x = inside(in, at, k, x, set1(-kInf));
      sets[set].v[k] = MaxFold::apply(sets[set].v[k], x);
    });
    store_sets<MaxFold>(sets, lanes_ + i * kVirtualLanes);
  }

  // The powers of a row and the lanes of their sum.
  void powers(std::int64_t i, std::int64_t key, std::int64_t n, bool started) {
    const Span in = seen(i, key, n);
    float* row = scores_ + i * stride;
    Lanes sets[kSets];
    for (Lanes& s : sets) s = lanes_of<SumFold>();
    std::int64_t first = n, end = n;
    if (in.begin < in.end && top_[i] != -kInf) {
      const Vec shift = set1(top_[i]), scale = set1(plain ? p->scale : 1.0f);
      for_each_vector(in, [&](int set, std::int64_t at, int k) __attribute__((always_inline)) {
        float* x = row + at + k * kLanes;
        Vec e = exp(load(x) * scale - shift);
        if (!whole(in, at)) e = inside(in, at, k, e, zero());
        sets[set].v[k] = sets[set].v[k] + e;
        store(x, e);
      });
      first = in.begin & -kVirtualLanes;
      end = min_of(n, (in.end + kVirtualLanes - 1) & -kVirtualLanes);
    }
    fill_row(row, first, 0.0f);
    fill_row(row + end, n - end, 0.0f);
    store_sets<SumFold>(sets, lanes_ + i * kVirtualLanes);
    if (started && correction_[i] != 1.0f) scale_row(out_ + i * p->out_row, p->value, correction_[i]);
  }

  // Out += weights x values of a block.
  void values(std::int64_t key, std::int64_t n, bool started) const {
    if (p->v_row) {
      for (std::int64_t i = 0; i < rows; ++i) {
        const Parts values = parts(past_v_, p->past_v_row, v_, p->v_row, key, n, i);
        values_in_place(scores_ + i * stride, values.of, p->value, started, out_ + i * p->out_row);
      }
      return;
    }
    const std::int64_t entries[3] = {0, n, key}, chunks[2] = {0, 1};
    BrgemmParams g = product(p->value, p->keys);
    g.n_chunks = 1;
    g.chunks = chunks;
    g.entries = entries;
    g.a_col = stride;
    g.c_col = g.r_col = p->out_row;
    multiply(g, scores_, started ? out_ : nullptr, v_, out_);
  }

  static bool suits(const float* at, std::int64_t row, std::int64_t size) {
    return reinterpret_cast<std::uintptr_t>(at) % sizeof(Vec) == 0 && row % kLanes == 0 && size % kLanes == 0;
  }

  // n keys or values from `key` on: those that are still where they were, which the first query of a tile moves to
  // the others, and those. The others are the output of a step before this one.
  Parts parts(const float* past, std::int64_t past_row, const float* rows, std::int64_t row, std::int64_t key,
              std::int64_t n, std::int64_t query) const {
    const std::int64_t old = max_of(0, min_of(n, p->past - key));
    float* to = writes_ && query == 0 ? const_cast<float*>(rows) + key * row : nullptr;
    return {{{past + key * past_row, past_row, old, to, row, streams_},
             {rows + (key + old) * row, row, n - old, nullptr, 0, false}}};
  }

  BrgemmParams product(std::int64_t n, std::int64_t k) const {
    BrgemmParams g{};
    g.batch = g.oh = g.groups = 1;
    g.ow = rows;
    g.n = n;
    g.k = k;
    g.activation = kNone;
    g.tile_m = p->tile_m;
    return g;
  }

  void multiply(const BrgemmParams& g, const float* a, const float* residual, const float* b, float* c) const {
    const KernelArgs args = {{a, residual, b, nullptr}, c, &g, nullptr, 0};
    brgemm_f32(args, {0, (rows + g.tile_m - 1) / g.tile_m});
  }

  const float* q_;
  const float* k_;
  const float* v_;
  float* out_;
  const float* past_k_ = nullptr;
  const float* past_v_ = nullptr;
  bool writes_ = false;
  bool streams_ = false;
  float top_[kMostRows];
  float sum_[kMostRows];
  float correction_[kMostRows];
  float lanes_[kMostRows * kVirtualLanes] = {};
  alignas(64) float scores_[kScores];
};

}  // namespace

void attention_f32(const KernelArgs& args, Range range) noexcept {
  const AttentionParams& p = params_of<AttentionParams>(args);
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) Tile(args, p, unit).run();
  if (p.streams) fence();
}

}  // namespace forwardpass::FORWARDPASS_ISA
