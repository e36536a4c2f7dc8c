// SPDX-License-Identifier: Apache-2.0
// The register tile of brgemm: kM output pixels times kPanels panels of B, accumulated in registers over one chunk of K
// after another. The sum of a chunk is added to those before it in C, and finished by the epilogue after the last.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kPanelVectors = kPanel / kLanes;

// Weight is what B holds: float, or std::uint16_t for bfloat16 numbers.
template <class Weight>
struct Tile {
  const BrgemmParams* p;
  const float* a;
  std::int64_t lda;
  Range chunks;
  const Weight* b;
  std::int64_t b_panel;  // elements from one panel of B to the next
  float* c;              // the first row of C and, where there is one, of the residual
  std::int64_t c_step;   // from a row to the next
  const float* residual;
  std::int64_t r_step;
  const float* bias;
  const char* ahead;  // what goes to L2 beside this tile's work: so many bytes per step along K, of each panel
  std::int64_t ahead_step;
  std::int64_t ahead_panel;
  int cols;  // columns of C that exist

  // The first entry of a chunk, which is the end of the one before.
  const std::int64_t* entry(std::int64_t chunk) const {
    return static_cast<const std::int64_t*>(p->entries) + 3 * static_cast<const std::int64_t*>(p->chunks)[chunk];
  }
};

constexpr int kRowsThatFetch = 4;

// Brings a cache line into L2. There need be no memory there.
FP_INLINE void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }

template <class Weight>
using TileFn = void (*)(const Tile<Weight>&) noexcept;

// Products along K that are one turn of the loop. More, beside fetches, gain nothing.
constexpr int kUnrolled = kFetchesAhead ? 2 : 4;

// acc += A x B over the entries of a chunk, whose rows of B follow each other. Rows of A and panels of B are addressed
// from every fourth one's pointer, so that the addresses fit into the general registers. Returns what to fetch next.
template <int kM, int kPanels, bool kFetches, class Weight>
FP_INLINE const char* multiply(const Tile<Weight>& t, std::int64_t chunk, const char* ahead,
                               Vec (&acc)[kM][kPanels * kPanelVectors]) {
  constexpr int kV = kPanels * kPanelVectors;
  constexpr int kGroupsA = (kM + 3) / 4;
  constexpr int kGroupsB = (kPanels + 3) / 4;
  const std::int64_t lda = t.lda;
  const std::int64_t b_panel = t.b_panel;
  const std::int64_t* entry = t.entry(chunk);
  const std::int64_t* const end = t.entry(chunk + 1);
  const float* rows[kGroupsA];
  const Weight* panels[kGroupsB];
  const std::int64_t ahead_step = t.ahead_step;
  const std::int64_t ahead_panel = t.ahead_panel;
  if (entry == end) return ahead;
#pragma GCC unroll 8
  for (int g = 0; g < kGroupsA; ++g) rows[g] = t.a + 4 * g * lda;
#pragma GCC unroll 8
  for (int g = 0; g < kGroupsB; ++g) panels[g] = t.b + entry[2] * kPanel + 4 * g * b_panel;
  std::int64_t at = 0;
  for (; entry != end; entry += 3) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroupsA; ++g) rows[g] += entry[0] - at;
    at = entry[0] + entry[1];
    const Weight* const last = panels[0] + entry[1] * kPanel;
#pragma GCC unroll kUnrolled
    while (panels[0] != last) {
      if constexpr (kFetches) {
#pragma GCC unroll 8
        for (int j = 0; j < kPanels; ++j) prefetch_far(ahead + j * ahead_panel);
        ahead += ahead_step;
        // Behind a load that waits for memory it would come too late, so the compiler may not put it there.
        if constexpr (kM < kRowsThatFetch) asm volatile("" ::: "memory");
      }
      Vec bv[kV];
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) {
        const int panel = j / kPanelVectors;
        bv[j] = load(panels[panel / 4] + panel % 4 * b_panel + j % kPanelVectors * kLanes);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kM; ++i) {
        const Vec av = set1(rows[i / 4][i % 4 * lda]);
#pragma GCC unroll 16
        for (int j = 0; j < kV; ++j) acc[i][j] = fma(av, bv[j], acc[i][j]);
      }
#pragma GCC unroll 8
      for (int g = 0; g < kGroupsA; ++g) ++rows[g];
