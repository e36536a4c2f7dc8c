// SPDX-License-Identifier: Apache-2.0
// linear_split_f32: a linear layer of few inputs on matrix tiles, as brgemm_split_f32 without its epilogues. Sums start
// from the bias and go from the tiles straight to memory: with so few products to a sum, another pass over the sums
// takes longer than they do.
//
// So no sum is looked at. A row whose numbers are so large that a sum of terms may overflow, or are not finite, is
// computed again in float32.
#include "brgemm_split_step.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kTileRows = 16;
constexpr std::int64_t kMostBlocks = 8;  // of a row: 24 KiB of terms
constexpr float kLargest = 0x1p55f;

FP_INLINE bool is_large(const float* row, std::int64_t n) {
  Mask inside = zero() == zero();
  for (std::int64_t i = 0; i < n; i += kLanes) inside = inside & (abs(load_valid(row + i, n - i)) < set1(kLargest));
  return any(~inside);
}

// The numbers of a row of B for the vector of columns at `at` of a panel, from their terms.
template <int kTerms>
FP_INLINE Vec weights_of(const std::uint32_t* panel, std::int64_t k, int at) {
  const std::uint32_t* block = panel + k / kBlock * kTerms * kTileWords + k % kPairs * kPairs + at;
  Vec sum = zero();
  for (int term = kTerms - 1; term >= 0; --term) {
    const IVec word = bits(load(reinterpret_cast<const float*>(block + term * kTileWords)));
    sum = sum + from_bits(k % kBlock < kPairs ? shift_left<16>(word) : high_half(word));
  }
  return sum;
}

template <int kTerms>
struct Layer {
  const LinearSplitParams& p;
  const std::uint32_t* b;
  const float* bias;
  std::int64_t blocks;

  const std::uint32_t* panel(std::int64_t i) const { return b + i * blocks * kTerms * kTileWords; }

  void large_row(const float* x, float* out) const {
    for (std::int64_t n = 0; n < p.n; n += kLanes) {
      Vec sum = bias ? load(bias + n) : zero();
      for (std::int64_t k = 0; k < p.k; ++k) {
        sum = fma(set1(x[k]), weights_of<kTerms>(panel(n / kPairs), k, static_cast<int>(n % kPairs)), sum);
      }
      store(out + n, sum);
    }
  }

  template <int kPanels>
  [[gnu::always_inline]] void columns(Tiles& tiles, const std::uint32_t* a, std::int64_t at, float* out) const {
    const std::int64_t a_row = blocks * kTerms * kPairs;
    if (bias) {  // a stride of 0: the same for all rows
      const auto* from = reinterpret_cast<const std::uint32_t*>(bias + at * kPairs);
      tiles.load<0>(from, 0);
      if constexpr (kPanels > 1) tiles.load<1>(from + kPairs, 0);
    } else {
      clear_sums<kPanels>(tiles);
    }
    Ahead nothing{nullptr, 0, 0, 0};
    const std::uint32_t *b0 = panel(at), *b1 = panel(at + kPanels - 1);
    for (std::int64_t k = 0; k < blocks; ++k, b0 += kTerms * kTileWords, b1 += kTerms * kTileWords) {
      const std::uint32_t* now = a + k * kTerms * kPairs;
      multiply_step<kTerms, 1, kPanels>(tiles, now, now, a_row, b0, b1, nothing);
    }
    tiles.store<0>(out + at * kPairs, p.n);
    if constexpr (kPanels > 1) tiles.store<1>(out + (at + 1) * kPairs, p.n);
  }

  // A tile of rows.
  void rows(Tiles& tiles, const float* x, int count, float* out) const {
    alignas(64) float a[kTileRows * kMostBlocks * kTerms * kPairs];
    for (int i = 0; i < count; ++i) {
      for (std::int64_t k = 0; k < blocks; ++k) {
        store_block<kTerms>(x + i * p.k + k * kBlock, min_of(kBlock, p.k - k * kBlock),
                            a + (i * blocks + k) * kTerms * kPairs, kPairs);
      }
    }
    const auto* words = reinterpret_cast<const std::uint32_t*>(a);
    const std::int64_t panels = p.n / kPairs;
    for (std::int64_t at = 0; at + 1 < panels; at += 2) columns<2>(tiles, words, at, out);
    if (panels % 2) columns<1>(tiles, words, panels - 1, out);
    for (int i = 0; i < count; ++i) {
      if (is_large(x + i * p.k, p.k)) [[unlikely]]
        large_row(x + i * p.k, out + i * p.n);
    }
  }
};

template <int kTerms>
void run(const KernelArgs& args, Range range) {
  const LinearSplitParams& p = params_of<LinearSplitParams>(args);
  const Layer<kTerms> layer{p, static_cast<const std::uint32_t*>(p.b), static_cast<const float*>(p.bias),
                            (p.k + kBlock - 1) / kBlock};
  const float* x = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  for (std::int64_t tile = range.begin; tile < range.end;) {
    const int count = static_cast<int>(min_of(kTileRows, p.rows - tile * kTileRows));
    Tiles tiles(count);
    do {
      layer.rows(tiles, x + tile * kTileRows * p.k, count, out + tile * kTileRows * p.n);
      ++tile;
    } while (tile < range.end && (tile + 1) * kTileRows <= p.rows);
  }
}

}  // namespace

void linear_split_f32(const KernelArgs& args, Range range) noexcept {
  const std::int64_t terms = params_of<LinearSplitParams>(args).terms;
  if (terms == 3) return run<3>(args, range);
  if (terms == 2) return run<2>(args, range);
  run<1>(args, range);
}

}  // namespace forwardpass::FORWARDPASS_ISA
