// SPDX-License-Identifier: Apache-2.0
// Attention for a tile of queries: what it sees, and what is taken the exponential of. The keys are taken in blocks of
// 256: the scores of a tile and a block stay in L1, and what is known of a row (its maximum and the sum of its
// exponentials) is corrected from block to block. The blocks and the order within them depend on the place of a key
// alone, so hidden keys behind the last one that is seen change no bit.
#pragma once
#include "indices.hpp"
#include "row_lanes.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kKeys = 256;  // of a block; products of a sum of P V, as of all matrix products
constexpr int kSets = 4;             // of lanes, so that folds wait less for each other

// Columns [begin, end) of a block.
struct Span {
  std::int64_t begin;
  std::int64_t end;
};

// Which of 16 columns from `at` on are in the span: all, or each by its number.
FP_INLINE bool whole(Span span, std::int64_t at) { return span.begin <= at && at + kVirtualLanes <= span.end; }

FP_INLINE Vec inside(Span span, std::int64_t at, int k, Vec x, Vec outside) {
  alignas(64) static constexpr float kIota[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Vec column = load(kIota + k * kLanes);
  const Vec first = set1(static_cast<float>(span.begin - at)), end = set1(static_cast<float>(span.end - at));
  return select((column >= first) & (column < end), x, outside);
}

// f(set, at, k) for the vectors of 16 columns each that meet the span.
template <class F>
FP_INLINE void for_each_vector(Span span, F f) {
  std::int64_t at = span.begin & -kVirtualLanes;
  const auto some = [&](auto there) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int set = 0; set < kSets; ++set) {
      const std::int64_t first = at + set * kVirtualLanes;
      if (!there(first)) return;
      for (int k = 0; k < kLaneVecs; ++k) f(set, first, k);
    }
  };
  for (; at + kSets * kVirtualLanes <= span.end; at += kSets * kVirtualLanes) {
    some([](std::int64_t) { return true; });
  }
  some([&](std::int64_t first) { return first < span.end; });
}

// The four sets as one, at `out`.
template <class Fold>
FP_INLINE void store_sets(const Lanes (&sets)[kSets], float* out) {
  for (int k = 0; k < kLaneVecs; ++k) {
    store(out + k * kLanes,
          Fold::apply(Fold::apply(sets[0].v[k], sets[1].v[k]), Fold::apply(sets[2].v[k], sets[3].v[k])));
  }
}

FP_INLINE void scale_row(float* row, std::int64_t n, float factor) {
  const Vec f = set1(factor);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(row + i, load(row + i) * f);
  if (i < n) store(row + i, load(row + i, static_cast<int>(n - i)) * f, static_cast<int>(n - i));
}

FP_INLINE void fill_row(float* row, std::int64_t n, float value) {
  const Vec v = set1(value);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(row + i, v);
  if (i < n) store(row + i, v, static_cast<int>(n - i));
}

struct Queries {
  const AttentionParams* p;
  std::int64_t batch;
  std::int64_t head;
  std::int64_t group;  // of keys and values
  std::int64_t first;
  std::int64_t rows;
  std::int64_t keys;    // of this batch
  std::int64_t place;   // of the first query among them
  std::int64_t stride;  // of the rows of scores
  const float* mask;
  bool plain;  // neither mask nor soft cap

  Queries() = default;
  Queries(const KernelArgs& args, const AttentionParams& params, std::int64_t unit) : p(&params) {
    const std::int64_t tiles = (p->queries + p->rows - 1) / p->rows;
    head = unit / tiles % p->heads;
    batch = unit / tiles / p->heads;
    group = head / (p->heads / p->groups);
    first = unit % tiles * p->rows;
    rows = min_of(p->rows, p->queries - first);
    keys = p->length_bytes ? length(args) : p->keys;
    place = p->place + first + (p->from_end ? keys - p->queries : 0);
    stride = min_of(kKeys, (p->keys + kVirtualLanes - 1) & -kVirtualLanes);
    mask = static_cast<const float*>(args.in[3]);
    if (mask) mask += batch * p->mask_batch + head * p->mask_head + first * p->mask_row;
    plain = !mask && p->softcap == 0.0f;
  }

  const float* q(const KernelArgs& args) const {
    return static_cast<const float*>(args.in[0]) + batch * p->q_batch + head * p->q_head + first * p->q_row;
  }
  const float* k(const KernelArgs& args) const {
    return static_cast<const float*>(args.in[1]) + batch * p->k_batch + group * p->k_group;
  }
  const float* v(const KernelArgs& args) const {
    return static_cast<const float*>(args.in[2]) + batch * p->v_batch + group * p->v_group;
  }
  float* out(const KernelArgs& args) const {
    return static_cast<float*>(args.out) + batch * p->out_batch + head * p->out_head + first * p->out_row;
  }

  // How many keys a batch has.
  std::int64_t length(const KernelArgs& args) const {
    const std::int64_t found = load_index(args.in[4], p->length_bytes, batch) + p->more;
    if (found < p->least || found > p->keys) args.report(found);
    return max_of(0, min_of(found, p->keys));
  }

  // The keys that query i of the tile sees.
  Span span(std::int64_t i) const {
    const std::int64_t begin = max_of(0, place + i - p->left);
    return {min_of(begin, keys), max_of(0, min_of(keys, place + i + p->right + 1))};
  }

  // Those that some query sees, from a whole block on.
  Span all() const { return {span(0).begin / kKeys * kKeys, span(rows - 1).end}; }

  // Of n keys from `key` on.
  Span seen(std::int64_t i, std::int64_t key, std::int64_t n) const {
    const Span all = span(i);
    return {min_of(n, max_of(0, all.begin - key)), max_of(0, min_of(n, all.end - key))};
  }

  // The largest score of a row before any key is seen, in some `unit`, and what is summed of exponentials.
  float first_top(float unit) const { return p->sinks ? static_cast<const float*>(p->sinks)[head] * unit : -kInf; }
  float first_sum() const { return p->sinks ? 1.0f : 0.0f; }

  float of_nothing() const { return p->empty_nan ? __builtin_nanf("") : 0.0f; }

  // What the exponential is taken of, in some `unit`, in place of the scores of a row with n keys from `key` on; and
  // the lanes of the largest.
  void adjust(float* row, std::int64_t i, std::int64_t key, std::int64_t n, float unit, float* lanes) const {
    const Span in = seen(i, key, n);
    const float* added = mask ? mask + i * p->mask_row + key : nullptr;
    const bool capped = p->softcap != 0.0f;
    const Vec scale = set1(capped ? p->scale / p->softcap : p->scale), cap = set1(p->softcap), factor = set1(unit);
    Lanes sets[kSets];
    for (Lanes& s : sets) s = lanes_of<MaxFold>();
    for_each_vector(in, [&](int set, std::int64_t at, int k) __attribute__((always_inline)) {
      float* place = row + at + k * kLanes;
      Vec x = load(place) * scale;
      if (capped) x = cap * tanh(x);
      const std::int64_t left = n - at - k * kLanes;  // what the mask has behind the last key is not ours
      if (added && left > 0) {
        const float* m = added + at + k * kLanes;
        x = x + (left >= kLanes ? load(m) : load(m, static_cast<int>(left)));
      }
      x = x * factor;
      store(place, x);
      if (!whole(in, at)) x = inside(in, at, k, x, set1(-kInf));
      sets[set].v[k] = MaxFold::apply(sets[set].v[k], x);
    });
    store_sets<MaxFold>(sets, lanes);
  }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
