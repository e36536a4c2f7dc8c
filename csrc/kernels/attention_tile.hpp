// SPDX-License-Identifier: Apache-2.0
// Attention for a tile of queries: all but the two products. The keys are taken in blocks of 256: the scores of a tile
// and a block stay in L1, and what is known of a row (its maximum and the sum of its exponentials) is corrected from
// block to block. The blocks and the order within them depend on the place of a key alone, so hidden keys behind the
// last one that is seen change no bit.
#pragma once
#include "indices.hpp"
#include "lanes.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kKeys = 256;         // of a block; products of a sum of P V, as of all matrix products
constexpr std::int64_t kScores = 32 * 256;  // of a tile and a block, on the stack; ops/lower_attention.py knows it too
constexpr std::int64_t kMostRows = 64;      // of a tile, in whole vectors
constexpr int kSets = 4;                    // of lanes, so that folds wait less for each other

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

// The lanes of a vector of rows folded by the tree of combine_lanes.
template <class Fold>
FP_INLINE Vec fold_rows(const float* lanes) {
  Vec v[kVirtualLanes];
#pragma GCC unroll 16
  for (int j = 0; j < kVirtualLanes; ++j) v[j] = gather(lanes + j, kVirtualLanes);
#pragma GCC unroll 4
  for (int half = kVirtualLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int j = 0; j < half; ++j) v[j] = Fold::apply(v[j], v[j + half]);
  }
  return v[0];
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

// `Products` derives from it and has the two:
//   scores(key, n): of the n keys of the block from `key` on, into rows of scores_ that are stride_ apart.
//   values(key, n, started): out_ += scores_ x the values of these keys, from zero where nothing has `started`.
template <class Products>
class QueryTile {
 public:
  QueryTile(const KernelArgs& args, const AttentionParams& p, std::int64_t unit) : p_(p) {
    const std::int64_t tiles = (p.queries + p.rows - 1) / p.rows;
    const std::int64_t head = unit / tiles % p.heads, batch = unit / tiles / p.heads;
    const std::int64_t group = head / (p.heads / p.groups);
    head_ = head;
    group_ = group;
    batch_ = batch;
    first_ = unit % tiles * p.rows;
    rows_ = min_of(p.rows, p.queries - first_);
    stride_ = min_of(kKeys, (p.keys + kVirtualLanes - 1) & -kVirtualLanes);
    q_ = static_cast<const float*>(args.in[0]) + batch * p.q_batch + head * p.q_head + first_ * p.q_row;
    k_ = static_cast<const float*>(args.in[1]) + batch * p.k_batch + group * p.k_group;
    v_ = static_cast<const float*>(args.in[2]) + batch * p.v_batch + group * p.v_group;
    mask_ = static_cast<const float*>(args.in[3]);
    if (mask_) mask_ += batch * p.mask_batch + head * p.mask_head + first_ * p.mask_row;
    out_ = static_cast<float*>(args.out) + batch * p.out_batch + head * p.out_head + first_ * p.out_row;
    plain_ = !mask_ && p.softcap == 0.0f;
    keys_ = p.length_bytes ? length(args, batch) : p.keys;
    place_ = p.place + first_ + (p.from_end ? keys_ - p.queries : 0);
    const float* sinks = static_cast<const float*>(p.sinks);
    for (std::int64_t i = 0; i < kMostRows; ++i) {
      top_[i] = sinks ? sinks[head] : -kInf;
      sum_[i] = sinks ? 1.0f : 0.0f;
    }
  }

  void run() {
    const std::int64_t last = span(rows_ - 1).end;
    bool started = false;
    for (std::int64_t key = span(0).begin / kKeys * kKeys; key < last; key += kKeys) {
      const std::int64_t n = min_of(kKeys, last - key);
      products().scores(key, n);
      weights(key, n, started);
      products().values(key, n, started);
      started = true;
    }
    for (std::int64_t i = 0; i < rows_; ++i) {
      float* row = out_ + i * p_.out_row;
      if (!started || top_[i] == -kInf) {
        fill_row(row, p_.value, p_.empty_nan ? __builtin_nanf("") : 0.0f);
      } else {
        scale_row(row, p_.value, 1.0f / sum_[i]);
      }
    }
  }

 protected:
  Products& products() { return static_cast<Products&>(*this); }

  // How many keys a batch has.
  std::int64_t length(const KernelArgs& args, std::int64_t batch) const {
    const std::int64_t found = load_index(args.in[4], p_.length_bytes, batch) + p_.more;
    if (found < p_.least || found > p_.keys) args.report(found);
    return max_of(0, min_of(found, p_.keys));
  }

  // The keys that query i of the tile sees.
  Span span(std::int64_t i) const {
    const std::int64_t place = place_ + i;
    const std::int64_t begin = max_of(0, place - p_.left);
    return {min_of(begin, keys_), max_of(0, min_of(keys_, place + p_.right + 1))};
  }

