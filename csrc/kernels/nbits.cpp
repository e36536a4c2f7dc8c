// SPDX-License-Identifier: Apache-2.0
// nbits_f32: a product with weights of 2, 4 or 8 bits that are decoded in registers. A vector holds the same few
// weights of 16 columns, so that each decodes with its column's scale. Memory is the limit for a single row: the
// weights are read once, in order, from as many panels at a time as hide the latency of an addition.
#include "lanes.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kGroup = 4;  // panels that a thread gets at a time
// Panels that a single row, and four, multiply at once: their words and sums stay in registers.
constexpr int kRowPanels = kRegisters < 32 ? 2 : kGroup, kTilePanels = kRegisters < 32 ? 1 : 2;
// Vectors of one lane are too many to write out: the code would be a megabyte.
constexpr int kUnrolled = kLaneVecs > 4 ? 1 : 64;

FP_INLINE constexpr float power_of_two_at(int shift) { return static_cast<float>(1 << (23 - shift)); }

// Weight kIndex of a word, less `zero`: its bits become the last ones of a float of the size of 2^23, from which the
// power of two is taken away again.
template <int kBits, int kIndex>
FP_INLINE Vec decode(IVec word, float zero) {
  constexpr int kHalf = 16 / kBits, kShift = kBits * (kIndex % kHalf);
  constexpr std::int32_t kMask = ((1 << kBits) - 1) << kShift, kMagic = (127 + 23 - kShift) << 23;
  const IVec part = kIndex < kHalf ? word : shift_right<16>(word);
  return from_bits((part & iset1(kMask)) | iset1(kMagic)) - set1(power_of_two_at(kShift) + zero);
}

// Rows of A and panels of weights at one place.
template <int kM, int kPanels>
struct Tile {
  static constexpr int kVecs = kPanels * kLaneVecs;
  const NBitsParams& p;
  const float* a;
  const std::int32_t* words;
  std::int64_t panel_words;
  const float* scales;
  const float* points;
  std::int64_t panel_scales;

  template <int kBits, bool kPoints, int kIndex>
  FP_INLINE void add(Vec (&sums)[kM][kVecs], const IVec (&word)[kVecs], const Vec (&point)[kVecs], const float* a,
                     std::int64_t a_row) {
    if constexpr (kIndex < 32 / kBits) {
      Vec x[kM];
#pragma GCC unroll 8
      for (int i = 0; i < kM; ++i) x[i] = set1(a[i * a_row + kIndex]);
#pragma GCC unroll kUnrolled
      for (int j = 0; j < kVecs; ++j) {
        Vec w = decode<kBits, kIndex>(word[j], kPoints ? 0.0f : static_cast<float>(1 << (kBits - 1)));
        if (kPoints) w = w - point[j];
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i) sums[i][j] = fma(x[i], w, sums[i][j]);
      }
      add<kBits, kPoints, kIndex + 1>(sums, word, point, a, a_row);
    }
  }

  template <int kBits, bool kPoints>
  [[gnu::always_inline]] void block(std::int64_t b, Vec (&totals)[kM][kVecs]) const {
    constexpr int kPer = 32 / kBits;
    alignas(64) float rest[kM][kPer];
    Vec sums[kM][kVecs], point[kVecs];
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
#pragma GCC unroll kUnrolled
      for (int j = 0; j < kVecs; ++j) sums[i][j] = zero();
    }
    for (int j = 0; j < kVecs; ++j) point[j] = kPoints ? load(at(points, b, j)) : zero();
    const std::int64_t end = min_of(p.k, (b + 1) * p.block);
    for (std::int64_t k = b * p.block; k < end; k += kPer) {
      IVec word[kVecs];
#pragma GCC unroll kUnrolled
      for (int j = 0; j < kVecs; ++j) {
        const std::int32_t* w = words + j / kLaneVecs * panel_words + k / kPer * kVirtualLanes + j % kLaneVecs * kLanes;
        word[j] = bits(load(reinterpret_cast<const float*>(w)));
      }
      const float* x = a + k;
      std::int64_t x_row = p.a_row;
      if (k + kPer > p.k) {  // weights behind the last are filling
        for (int i = 0; i < kM; ++i) {
          for (int j = 0; j < kPer; ++j) rest[i][j] = k + j < p.k ? x[i * p.a_row + j] : 0.0f;
        }
        x = rest[0];
        x_row = kPer;
      }
      add<kBits, kPoints, 0>(sums, word, point, x, x_row);
    }
