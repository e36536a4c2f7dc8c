// SPDX-License-Identifier: Apache-2.0
// Walks a Range of a strided shape row by row, for the element-wise kernels.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// A shape and the strides of kOperands arrays, without dimensions of size 1 and with neighbours merged where the
// strides of every operand allow it. The C order of the elements stays. rank >= 1; the last dimension is the row.
template <int kOperands>
struct Strided {
  int rank;
  std::int64_t shape[kMaxRank];
  std::int64_t stride[kMaxRank][kOperands];

  std::int64_t row_stride(int operand) const { return stride[rank - 1][operand]; }
};

template <int kOperands>
FP_INLINE bool merges(const Strided<kOperands>& s, std::int64_t size, const std::int64_t* const (&strides)[kOperands],
                      std::int64_t d) {
  for (int k = 0; k < kOperands; ++k) {
    if (s.stride[s.rank - 1][k] != strides[k][d] * size) return false;
  }
  return true;
}

template <int kOperands>
FP_INLINE Strided<kOperands> strided(std::int64_t rank, const std::int64_t* shape,
                                     const std::int64_t* const (&strides)[kOperands]) {
  Strided<kOperands> s;
  s.rank = 0;
  for (std::int64_t d = 0; d < rank; ++d) {
    if (shape[d] == 1) continue;
    if (s.rank > 0 && merges(s, shape[d], strides, d)) {
      s.shape[s.rank - 1] *= shape[d];
    } else {
      s.shape[s.rank++] = shape[d];
    }
    for (int k = 0; k < kOperands; ++k) s.stride[s.rank - 1][k] = strides[k][d];
  }
  if (s.rank == 0) {
    s.rank = 1;
    s.shape[0] = 1;
    for (int k = 0; k < kOperands; ++k) s.stride[0][k] = 1;
  }
  return s;
}

// A place in a Strided: the index of every dimension and the offset of every operand.
template <int kOperands>
struct Place {
  std::int64_t index[kMaxRank];
  std::int64_t offset[kOperands];

  FP_INLINE Place at(const Strided<kOperands>& s, std::int64_t element) {
    Place p;
    for (int k = 0; k < kOperands; ++k) p.offset[k] = 0;
    for (int d = s.rank - 1; d >= 0; --d) {
      p.index[d] = element;
      if (element != 0) {
        p.index[d] = element % s.shape[d];
        element /= s.shape[d];
      }
      for (int k = 0; k < kOperands; ++k) p.offset[k] += p.index[d] * s.stride[d][k];
    }
    return p;
  }

  // `count` steps along dimension d, at most to its end; from there to the next index of the outer dimensions.
  void advance(const Strided<kOperands>& s, int d, std::int64_t count) {
    index[d] += count;
    for (int k = 0; k < kOperands; ++k) offset[k] += count * s.stride[d][k];
    while (d > 0 && index[d] == s.shape[d]) {
      for (int k = 0; k < kOperands; ++k) offset[k] += s.stride[d - 1][k] - index[d] * s.stride[d][k];
      index[d] = 0;
      ++index[--d];
    }
  }
};

// body(const std::int64_t* offsets, std::int64_t count): `count` elements of one row, the first at the offsets.
template <int kOperands, class Body>
FP_INLINE void for_each_row(const Strided<kOperands>& s, Range range, Body body) {
  if (range.begin >= range.end) return;
  const int row = s.rank - 1;
  Place<kOperands> place = Place<kOperands>::at(s, range.begin);
  std::int64_t left = range.end - range.begin;
  while (true) {
    const std::int64_t count = min_of(left, s.shape[row] - place.index[row]);
    body(static_cast<const std::int64_t*>(place.offset), count);
    left -= count;
    if (left == 0) return;
    place.advance(s, row, count);
  }
}

// Rows that are not dense go through a buffer of this many floats.
constexpr std::int64_t kStage = 64;

// Bits are kept: there is no arithmetic.
FP_INLINE void gather_row(const float* in, std::int64_t stride, float* out, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, gather(in + i * stride, stride));
  for (; i < n; ++i) out[i] = in[i * stride];
}

FP_INLINE void scatter_row(const float* in, float* out, std::int64_t stride, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i * stride] = in[i];
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
