// SPDX-License-Identifier: Apache-2.0
// The products of attention for few queries: keys and values are read where they lie, since packing them would take
// longer. The sums, and so the bits, are those of brgemm for one chunk.
#pragma once
#include "kernels.hpp"
#include "transpose.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Keys or values, `stride` apart. Where there is a `to`, they are written there as they are read; past the caches where
// it `streams`, whole vectors to addresses that suit.
struct Rows {
  static constexpr std::int64_t kRowsAhead = 32;
  const float* at;
  std::int64_t stride;
  std::int64_t count;
  float* to;
  std::int64_t to_stride;
  bool streams;

  // Brings what is read kRowsAhead rows later into L2, as the hardware's own fetching ends with each page. Behind loads
  // that wait for memory it would come too late, so the compiler may not put it there.
  template <int kCount>
  [[gnu::always_inline]] void fetch(const float* from, std::int64_t step) const {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) __builtin_prefetch(from + kRowsAhead * stride + i * step, 0, 2);
    asm volatile("" ::: "memory");
  }

  void put(std::int64_t row, std::int64_t column, Vec v, int n) const {
    float* place = to + row * to_stride + column;
    if (streams) {
      stream(place, v);
    } else {
      store(place, v, n);
    }
  }
};

// scores[i] of a row = row x K^T: squares of K are transposed in registers.
FP_INLINE void keys_in_place(const float* q, const Rows& k, std::int64_t head, float* scores) {
  for (std::int64_t key = 0; key < k.count; key += kLanes) {
    const int rows = static_cast<int>(min_of(kLanes, k.count - key));
    Vec sum = zero();
    for (std::int64_t at = 0; at < head; at += kLanes) {
      const int columns = static_cast<int>(min_of(kLanes, head - at));
      const float* from = k.at + key * k.stride + at;
      Vec v[kLanes];
      if (rows == kLanes && columns == kLanes) {
        if (k.streams) k.fetch<kLanes>(from, k.stride);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) v[i] = load(from + i * k.stride);
        if (k.to) {
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) k.put(key + i, at, v[i], kLanes);
        }
        transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) sum = fma(set1(q[at + i]), v[i], sum);
      } else {
        for (int i = 0; i < kLanes; ++i) v[i] = i < rows ? load(from + i * k.stride, columns) : zero();
        for (int i = 0; k.to && i < rows; ++i) k.put(key + i, at, v[i], columns);
        transpose(v);
        for (int i = 0; i < columns; ++i) sum = fma(set1(q[at + i]), v[i], sum);
      }
    }
    store(scores + key, sum, rows);
  }
}

// kVectors vectors of a row (+)= weights x V from `column` on. The last one has `last` lanes.
template <int kVectors>
FP_INLINE void some_values(const float* weights, const Rows (&v)[2], std::int64_t column, int last, bool started,
                           float* out) {
  Vec sums[kVectors];
#pragma GCC unroll 4
  for (int j = 0; j < kVectors; ++j) sums[j] = zero();
  for (const Rows& part : v) {
    const float* row = part.at + column;
    for (std::int64_t key = 0; key < part.count; ++key, row += part.stride) {
      if (part.streams) part.fetch<kVectors>(row, kLanes);
      const Vec w = set1(*weights++);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        const float* at = row + j * kLanes;
        const int lanes = j + 1 < kVectors ? kLanes : last;
        const Vec x = lanes == kLanes ? load(at) : load(at, lanes);
        if (part.to) part.put(key, column + j * kLanes, x, lanes);
        sums[j] = fma(w, x, sums[j]);
      }
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kVectors; ++j) {
    const int lanes = j + 1 < kVectors ? kLanes : last;
    if (started) sums[j] = sums[j] + load(out + j * kLanes, lanes);
    store(out + j * kLanes, sums[j], lanes);
  }
}

// A row of `size` elements (+)= weights x V, of which the second part follows the first.
FP_INLINE void values_in_place(const float* weights, const Rows (&v)[2], std::int64_t size, bool started, float* out) {
  constexpr int kAtATime = 4;
  for (std::int64_t at = 0; at < size; at += kAtATime * kLanes) {
    const std::int64_t left = size - at;
    const std::int64_t vectors = min_of(kAtATime, (left + kLanes - 1) / kLanes);
    const int last = static_cast<int>(min_of(kLanes, left - (vectors - 1) * kLanes));
    switch (vectors) {
      case 1:
        some_values<1>(weights, v, at, last, started, out + at);
        break;
      case 2:
        some_values<2>(weights, v, at, last, started, out + at);
        break;
      case 3:
        some_values<3>(weights, v, at, last, started, out + at);
        break;
      default:
        some_values<4>(weights, v, at, last, started, out + at);
    }
  }
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