#pragma GCC unroll kUnrolled
    for (int j = 0; j < kVecs; ++j) {
      const Vec scale = load(at(scales, b, j));
#pragma GCC unroll 8
      for (int i = 0; i < kM; ++i) totals[i][j] = fma(sums[i][j], scale, totals[i][j]);
    }
  }

  [[gnu::always_inline]] const float* at(const float* values, std::int64_t b, int j) const {
    return values + j / kLaneVecs * panel_scales + b * kVirtualLanes + j % kLaneVecs * kLanes;
  }

  template <int kBits, bool kPoints>
  [[gnu::always_inline]] void run(float* c, const float* bias, std::int64_t columns) const {
    Vec totals[kM][kVecs];
    for (int i = 0; i < kM; ++i) {
      for (int j = 0; j < kVecs; ++j) totals[i][j] = zero();
    }
    const std::int64_t blocks = (p.k + p.block - 1) / p.block;
    for (std::int64_t b = 0; b < blocks; ++b) block<kBits, kPoints>(b, totals);
    for (int j = 0; j < kVecs; ++j) {
      const int left = static_cast<int>(max_of(0, min_of(kLanes, columns - j * kLanes)));
      if (left == 0) break;
      const Vec add = bias ? load(bias + j * kLanes, left) : zero();
      for (int i = 0; i < kM; ++i) {
        store(c + i * p.c_row + j * kLanes, bias ? totals[i][j] + add : totals[i][j], left);
      }
    }
  }
};

template <int kM, int kPanels, int kBits>
void multiply(const NBitsParams& p, const float* a, float* c, std::int64_t panel) noexcept {
  const std::int64_t words = (p.k + 32 / kBits - 1) / (32 / kBits) * kVirtualLanes;
  const std::int64_t scales = (p.k + p.block - 1) / p.block * kVirtualLanes;
  const float* points = static_cast<const float*>(p.points);
  const float* bias = static_cast<const float*>(p.bias);
  const std::int64_t column = panel * kVirtualLanes;
  const Tile<kM, kPanels> t = {p,
                               a,
                               static_cast<const std::int32_t*>(p.b) + panel * words,
                               words,
                               static_cast<const float*>(p.scales) + panel * scales,
                               points ? points + panel * scales : nullptr,
                               scales};
  if (points) {
    t.template run<kBits, true>(c + column, bias ? bias + column : nullptr, p.n - column);
  } else {
    t.template run<kBits, false>(c + column, bias ? bias + column : nullptr, p.n - column);
  }
}

template <int kM, int kPanels, int kBits>
void multiply_rows(const NBitsParams& p, const float* a, float* c, std::int64_t row, Range panels) {
  std::int64_t j = panels.begin;
  for (; j + kPanels <= panels.end; j += kPanels) {
    multiply<kM, kPanels, kBits>(p, a + row * p.a_row, c + row * p.c_row, j);
  }
  if constexpr (kPanels > 1) {
    for (; j < panels.end; ++j) multiply<kM, 1, kBits>(p, a + row * p.a_row, c + row * p.c_row, j);
  }
}

// Tiles of up to 4 rows: then a decoded weight serves several.
template <int kBits>
void run(const NBitsParams& p, const float* a, float* c, Range range) {
  const std::int64_t panels = (p.n + kVirtualLanes - 1) / kVirtualLanes;
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) {
    const std::int64_t first = unit * kGroup, last = min_of(panels, first + kGroup);
    std::int64_t i = 0;
    for (; i + 4 <= p.rows; i += 4) multiply_rows<4, kTilePanels, kBits>(p, a, c, i, {first, last});
    for (; i < p.rows; ++i) multiply_rows<1, kRowPanels, kBits>(p, a, c, i, {first, last});
  }
}

}  // namespace

void nbits_f32(const KernelArgs& args, Range range) noexcept {
  const NBitsParams& p = params_of<NBitsParams>(args);
  const float* a = static_cast<const float*>(args.in[0]);
  float* c = static_cast<float*>(args.out);
  if (p.bits == 2) run<2>(p, a, c, range);
  if (p.bits == 4) run<4>(p, a, c, range);
  if (p.bits == 8) run<8>(p, a, c, range);
}

}  // namespace forwardpass::FORWARDPASS_ISA
