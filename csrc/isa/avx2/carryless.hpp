// SPDX-License-Identifier: Apache-2.0
// Products without carries; isa/scalar/carryless.hpp defines the meaning of each operation. AVX2 does not imply that
// the CPU has them: core/table.cpp asks.
#pragma once
#include <immintrin.h>

#include <vec.hpp>  // of the ISA that is compiled: avx512 includes this file

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr bool kHasCarryless = true;

struct Bits128 {
  __m128i v;
};

FP_INLINE Bits128 bits128(std::uint64_t low, std::uint64_t high) {
  return {_mm_set_epi64x(static_cast<std::int64_t>(high), static_cast<std::int64_t>(low))};
}
FP_INLINE Bits128 load_bits(const void* p) { return {_mm_loadu_si128(static_cast<const __m128i*>(p))}; }
FP_INLINE void store_bits(void* p, Bits128 a) { _mm_storeu_si128(static_cast<__m128i*>(p), a.v); }
FP_INLINE Bits128 operator^(Bits128 a, Bits128 b) { return {_mm_xor_si128(a.v, b.v)}; }
FP_INLINE Bits128 multiply_low(Bits128 a, Bits128 b) { return {_mm_clmulepi64_si128(a.v, b.v, 0x00)}; }
FP_INLINE Bits128 multiply_high(Bits128 a, Bits128 b) { return {_mm_clmulepi64_si128(a.v, b.v, 0x11)}; }

}  // namespace forwardpass::FORWARDPASS_ISA
