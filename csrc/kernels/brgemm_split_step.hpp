// SPDX-License-Identifier: Apache-2.0
// A step along K of brgemm_split: the products of terms of 32 numbers, for a block of tiles.
#pragma once
#include "terms.hpp"
#include "tiles.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

struct Step {
  std::int64_t offset;  // into A, in words
  std::int64_t valid;   // bit k: number k of the block is no filling
};

// Where A begins for two panels of groups.
struct Start {
  std::int64_t offset;   // in words
  std::int64_t channel;  // number 0 of the block there
};

// Weights that multiply next, on their way into L2. There need be no memory there.
struct Ahead {
  static constexpr bool kBeside = false;
  static constexpr std::int64_t kStreams = 4;

  const std::uint32_t* at;
  std::int64_t other;                   // from there to the second panel's, 0 for none
  std::int64_t lines;                   // of each per step
  std::int64_t apart;                   // words from one stream to the next
  const std::uint32_t* half = nullptr;  // where the other stream of one term goes on
  std::int64_t count = 0;

  // A part's share of a step's lines, evenly: many at once would fill the buffers that tiles load through. A panel's
  // are kStreams streams, two lines of one and then of the next: lines that follow each other at once come from memory
  // more slowly.
  [[gnu::always_inline]] void fetch(int part, int parts) {
    if constexpr (!kHasTiles) return;
    for (std::int64_t i = part; i < lines; i += parts) {
      __builtin_prefetch(at, 0, 2);
      __builtin_prefetch(at + other, 0, 2);
      at += kPairs;
      if (++count % 2) continue;
      at += apart - 2 * kPairs;
      if (count % (2 * kStreams) == 0) at -= kStreams * apart - 2 * kPairs;
    }
  }

  // A step's lines all at once, one of each half of a panel's and then of the other.
  [[gnu::always_inline]] void fetch_step() {
    if constexpr (!kHasTiles) return;
    for (std::int64_t i = 0; i < lines; ++i) {
      __builtin_prefetch(at, 0, 2);
      __builtin_prefetch(at + other, 0, 2);
      const std::uint32_t* const done = at + kPairs;
      at = half;
      half = done;
    }
  }
};

struct Product {
  int left, right;
};

// So that each has a term in common with the one before, and the largest comes last.
template <int kTerms>
constexpr Product kProducts[1] = {{0, 0}};
template <>
constexpr Product kProducts<2>[3] = {{0, 1}, {1, 0}, {0, 0}};
template <>
constexpr Product kProducts<3>[6] = {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}};

template <int kTerms>
constexpr int kCount = kTerms * (kTerms + 1) / 2;

// The only product of a step with one term. Weights stay in L1 while pixels pass by from L2: fetched ahead of their
// turn pixels would drive weights out.
template <int kM, int kN>
FP_INLINE void multiply_once(Tiles& tiles, const std::uint32_t* a0, const std::uint32_t* a1, std::int64_t a_col,
                             const std::uint32_t* b0, const std::uint32_t* b1) {
  tiles.load_past_l1<4>(a0, a_col);
  if constexpr (kM > 1) tiles.load_past_l1<5>(a1, a_col);
  tiles.load<6>(b0, kPairs);
  if constexpr (kN > 1) tiles.load<7>(b1, kPairs);
  tiles.multiply<0, 4, 6>();
  if constexpr (kN > 1) tiles.multiply<1, 4, 7>();
  if constexpr (kM > 1) tiles.multiply<kN, 5, 6>();
  if constexpr (kM > 1 && kN > 1) tiles.multiply<3, 5, 7>();
}

// Steps of one term. Not inlined, so that the loop keeps all it needs in registers: stores between the loads of tiles
// hold those up.
template <int kM, int kN>
[[gnu::noinline]] void multiply_steps(Tiles& tiles, const std::uint32_t* a0, const std::uint32_t* a1,
                                      std::int64_t a_col, const std::uint32_t* b0, const std::uint32_t* b1,
                                      const Step* s, std::int64_t count, Ahead& next) {
  Ahead ahead = next;
  for (std::int64_t i = 0; i < count; ++i, b0 += kTileWords, b1 += kTileWords) {
    multiply_once<kM, kN>(tiles, a0 + s[i].offset, a1 + s[i].offset, a_col, b0, b1);
    ahead.fetch_step();
  }
  next.at = ahead.at;
  next.half = ahead.half;
}

// The products of a step from kAt on, for kM tiles of pixels times kN panels. Tiles that the product before has loaded
// are used again. Beside them `next` fetches its share, or splits weights in L1 too, which pixels shall not drive out.
template <int kTerms, int kM, int kN, int kAt = 0, class Next>
FP_INLINE void multiply_step(Tiles& tiles, const std::uint32_t* a0, const std::uint32_t* a1, std::int64_t a_col,
                             const std::uint32_t* b0, const std::uint32_t* b1, Next& next) {
  if constexpr (kAt < kCount<kTerms>) {
    next.fetch(kAt, kCount<kTerms>);
    constexpr Product now = kProducts<kTerms>[kAt];
    constexpr Product before = kAt == 0 ? Product{-1, -1} : kProducts<kTerms>[kAt == 0 ? 0 : kAt - 1];
    if constexpr (now.right != before.right) {
      tiles.load<6>(b0 + now.right * kTileWords, kPairs);
      if constexpr (kN > 1) tiles.load<7>(b1 + now.right * kTileWords, kPairs);
    }
    if constexpr (now.left != before.left && Next::kBeside) {
      tiles.load_past_l1<4>(a0 + now.left * kPairs, a_col);
      if constexpr (kM > 1) tiles.load_past_l1<5>(a1 + now.left * kPairs, a_col);
    } else if constexpr (now.left != before.left) {
      tiles.load<4>(a0 + now.left * kPairs, a_col);
      if constexpr (kM > 1) tiles.load<5>(a1 + now.left * kPairs, a_col);
    }
    tiles.multiply<0, 4, 6>();
    if constexpr (kN > 1) tiles.multiply<1, 4, 7>();
    if constexpr (kM > 1) tiles.multiply<kN, 5, 6>();
    if constexpr (kM > 1 && kN > 1) tiles.multiply<3, 5, 7>();
    multiply_step<kTerms, kM, kN, kAt + 1>(tiles, a0, a1, a_col, b0, b1, next);
  }
}

template <int kTiles>
FP_INLINE void clear_sums(Tiles& tiles) {
  tiles.clear<0>();
  if constexpr (kTiles > 1) tiles.clear<1>();
  if constexpr (kTiles > 2) tiles.clear<2>();
  if constexpr (kTiles > 3) tiles.clear<3>();
}

template <int kTiles>
FP_INLINE void load_sums(Tiles& tiles, const float* p) {
  tiles.load_sums<0>(p);
  if constexpr (kTiles > 1) tiles.load_sums<1>(p + kTileWords);
  if constexpr (kTiles > 2) tiles.load_sums<2>(p + 2 * kTileWords);
  if constexpr (kTiles > 3) tiles.load_sums<3>(p + 3 * kTileWords);
}

template <int kTiles>
FP_INLINE void store_sums(const Tiles& tiles, float* p) {
  tiles.store<0>(p);
  if constexpr (kTiles > 1) tiles.store<1>(p + kTileWords);
  if constexpr (kTiles > 2) tiles.store<2>(p + 2 * kTileWords);
  if constexpr (kTiles > 3) tiles.store<3>(p + 3 * kTileWords);
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
