// SPDX-License-Identifier: Apache-2.0
// Keys and values as panels: of float32 numbers, or of pairs of bfloat16 numbers.
#include "terms.hpp"
#include "transpose.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// kLanes columns of a panel of kStep, of which `left` exist. Where their elements follow each other along K, they are
// read in squares that are transposed in registers.
template <int kStep>
void pack_columns(const PackHeadsParams& p, const float* in, float* out, int left) {
  std::int64_t k = 0;
  if (p.in_n == 1) {
    for (; k < p.k && left >= kLanes; ++k) store(out + k * kStep, load(in + k * p.in_k));
    for (; k < p.k; ++k) store(out + k * kStep, load(in + k * p.in_k, left > 0 ? left : 0));
    return;
  }
  if (p.in_k == 1) {
    for (; k + kLanes <= p.k; k += kLanes) {
      Vec v[kLanes];
      for (int i = 0; i < kLanes; ++i) v[i] = i < left ? load(in + i * p.in_n + k) : zero();
      transpose(v);
      for (int i = 0; i < kLanes; ++i) store(out + (k + i) * kStep, v[i]);
    }
  }
  for (; k < p.k; ++k) {
    for (int i = 0; i < kLanes; ++i) out[k * kStep + i] = i < left ? in[i * p.in_n + k * p.in_k] : 0.0f;
  }
}

// A tile of words with its rows as columns. Of its rows `valid` exist.
void transpose_words(const float* in, std::int64_t row, std::int64_t valid, float* out) {
  for (int i = 0; i < kPairs; i += kLanes) {
    for (int j = 0; j < kPairs; j += kLanes) {
      Vec v[kLanes];
      for (int r = 0; r < kLanes; ++r) v[r] = i + r < valid ? load(in + (i + r) * row + j) : zero();
      transpose(v);
      for (int r = 0; r < kLanes; ++r) store(out + (j + r) * kPairs + i, v[r]);
    }
  }
}

// A tile of the low or the high halves of rows of words: rows r and r + 16 become pairs.
void join_words(const float* in, std::int64_t row, std::int64_t valid, bool high, float* out) {
  for (int i = 0; i < kPairs; ++i) {
    for (int j = 0; j < kPairs; j += kLanes, out += kLanes) {
      IVec a = bits(i < valid ? load(in + i * row + j) : zero());
      IVec b = bits(i + kPairs < valid ? load(in + (i + kPairs) * row + j) : zero());
      store(out, from_bits(high ? upper_halves(a, b) : upper_halves(shift_left<16>(a), shift_left<16>(b))));
    }
  }
}

// A panel of an operand: of keys, whose elements follow each other, or of elements of values.
void pack_words(const PackHeadsParams& p, const float* in, std::int64_t panel, float* out) {
  const bool keys = p.in_k == 1;
  if (keys) {
    in += panel * kPairs * p.in_n;
  } else {
    in += panel / 2 * p.in_block;
  }
  for (std::int64_t k = 0; k < p.k; k += kBlock, out += kTileWords) {
    if (keys) {
      transpose_words(in + k / kBlock * p.in_block, p.in_n, p.n - panel * kPairs, out);
    } else {
      join_words(in + k * p.in_k, p.in_k, p.k - k, panel % 2, out);
    }
  }
}

}  // namespace

void pack_heads_f32(const KernelArgs& args, Range range) noexcept {
  const PackHeadsParams& p = params_of<PackHeadsParams>(args);
  const std::int64_t panels = (p.n + kPanel - 1) / kPanel;
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t image = u / panels, first = u % panels * kPanel;
    const int cols = static_cast<int>(min_of(kPanel, p.n - first));
    const float* in = static_cast<const float*>(args.in[0]) + image / p.groups * p.in_batch +
                      image % p.groups * p.in_group + first * p.in_n;
    float* out = static_cast<float*>(args.out) + u * p.k * kPanel;
    for (int j = 0; j < kPanel; j += kLanes) pack_columns<kPanel>(p, in + j * p.in_n, out + j, cols - j);
  }
}

void pack_heads_bf16(const KernelArgs& args, Range range) noexcept {
  const PackHeadsParams& p = params_of<PackHeadsParams>(args);
  const std::int64_t panels = (p.n + kPairs - 1) / kPairs, blocks = (p.k + kBlock - 1) / kBlock;
  alignas(64) float rows[kBlock * kPairs];
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t image = u / panels, first = u % panels * kPairs;
    const int cols = static_cast<int>(min_of(kPairs, p.n - first));
    const float* in =
        static_cast<const float*>(args.in[0]) + image / p.groups * p.in_batch + image % p.groups * p.in_group;
    float* out = static_cast<float*>(args.out) + u * blocks * kTileWords;
    if (p.in_block) {
      pack_words(p, in, u % panels, out);
      continue;
    }
    in += first * p.in_n;
    for (std::int64_t k = 0; k < p.k; k += kBlock) {
      PackHeadsParams part = p;
      part.k = min_of(kBlock, p.k - k);
      for (std::int64_t i = part.k * kPairs; i < kBlock * kPairs; i += kLanes) store(rows + i, zero());
      for (int j = 0; j < kPairs; j += kLanes) {
        pack_columns<kPairs>(part, in + k * p.in_k + j * p.in_n, rows + j, cols - j);
      }
      for (int i = 0; i < kPairs * kPairs; i += kLanes, out += kLanes) {
        store_terms<1>(load(rows + i), load(rows + kPairs * kPairs + i), out, kLanes);
      }
    }
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
