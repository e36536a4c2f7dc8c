// SPDX-License-Identifier: Apache-2.0
// Matrix tiles of bfloat16 pairs, in plain C++: the meaning of the instructions that isa/amx/tiles.hpp has, to the bit.
// An ISA without such instructions includes this file; the planner lets its FMA kernels do the work instead.
#pragma once
#include <cstdint>

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr bool kHasTiles = false;

// Eight tiles of at most 16 rows of 16 words: 0 to 3 sums in float32, 4 and 5 left operands, 6 and 7 right operands. A
// word of an operand is a pair of bfloat16 numbers, the first in its low half.
class Tiles {
 public:
  // Sums and left operands have `rows` rows, right operands 16.
  explicit Tiles(int rows) noexcept : rows_(rows) {}
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int kTile>
  void clear() noexcept {
    __builtin_memset(words_[kTile], 0, sizeof words_[kTile]);
  }

  // `stride` is that of rows, in words.
  template <int kTile>
  void load(const std::uint32_t* p, std::int64_t stride) noexcept {
    load_rows(words_[kTile], p, stride, kTile < 6 ? rows_ : 16);
  }

  // The same, for an operand that should leave what is in L1 there.
  template <int kTile>
  void load_past_l1(const std::uint32_t* p, std::int64_t stride) noexcept {
    load<kTile>(p, stride);
  }

  // From dense rows.
  template <int kTile>
  void load_sums(const float* p) noexcept {
    __builtin_memcpy(words_[kTile], p, 64 * static_cast<unsigned>(rows_));
  }

  // To rows that are `stride` numbers apart.
  template <int kTile>
  void store(float* p, std::int64_t stride = 16) const noexcept {
    for (int i = 0; i < rows_; ++i) __builtin_memcpy(p + i * stride, words_[kTile] + 16 * i, 64);
  }

  // For long times without a store, which then takes longer on some machines.
  void keep_storing() noexcept {}

  // sum += left x right. First halves and second halves are summed on their own from zero, each product with one fused
  // multiply-add; the two sums are added, and then to the tile. Denormal operands and results count as zero, as they
  // do in all kernels.
  template <int kSum, int kLeft, int kRight>
  void multiply() noexcept {
    multiply_tiles(words_[kSum], words_[kLeft], words_[kRight], rows_);
  }

 private:
  // Not inlined: small code counts more than speed here.
  [[gnu::noinline]] static void load_rows(std::uint32_t* tile, const std::uint32_t* p, std::int64_t stride,
                                          int rows) noexcept {
    for (int i = 0; i < rows; ++i) __builtin_memcpy(tile + 16 * i, p + i * stride, 64);
  }

  [[gnu::noinline]] static void multiply_tiles(std::uint32_t* sums, const std::uint32_t* left,
                                               const std::uint32_t* right, int rows) noexcept {
    for (int m = 0; m < rows; ++m) {
      // Columns innermost, since they do not depend on each other: a vector's, where there are vectors.
      float first[16] = {}, second[16] = {};
      for (int k = 0; k < 16; ++k) {
        const std::uint32_t a = left[16 * m + k];
        for (int n = 0; n < 16; ++n) {
          const std::uint32_t b = right[16 * k + n];
          first[n] = __builtin_fmaf(number(a << 16), number(b << 16), first[n]);
          second[n] = __builtin_fmaf(number(a & 0xffff0000u), number(b & 0xffff0000u), second[n]);
        }
      }
      for (int n = 0; n < 16; ++n) {
        const float sum = number(sums[16 * m + n]) + (first[n] + second[n]);
        __builtin_memcpy(sums + 16 * m + n, &sum, 4);
      }
    }
  }

  [[gnu::always_inline]] static inline float number(std::uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
  }

  int rows_;
  alignas(64) std::uint32_t words_[8][256];
};

}  // namespace forwardpass::FORWARDPASS_ISA
