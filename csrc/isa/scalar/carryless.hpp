// SPDX-License-Identifier: Apache-2.0
// Products without carries, those of polynomials whose coefficients are bits: what the operations of every ISA mean. In
// plain C++ they are slow; an ISA without such instructions includes this file, and tables do the work.
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr bool kHasCarryless = false;

struct Bits128 {
  std::uint64_t low, high;
};

FP_INLINE Bits128 bits128(std::uint64_t low, std::uint64_t high) { return {low, high}; }
FP_INLINE Bits128 load_bits(const void* p) {
  Bits128 r;
  std::memcpy(&r, p, 16);
  return r;
}
FP_INLINE void store_bits(void* p, Bits128 a) { std::memcpy(p, &a, 16); }
FP_INLINE Bits128 operator^(Bits128 a, Bits128 b) { return {a.low ^ b.low, a.high ^ b.high}; }
FP_INLINE Bits128 multiply(std::uint64_t a, std::uint64_t b) {
  Bits128 r{0, 0};
  for (int i = 0; i < 64; ++i) {
    if ((b >> i & 1) != 0) r = r ^ Bits128{a << i, i == 0 ? 0 : a >> (64 - i)};
  }
  return r;
}
// The product of the low halves, and that of the high halves.
FP_INLINE Bits128 multiply_low(Bits128 a, Bits128 b) { return multiply(a.low, b.low); }
FP_INLINE Bits128 multiply_high(Bits128 a, Bits128 b) { return multiply(a.high, b.high); }

}  // namespace forwardpass::FORWARDPASS_ISA
