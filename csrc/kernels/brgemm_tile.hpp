// SPDX-License-Identifier: Apache-2.0
// The register tile of brgemm: kRows output pixels times kPanels panels of B, accumulated in registers over one
// chunk of K, then either kept as a partial sum in C or finished by the epilogue.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kPanelVectors = kPanel / kLanes;

struct Tile {
  const BrgemmParams* p;
  const float* a;
  std::int64_t lda;
  const std::int64_t* entries;
  std::int64_t n_entries;
  const float* b;
  std::int64_t b_panel;  // elements from one panel of B to the next
  float* c;
  std::int64_t ldc;
  const float* residual;
  std::int64_t ldr;
  const float* bias;
  int cols;    // columns of C that exist
  bool first;  // C holds no partial sum yet
  bool last;   // apply the epilogue
};

using TileFn = void (*)(const Tile&) noexcept;

constexpr RowFn kRows[] = {
#define UNARY(name, expression) &name##_row,
#include "unary.def"
#undef UNARY
};

// acc += A x B over k steps. Rows of A are addressed from every fourth row's pointer, so that the addresses fit into
// the general registers.
template <int kM, int kPanels>
FP_INLINE void multiply(const float* a, std::int64_t lda, const float* b, std::int64_t b_panel, std::int64_t k,
                        Vec (&acc)[kM][kPanels * kPanelVectors]) {
  constexpr int kV = kPanels * kPanelVectors;
  constexpr int kGroups = (kM + 3) / 4;
  const float* rows[kGroups];
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) rows[g] = a + 4 * g * lda;
  const float* end = b + k * kPanel;
#pragma GCC unroll 2
  for (; b != end; b += kPanel) {
    Vec bv[kV];
#pragma GCC unroll 16
    for (int j = 0; j < kV; ++j) bv[j] = load(b + j / kPanelVectors * b_panel + j % kPanelVectors * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
      const Vec av = set1(rows[i / 4][i % 4 * lda]);
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) acc[i][j] = fma(av, bv[j], acc[i][j]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) ++rows[g];
  }
}

FP_INLINE Vec load_columns(const float* p, int valid) { return valid >= kLanes ? load(p) : load(p, valid); }
FP_INLINE void store_columns(float* p, Vec v, int valid) {
  if (valid >= kLanes) {
    store(p, v);
  } else {
    store(p, v, valid);
  }
}

// Bias, residual and activation on one vector of one row. Activations other than Relu and Clip run on the finished
// row afterwards, while it is in L1.
FP_INLINE Vec finish(const Tile& t, Vec v, int i, int column, int valid) {
  if (t.bias) v = v + load_columns(t.bias + column, valid);
  if (t.residual) v = v + load_columns(t.residual + i * t.ldr + column, valid);
  if (t.p->activation == k_relu) return max(zero(), v);
  if (t.p->activation == k_clip) return min(set1(t.p->beta), max(set1(t.p->alpha), v));
  return v;
}

FP_INLINE void activate_rows(const Tile& t, int rows) {
  const std::int64_t activation = t.p->activation;
  if (activation == kNone || activation == k_relu || activation == k_clip) return;
  for (int i = 0; i < rows; ++i) {
    float* row = t.c + i * t.ldc;
    kRows[activation](row, row, t.cols, t.p->alpha, t.p->beta);
  }
}

template <int kM, int kPanels>
void tile(const Tile& t) noexcept {
  constexpr int kV = kPanels * kPanelVectors;
  Vec acc[kM][kV];
#pragma GCC unroll 16
  for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kV; ++j) acc[i][j] = zero();
  }
  for (std::int64_t e = 0; e < t.n_entries; ++e) {
    const std::int64_t* entry = t.entries + 3 * e;
    multiply<kM, kPanels>(t.a + entry[0], t.lda, t.b + entry[2] * kPanel, t.b_panel, entry[1], acc);
  }
#pragma GCC unroll 16
  for (int j = 0; j < kV; ++j) {
    const int column = j * kLanes;
    const int valid = t.cols - column;
    if (valid <= 0) break;
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
      float* c = t.c + i * t.ldc + column;
      Vec v = acc[i][j];
      if (!t.first) v = load_columns(c, valid) + v;
      if (t.last) v = finish(t, v, i, column, valid);
      store_columns(c, v, valid);
    }
  }
  if (t.last) activate_rows(t, kM);
}

// sums[q] = the sum of chunk q, for one row and one panel; all chunks have the same length.
template <int kParallel>
FP_INLINE void sum_chunks(const Tile& t, const std::int64_t* entry, Vec (&sums)[kParallel][kPanelVectors]) {
  const float* a[kParallel];
  const float* b[kParallel];
#pragma GCC unroll 16
  for (int q = 0; q < kParallel; ++q) {
    a[q] = t.a + entry[3 * q];
    b[q] = t.b + entry[3 * q + 2] * kPanel;
#pragma GCC unroll 16
    for (int j = 0; j < kPanelVectors; ++j) sums[q][j] = zero();
  }
  for (std::int64_t k = 0; k < entry[1]; ++k) {
#pragma GCC unroll 16
    for (int q = 0; q < kParallel; ++q) {
      const Vec av = set1(a[q][k]);
#pragma GCC unroll 16
      for (int j = 0; j < kPanelVectors; ++j) {
        sums[q][j] = fma(av, load(b[q] + k * kPanel + j * kLanes), sums[q][j]);
      }
    }
  }
}

template <int kParallel>
FP_INLINE void add_chunks(const Tile& t, const std::int64_t* entry, bool first, Vec (&total)[kPanelVectors]) {
  Vec sums[kParallel][kPanelVectors];
  sum_chunks<kParallel>(t, entry, sums);
#pragma GCC unroll 16
  for (int j = 0; j < kPanelVectors; ++j) {
    total[j] = first ? sums[0][j] : total[j] + sums[0][j];
#pragma GCC unroll 16
    for (int q = 1; q < kParallel; ++q) total[j] = total[j] + sums[q][j];
  }
}

// One row and one panel over all chunks, each of one entry, four chunks in parallel: a single row of a narrow layer
// has too few columns to hide the latency of one chain of additions. The same sums as `tile`, chunk by chunk.
void narrow_row(const Tile& t, std::int64_t n_chunks) noexcept {
  constexpr int kParallel = 4;
  Vec total[kPanelVectors];
#pragma GCC unroll 16
  for (int j = 0; j < kPanelVectors; ++j) total[j] = zero();
  for (std::int64_t c = 0; c < n_chunks;) {
    const std::int64_t* entry = t.entries + 3 * c;
    if (c + kParallel <= n_chunks && entry[3 * (kParallel - 1) + 1] == entry[1]) {
      add_chunks<kParallel>(t, entry, c == 0, total);
      c += kParallel;
    } else {
      add_chunks<1>(t, entry, c == 0, total);
      ++c;
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < kPanelVectors; ++j) {
    const int column = j * kLanes;
    const int valid = t.cols - column;
    if (valid <= 0) break;
    store_columns(t.c + column, finish(t, total[j], 0, column, valid), valid);
  }
  activate_rows(t, 1);
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
