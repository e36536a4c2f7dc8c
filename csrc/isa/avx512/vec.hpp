// SPDX-License-Identifier: Apache-2.0
// The vector primitives for AVX-512 (F, BW, DQ, VL). isa/scalar/vec.hpp defines the meaning of each.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace forwardpass::FORWARDPASS_ISA {

#define FP_INLINE [[gnu::always_inline]] static inline

inline constexpr int kLanes = 16;

struct Vec {
  __m512 v;
};
struct IVec {
  __m512i v;
};
struct Mask {
  __mmask16 v;
};

FP_INLINE Vec zero() { return {_mm512_setzero_ps()}; }
FP_INLINE Vec set1(float x) { return {_mm512_set1_ps(x)}; }
FP_INLINE IVec iset1(std::int32_t x) { return {_mm512_set1_epi32(x)}; }

FP_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
FP_INLINE Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
FP_INLINE Vec load(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
FP_INLINE Vec load(const std::uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
FP_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
FP_INLINE void stream(float* p, Vec a) { _mm512_stream_ps(p, a.v); }
FP_INLINE void fence() { _mm_sfence(); }
FP_INLINE void store(float* p, Vec a, int n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
FP_INLINE Vec gather(const float* p, std::int64_t stride) {
  const __m512i step = _mm512_set1_epi64(stride);
  const __m512i low = _mm512_mullo_epi64(step, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  const __m512i high = _mm512_add_epi64(low, _mm512_slli_epi64(step, 3));
  // The masked forms with a zero source: the plain ones start from an uninitialised register.
  const __m256 a = _mm512_mask_i64gather_ps(_mm256_setzero_ps(), 0xff, low, p, 4);
  const __m256 b = _mm512_mask_i64gather_ps(_mm256_setzero_ps(), 0xff, high, p, 4);
  return {_mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1)};
}

FP_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
FP_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
FP_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
FP_INLINE Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
FP_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FP_INLINE Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
// Masked with all lanes, as in gather(): the same instruction without the warning about an uninitialised register.
FP_INLINE Vec min(Vec a, Vec b) { return {_mm512_maskz_min_ps(0xffff, a.v, b.v)}; }
FP_INLINE Vec max(Vec a, Vec b) { return {_mm512_maskz_max_ps(0xffff, a.v, b.v)}; }
FP_INLINE Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
FP_INLINE Vec floor(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
FP_INLINE Vec ceil(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)}; }
FP_INLINE Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
FP_INLINE Vec abs(Vec a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
FP_INLINE Vec neg(Vec a) { return {_mm512_xor_ps(_mm512_set1_ps(-0.0f), a.v)}; }
FP_INLINE Vec copysign(Vec magnitude, Vec sign) {
  const __m512 bit = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_andnot_ps(bit, magnitude.v), _mm512_and_ps(bit, sign.v))};
}

FP_INLINE Mask operator<(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
FP_INLINE Mask operator<=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
FP_INLINE Mask operator>(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
FP_INLINE Mask operator>=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
FP_INLINE Mask operator==(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
FP_INLINE Mask is_nan(Vec a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
FP_INLINE Mask operator&(Mask a, Mask b) { return {_kand_mask16(a.v, b.v)}; }
FP_INLINE Mask operator|(Mask a, Mask b) { return {_kor_mask16(a.v, b.v)}; }
FP_INLINE Mask operator~(Mask a) { return {_knot_mask16(a.v)}; }
FP_INLINE bool any(Mask a) { return a.v != 0; }
FP_INLINE Vec select(Mask m, Vec yes, Vec no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }

FP_INLINE IVec bits(Vec a) { return {_mm512_castps_si512(a.v)}; }
FP_INLINE Vec from_bits(IVec a) { return {_mm512_castsi512_ps(a.v)}; }
FP_INLINE IVec to_int(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }
FP_INLINE Vec to_float(IVec a) { return {_mm512_cvtepi32_ps(a.v)}; }
FP_INLINE IVec operator+(IVec a, IVec b) { return {_mm512_add_epi32(a.v, b.v)}; }
FP_INLINE IVec operator-(IVec a, IVec b) { return {_mm512_sub_epi32(a.v, b.v)}; }
FP_INLINE IVec operator&(IVec a, IVec b) { return {_mm512_and_si512(a.v, b.v)}; }
FP_INLINE IVec operator|(IVec a, IVec b) { return {_mm512_or_si512(a.v, b.v)}; }
FP_INLINE IVec operator^(IVec a, IVec b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int kBits>
FP_INLINE IVec shift_left(IVec a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
FP_INLINE IVec shift_right(IVec a) {
  return {_mm512_srai_epi32(a.v, kBits)};
}

}  // namespace forwardpass::FORWARDPASS_ISA
