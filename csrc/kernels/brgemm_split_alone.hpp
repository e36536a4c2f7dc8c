// SPDX-License-Identifier: Apache-2.0
// Results of brgemm_split that nothing else is added to, in one pass, and past the caches where they are many.
#pragma once
#include "brgemm_split_sums.hpp"
#include "simd.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Most tiles of pixels whose sums wait in memory, and the last results of whose rows do.
constexpr std::int64_t kSavedTiles = 32;

// Results that go past the caches, which takes whole lines.
struct Stream {
  bool on = false;
  std::int64_t shift = 0;  // from a line to a panel's first result
  Range panels{};          // that are finished one after another
  float* last = nullptr;   // the results of the panel before, of the pixels of each tile's place

  Stream(const BrgemmSplitParams& p, const void* out, Range all, float* memory) : panels(all), last(memory) {
    if (!kHasTiles || !p.streams || (p.c_batch | p.c_row | p.c_col | p.n) % kPairs) return;
    shift = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) / sizeof(float) % kPairs);
    on = shift == 0 || p.block <= kSavedTiles;
  }
};

struct Alone : Sums {
  bool alone;            // whether results are in no other step's sums, and are finished in one pass
  Stream past;           // whether they then go past the caches
  const float* nothing;  // the sums of a panel that is missing

  Alone(const BrgemmSplitParams& params, const void* residual, const Stream& stream, const float* zeros)
      : Sums(params),
        alone(!p.makes && !residual && p.n_steps <= p.chunk_steps && !runs_on_rows(p.activation)),
        past(stream),
        nothing(zeros) {
    past.on = past.on && alone;
  }

  // As finish, of all columns of a panel, where results are `alone`.
  void finish_alone(const Rows& rows, float* sums, std::int64_t panel) const {
    if constexpr (kHasTiles) {
      if (past.on && past.shift) return finish_shifted(rows, sums, panel);
      if (past.on) return finish_to<kPast>(rows, sums, panel, nullptr);
    }
    finish_to<kMemory>(rows, sums, panel, nullptr);
  }

  // Where results begin within lines: a panel's complete those of the panel before.
  void finish_shifted(const Rows& rows, float* sums, std::int64_t panel) const {
    alignas(64) float pairs[2 * kTileWords];  // of panels, row by row
    finish_to<kPairsOf>(rows, sums, panel, pairs);
    const std::int64_t before = kPairs - past.shift;
    float* last = past.last + rows.place * kTileWords;
    for (int i = 0; i < rows.count; ++i, last += kPairs) {
      const Vec now = load(pairs + (2 * i + 1) * kPairs);
      store(pairs + 2 * i * kPairs, load(last));
      store(last, now);
    }
    each_row(rows, panel, [&](const Pixels& to, int) {
      const float* pair = pairs + to.first * 2 * kPairs;
      float* out = to.c;
      for (int i = 0; i < to.count; ++i, pair += 2 * kPairs, out += p.c_col) {
        if (panel > past.panels.begin) {
          stream(out - past.shift, load(pair + before));
        } else {
          store(out, load(pair + kPairs), static_cast<int>(before));
        }
        if (panel + 1 < past.panels.end) continue;
        store(out + before, load(pair + kPairs + before, static_cast<int>(past.shift)), static_cast<int>(past.shift));
      }
    });
  }

  enum Target { kMemory, kPast, kPairsOf };

  template <Target kTarget>
  void finish_to(const Rows& rows, float* sums, std::int64_t panel, float* pairs) const {
    if (put_pixels<kTarget>(rows, sums, panel, pairs)) [[likely]]
      return;
    repair(rows, sums, panel);
    put_pixels<kTarget>(rows, sums, panel, pairs);
  }

  // Returns whether the sums are finite.
  template <Target kTarget>
  bool put_pixels(const Rows& rows, const float* sums, std::int64_t panel, float* pairs) const {
    const float* const bias = p.bias ? static_cast<const float*>(p.bias) + panel * kPairs : nothing;
    const Vec low = set1(p.activation == k_clip ? p.alpha : p.activation == k_relu ? 0.0f : -kInf);
    const Vec high = set1(p.activation == k_clip ? p.beta : kInf);
    Vec even = zero(), odd = zero();
    each_row(rows, panel, [&](const Pixels& to, int) __attribute__((always_inline)) {
      const std::int64_t step = kTarget == kPairsOf ? 2 * kPairs : p.c_col;
      for (int j = 0; j < kPairs; j += kLanes) {
        const Vec shift = load(bias + j);
        const float* sum = sums + to.first * kPairs + j;
        float* out = kTarget == kPairsOf ? pairs + (2 * to.first + 1) * kPairs + j : to.c + j;
        const auto put = [&](Vec& seen) __attribute__((always_inline)) {
          const Vec x = load(sum), y = min(high, max(low, x + shift));
          seen = fma(x, zero(), seen);
          if constexpr (kTarget == kPast) {
            stream(out, y);
          } else {
            store(out, y);
          }
          sum += kPairs;
          out += step;
        };
        for (int i = to.count / 2; i > 0; --i) {
          put(even);
          put(odd);
        }
        if (to.count % 2) put(even);
      }
    });
    return !any(is_nan(even + odd));
  }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