  // The scores become weights, up to a factor of each row that the end of the run divides by.
  void weights(std::int64_t key, std::int64_t n, bool started) {
    for (std::int64_t i = 0; i < rows_; ++i) tops(i, key, n);
    for (std::int64_t i = 0; i < rows_; i += kLanes) {
      const Vec before = load(top_ + i), top = MaxFold::apply(before, fold_rows<MaxFold>(lanes_ + i * kVirtualLanes));
      // Of rows that have seen nothing, the difference would be NaN.
      store(correction_ + i, select(top == set1(-kInf), set1(1.0f), exp(before - top)));
      store(top_ + i, top);
    }
    for (std::int64_t i = 0; i < rows_; ++i) powers(i, key, n, started);
    for (std::int64_t i = 0; i < rows_; i += kLanes) {
      const Vec sum = fold_rows<SumFold>(lanes_ + i * kVirtualLanes);
      store(sum_ + i, load(sum_ + i) * load(correction_ + i) + sum);
    }
  }

  Span seen(std::int64_t i, std::int64_t key, std::int64_t n) const {
    const Span all = span(i);
    return {min_of(n, max_of(0, all.begin - key)), max_of(0, min_of(n, all.end - key))};
  }

  // The lanes of the largest score of a row. With a mask or a soft cap the scores are adjusted in place.
  void tops(std::int64_t i, std::int64_t key, std::int64_t n) {
    const Span in = seen(i, key, n);
    float* row = scores_ + i * stride_;
    const float* mask = mask_ ? mask_ + i * p_.mask_row + key : nullptr;
    const bool capped = p_.softcap != 0.0f;
    const Vec scale = set1(capped ? p_.scale / p_.softcap : p_.scale), cap = set1(p_.softcap), lowest = set1(-kInf);
    Lanes sets[kSets];
    for (Lanes& s : sets) s = lanes_of<MaxFold>();
    const auto fold = [&](int set, std::int64_t at, int k, Vec x) __attribute__((always_inline)) {
      if (!whole(in, at)) x = inside(in, at, k, x, lowest);
      sets[set].v[k] = MaxFold::apply(sets[set].v[k], x);
    };
    if (plain_) {
      for_each_vector(in, [&](int set, std::int64_t at, int k) __attribute__((always_inline)) {
        fold(set, at, k, load(row + at + k * kLanes) * scale);
      });
    } else {
      for_each_vector(in, [&](int set, std::int64_t at, int k) __attribute__((always_inline)) {
        float* p = row + at + k * kLanes;
        Vec x = load(p) * scale;
        if (capped) x = cap * tanh(x);
        const std::int64_t left = n - at - k * kLanes;  // what the mask has behind the last key is not ours
        if (mask && left > 0) {
          const float* m = mask + at + k * kLanes;
          x = x + (left >= kLanes ? load(m) : load(m, static_cast<int>(left)));
        }
        store(p, x);
        fold(set, at, k, x);
      });
    }
    store_sets<MaxFold>(sets, lanes_ + i * kVirtualLanes);
  }

  // The powers of a row and the lanes of their sum.
  void powers(std::int64_t i, std::int64_t key, std::int64_t n, bool started) {
    const Span in = seen(i, key, n);
    float* row = scores_ + i * stride_;
    Lanes sets[kSets];
    for (Lanes& s : sets) s = lanes_of<SumFold>();
    std::int64_t first = n, end = n;
    if (in.begin < in.end && top_[i] != -kInf) {
      const Vec shift = set1(top_[i]), scale = set1(plain_ ? p_.scale : 1.0f);
      for_each_vector(in, [&](int set, std::int64_t at, int k) __attribute__((always_inline)) {
        float* p = row + at + k * kLanes;
        Vec e = exp(load(p) * scale - shift);
        if (!whole(in, at)) e = inside(in, at, k, e, zero());
        sets[set].v[k] = sets[set].v[k] + e;
        store(p, e);
      });
      first = in.begin & -kVirtualLanes;
      end = min_of(n, (in.end + kVirtualLanes - 1) & -kVirtualLanes);
    }
    fill_row(row, first, 0.0f);
    fill_row(row + end, n - end, 0.0f);
    store_sets<SumFold>(sets, lanes_ + i * kVirtualLanes);
    if (started && correction_[i] != 1.0f) scale_row(out_ + i * p_.out_row, p_.value, correction_[i]);
  }

  const AttentionParams& p_;
  std::int64_t batch_;
  std::int64_t head_;
  std::int64_t group_;  // of keys and values
  std::int64_t first_;
  std::int64_t rows_;
  std::int64_t keys_;   // of this batch
  std::int64_t place_;  // of the first query among them
  const float* q_;
  const float* k_;
  const float* v_;
  const float* mask_;
  float* out_;
  bool plain_;  // neither mask nor soft cap
  float top_[kMostRows];
  float sum_[kMostRows];
  float correction_[kMostRows];
  float lanes_[kMostRows * kVirtualLanes] = {};
  std::int64_t stride_;  // of the rows of scores
  alignas(64) float scores_[kScores];
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