#pragma GCC unroll 8
      for (int g = 0; g < kGroupsB; ++g) panels[g] += kPanel;
    }
  }
  return ahead;
}

// The columns of vector j of a row of `cols` columns; kFull says that all vectors are whole.
template <bool kFull>
FP_INLINE Vec load_columns(const float* row, int j, int cols) {
  if constexpr (kFull) return load(row + j * kLanes);
  const int valid = cols - j * kLanes;
  return valid >= kLanes ? load(row + j * kLanes) : load(row + j * kLanes, valid > 0 ? valid : 0);
}

template <bool kFull>
FP_INLINE void store_columns(float* row, Vec v, int j, int cols) {
  const int valid = cols - j * kLanes;
  if (kFull || valid >= kLanes) {
    store(row + j * kLanes, v);
  } else if (valid > 0) {
    store(row + j * kLanes, v, valid);
  }
}

// Which columns of a tile exist: all but some of the last panel's. A tile loads and stores the vectors of that panel by
// numbers of lanes that are known before its rows, or their masks would be made anew for each.
template <bool kFull, int kV>
struct Columns {
  int valid[kPanelVectors];

  explicit Columns(int cols) {
#pragma GCC unroll 4
    for (int i = 0; i < kPanelVectors; ++i) {
      const int left = cols - (kV - kPanelVectors + i) * kLanes;
      valid[i] = left < 0 ? 0 : left > kLanes ? kLanes : left;
    }
  }
  static constexpr bool whole(int j) { return kFull || j < kV - kPanelVectors; }
  Vec get(const float* row, int j) const {
    return whole(j) ? load(row + j * kLanes) : load(row + j * kLanes, valid[j - (kV - kPanelVectors)]);
  }
  void put(float* row, int j, Vec v) const {
    if (whole(j)) return store(row + j * kLanes, v);
    store(row + j * kLanes, v, valid[j - (kV - kPanelVectors)]);
  }
};

// The next row. The compiler may not look through the step: it would keep the addresses of all rows in registers.
template <class T>
FP_INLINE void advance(T*& row, std::int64_t step) {
  row += step;
  asm("" : "+r"(row));
}

template <class Weight>
FP_INLINE void activate_rows(const Tile<Weight>& t, int rows) {
  const RowFn activate = kActivationRows[t.p->activation];
  // Narrow rows that follow each other are one: a call for a few columns would cost more than they do.
  const bool one = t.c_step == t.cols;
  const int cols = one ? rows * t.cols : t.cols;
  for (int i = 0; i < (one ? 1 : rows); ++i) {
    activate(t.c + i * t.c_step, t.c + i * t.c_step, cols, t.p->alpha, t.p->beta);
  }
}

// Bias, residual and the cheap activations, one after another on all accumulators, so that each condition is decided
// once per tile.
template <int kM, int kV, class Weight, class Cols>
FP_INLINE void finish(const Tile<Weight>& t, Cols columns, Vec (&acc)[kM][kV]) {
  if (t.bias) {
#pragma GCC unroll 16
    for (int j = 0; j < kV; ++j) {
      const Vec bias = columns.get(t.bias, j);
#pragma GCC unroll 16
      for (int i = 0; i < kM; ++i) acc[i][j] = acc[i][j] + bias;
    }
  }
  if (const float* row = t.residual) {
    const std::int64_t step = t.r_step;
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i, advance(row, step)) {
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) acc[i][j] = acc[i][j] + columns.get(row, j);
    }
  }
  const std::int64_t activation = t.p->activation;
  if (activation == k_relu || activation == k_clip) {
    const Vec low = activation == k_relu ? zero() : set1(t.p->alpha);
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) acc[i][j] = max(low, acc[i][j]);
    }
    if (activation == k_clip) {
      const Vec high = set1(t.p->beta);
#pragma GCC unroll 16
      for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < kV; ++j) acc[i][j] = min(high, acc[i][j]);
      }
    }
  }
}

// Adds the partial sums in C but before the first chunk, finishes the tile after the last one, and stores it.
template <bool kFull, int kM, int kV, class Weight>
FP_INLINE void write(const Tile<Weight>& t, bool first, bool last, Vec (&acc)[kM][kV]) {
  const Columns<kFull, kV> columns(t.cols);
  const std::int64_t step = t.c_step;
  if (!first) {
    const float* row = t.c;
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i, advance(row, step)) {
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) acc[i][j] = columns.get(row, j) + acc[i][j];
    }
  }
  if (last) finish(t, columns, acc);
  float* row = t.c;
