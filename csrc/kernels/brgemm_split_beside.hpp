// SPDX-License-Identifier: Apache-2.0
// Weights of brgemm_split that are float32 in memory, two thirds of what their terms take there, and become terms in L1
// beside the products of the steps before.
#pragma once
#include "brgemm_split_step.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kFloatTerms = 3;
constexpr int kFloatWords = 2 * kTileWords;               // of a step of a panel
constexpr int kStepWords = 2 * kFloatTerms * kTileWords;  // of a step of two panels, as terms
// Steps whose terms stay in L1, with a step of the next ones, while pixels pass by; and the most tiles of pixels whose
// sums stay there too.
constexpr int kFloatSteps = 4;
constexpr std::int64_t kFloatTiles = 8;

// Up to kFloatSteps steps of two panels.
struct Place {
  std::int64_t panel, step, count;
};

// Rows r and r + 16 of 16 columns. Terms are cut off, not rounded, which is shorter: the terms of what they multiply
// have either sign.
FP_INLINE void split_rows(const float* in, std::uint32_t* words) {
  float* out = reinterpret_cast<float*>(words);
  for (int j = 0; j < kPairs; j += kLanes) {
    Vec low = load(in + j), high = load(in + kTileWords + j);
    for (int term = 0; term < kFloatTerms; ++term) {
      const Vec low_term = from_bits(high_half(bits(low))), high_term = from_bits(high_half(bits(high)));
      store(out + term * kTileWords + j, pair_of(low, high_term));
      low = low - low_term;
      high = high - high_term;
    }
  }
}

// What happens beside the products of a turn: the numbers of the next one are split while its last tiles of pixels
// multiply, and those of the one after are fetched.
class Beside {
 public:
  static constexpr bool kBeside = true;

  Beside(const std::uint32_t* b, std::int64_t panel_words) : b_(b), panel_words_(panel_words) {}

  // All of a place's steps, behind those of the place before.
  void split(const Place& place) {
    begin_ = end_;
    end_ += place.count;
    for (std::int64_t i = 0; i < place.count; ++i) split_step(place, begin_, i);
  }

  // The places that come behind the one that is split.
  void prepare(const Place& now, const Place& next, const Place& then, std::int64_t passes) {
    count_ = now.count;
    next_ = next;
    const std::int64_t lines = then.count * kFloatWords / kPairs, steps = passes * now.count;
    ahead_ = {b_ + then.panel * panel_words_ + then.step * kFloatWords, panel_words_, (lines + steps - 1) / steps,
              lines / Ahead::kStreams * kPairs};
  }

  void pass(bool last) { last_ = last; }

  // The terms of step `i` of the place.
  const std::uint32_t* begin_step(std::int64_t i) {
    const bool splits = last_ && i < next_.count;
    in_ = splits ? numbers(next_, i) : nullptr;
    out_ = slot(end_ + i);
    return slot(begin_ + i);
  }

  // To the next place.
  void advance() {
    for (std::int64_t i = count_; i < next_.count; ++i) split_step(next_, end_, i);
    begin_ = end_;
    end_ += next_.count;
  }

  [[gnu::always_inline]] void fetch(int part, int parts) {
    ahead_.fetch(part, parts);
    if (in_ == nullptr) return;
    for (int i = part * 2 * kPairs / parts; i < (part + 1) * 2 * kPairs / parts; ++i) split_pair(in_, out_, i);
  }

 private:
  const float* numbers(const Place& place, std::int64_t i) const {
    return reinterpret_cast<const float*>(b_ + place.panel * panel_words_ + (place.step + i) * kFloatWords);
  }

  std::uint32_t* slot(std::int64_t step) { return terms_ + step % (kFloatSteps + 1) * kStepWords; }

  [[gnu::always_inline]] void split_pair(const float* in, std::uint32_t* out, int i) const {
    const int panel = i / kPairs, row = i % kPairs;
    split_rows(in + panel * panel_words_ + row * kPairs, out + panel * kStepWords / 2 + row * kPairs);
  }

  void split_step(const Place& place, std::int64_t first, std::int64_t i) {
    for (int pair = 0; pair < 2 * kPairs; ++pair) split_pair(numbers(place, i), slot(first + i), pair);
  }

  const std::uint32_t* b_;
  std::int64_t panel_words_;
  Ahead ahead_{};
  Place next_{};
  std::int64_t begin_ = 0, end_ = 0, count_ = 0;  // slots of the place, and its steps
  bool last_ = false;
  const float* in_ = nullptr;
  std::uint32_t* out_ = nullptr;
  alignas(64) std::uint32_t terms_[(kFloatSteps + 1) * kStepWords];
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