#pragma GCC unroll 16
  for (int i = 0; i < kM; ++i, advance(row, step)) {
#pragma GCC unroll 16
    for (int j = 0; j < kV; ++j) columns.put(row, j, acc[i][j]);
  }
  if (last && runs_on_rows(t.p->activation)) activate_rows(t, kM);
}

// Tiles of few rows wait for loads alone: where their weights are near, another one per panel would only keep them.
template <int kM, int kPanels, bool kFetches = kFetchesAhead && kM >= kRowsThatFetch, class Weight>
void tile(const Tile<Weight>& t) noexcept {
  constexpr int kV = kPanels * kPanelVectors;
  const char* ahead = t.ahead;
  for (std::int64_t chunk = t.chunks.begin; chunk < t.chunks.end; ++chunk) {
    Vec acc[kM][kV];
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) acc[i][j] = zero();
    }
    ahead = multiply<kM, kPanels, kFetches>(t, chunk, ahead, acc);
    const bool first = chunk == 0, last = chunk + 1 == t.p->n_chunks;
    if (t.cols == kV * kLanes) {
      write<true>(t, first, last, acc);
    } else {
      write<false>(t, first, last, acc);
    }
  }
}

// sums[q] = the sum of chunk q, for one row; all chunks have the same length.
template <int kChunks, int kPanels, class Weight>
FP_INLINE void sum_chunks(const Tile<Weight>& t, const std::int64_t* entry,
                          Vec (&sums)[kChunks][kPanels * kPanelVectors]) {
  constexpr int kV = kPanels * kPanelVectors;
  const float* a[kChunks];
  const Weight* b[kChunks];
#pragma GCC unroll 16
  for (int q = 0; q < kChunks; ++q) {
    a[q] = t.a + entry[3 * q];
    b[q] = t.b + entry[3 * q + 2] * kPanel;
#pragma GCC unroll 16
    for (int j = 0; j < kV; ++j) sums[q][j] = zero();
  }
  for (std::int64_t k = 0; k < entry[1]; ++k) {
#pragma GCC unroll 16
    for (int q = 0; q < kChunks; ++q) {
      const Vec av = set1(a[q][k]);
#pragma GCC unroll 16
      for (int j = 0; j < kV; ++j) {
        const Weight* row = b[q] + k * kPanel;
        sums[q][j] = fma(av, load(row + j / kPanelVectors * t.b_panel + j % kPanelVectors * kLanes), sums[q][j]);
      }
    }
  }
}

template <int kChunks, int kPanels, class Weight>
FP_INLINE void add_chunks(const Tile<Weight>& t, const std::int64_t* entry, bool first,
                          Vec (&total)[kPanels * kPanelVectors]) {
  constexpr int kV = kPanels * kPanelVectors;
  Vec sums[kChunks][kV];
  sum_chunks<kChunks, kPanels>(t, entry, sums);
#pragma GCC unroll 16
  for (int j = 0; j < kV; ++j) {
    total[j] = first ? sums[0][j] : total[j] + sums[0][j];
#pragma GCC unroll 16
    for (int q = 1; q < kChunks; ++q) total[j] = total[j] + sums[q][j];
  }
}

// One row over all chunks, each of one entry, several chunks in parallel: a single row of a narrow layer has too few
// columns to hide the latency of one chain of additions. The same sums as `tile`, chunk by chunk.
template <int kChunks, int kPanels, class Weight>
void narrow_row(const Tile<Weight>& t, std::int64_t n_chunks) noexcept {
  constexpr int kV = kPanels * kPanelVectors;
  Vec total[1][kV];
#pragma GCC unroll 16
  for (int j = 0; j < kV; ++j) total[0][j] = zero();
  for (std::int64_t c = 0; c < n_chunks;) {
    const std::int64_t* entry = t.entry(c);
    if (c + kChunks <= n_chunks && entry[3 * (kChunks - 1) + 1] == entry[1]) {
      add_chunks<kChunks, kPanels>(t, entry, c == 0, total[0]);
      c += kChunks;
    } else {
      add_chunks<1, kPanels>(t, entry, c == 0, total[0]);
      ++c;
    }
  }
  write<false>(t, true, true, total);
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
