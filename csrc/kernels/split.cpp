// SPDX-License-Identifier: Apache-2.0
// Operands of brgemm_split_f32 as terms of bfloat16.
#include "terms.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

FP_INLINE void clear(float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kLanes) store(out + i, zero());
}

// What the numbers of a channel become before they are split: nothing else where there is no `scale`.
struct Change {
  const SplitParams* p;
  const float* scale;
  const float* shift;  // or null

  Change at(std::int64_t c) const { return {p, scale ? scale + c : nullptr, shift ? shift + c : nullptr}; }

  FP_INLINE Vec apply(const Change& t, Vec x, int i, std::int64_t valid) {
    const Vec scale = load_valid(t.scale + i, valid - i);
    if (!t.shift) return x * scale;
    x = fma(x, scale, load_valid(t.shift + i, valid - i));
    if (t.p->activation == k_relu) return max(zero(), x);
    if (t.p->activation == k_clip) return min(set1(t.p->beta), max(set1(t.p->alpha), x));
    return x;
  }
};

// A block of `valid` numbers; one function for all that split them.
[[gnu::noinline]] void change_block(const Change& change, const float* in, std::int64_t valid, float* out) noexcept {
  for (int i = 0; i < kBlock; i += kLanes) {
    store(out + i, Change::apply(change, load_valid(in + i, valid - i), i, valid));
  }
}

template <int kTerms>
FP_INLINE void split_block(const float* in, const Change& change, std::int64_t valid, float* out) {
  float changed[kBlock];
  if (change.scale) change_block(change, in, valid, changed);
  store_block<kTerms>(change.scale ? changed : in, valid, out, kPairs);
}

// `plane` is the distance from one block of channels to the next.
template <int kTerms>
void split_row(const SplitParams& p, bool inside, const float* in, const Change& all, float* out, std::int64_t plane) {
  constexpr std::int64_t kPixel = kTerms * kPairs;
  for (std::int64_t c = 0; c < p.c; c += kBlock, out += plane) {
    const std::int64_t valid = min_of(kBlock, p.c - c);
    if (!inside) {
      clear(out, (p.pad_left + p.w + p.pad_right) * kPixel);
      continue;
    }
    clear(out, p.pad_left * kPixel);
    clear(out + (p.pad_left + p.w) * kPixel, p.pad_right * kPixel);
    if (p.border_only) continue;
    const float* from = in + c;
    const Change change = all.at(c);
    float* to = out + p.pad_left * kPixel;
    if (valid == kBlock) {
      for (std::int64_t x = 0; x < p.w; ++x, from += p.in_col, to += kPixel) {
        split_block<kTerms>(from, change, kBlock, to);
      }
    } else {
      for (std::int64_t x = 0; x < p.w; ++x, from += p.in_col, to += kPixel) {
        split_block<kTerms>(from, change, valid, to);
      }
    }
  }
}

template <int kTerms>
void split(const KernelArgs& args, const SplitParams& p, Range range) {
  const float *const in = static_cast<const float*>(args.in[0]), *const scale = static_cast<const float*>(args.in[1]);
  float* const out = static_cast<float*>(args.out);
  const std::int64_t height = p.pad_top + p.h + p.pad_bottom;
  const std::int64_t row = (p.pad_left + p.w + p.pad_right) * kTerms * kPairs;
  const std::int64_t image = (p.c + kBlock - 1) / kBlock * height * row;
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t n = u / height, y = u % height - p.pad_top;
    const bool inside = y >= 0 && y < p.h;
    const float* from = inside && !p.border_only ? in + n * p.in_batch + y * p.in_row : nullptr;
    const Change change = {&p, scale ? scale + n * p.factor_batch : nullptr, static_cast<const float*>(args.in[2])};
    split_row<kTerms>(p, inside, from, change, out + n * image + u % height * row, height * row);
  }
}

FP_INLINE Vec column_of(const float* p, std::int64_t step, int valid) {
  if (valid < kLanes) {
    alignas(64) float block[kLanes] = {};
    for (int i = 0; i < valid; ++i) block[i] = p[i * step];
    return load(block);
  }
  return step == 1 ? load(p) : gather(p, step);
}

// A row of pixels of up to four channels, two words each.
void split_pixels(const SplitParams& p, bool inside, const float* in, float* out) {
  const auto zeros = [](float* at, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) at[i] = 0.0f;
  };
  if (!inside) return zeros(out, 2 * (p.pad_left + p.w + p.pad_right));
  zeros(out, 2 * p.pad_left);
  out += 2 * p.pad_left;
  zeros(out + 2 * p.w, 2 * p.pad_right);
  for (std::int64_t x = 0; x < p.w; x += kLanes, in += kLanes * p.in_col, out += 2 * kLanes) {
    const int valid = static_cast<int>(min_of(kLanes, p.w - x));
    alignas(64) float words[2][kLanes];
    for (int pair = 0; pair < 2; ++pair) {
      Vec term[2];
      for (int i = 0; i < 2; ++i) {
        const int channel = 2 * pair + i;
        Vec rest;
        term[i] = channel < p.c ? first_term(column_of(in + channel * p.in_channel, p.in_col, valid), rest) : zero();
      }
      store(words[pair], pair_of(term[0], term[1]));
    }
    for (int i = 0; i < valid; ++i) {
      out[2 * i] = words[0][i];
      out[2 * i + 1] = words[1][i];
    }
  }
}

void split_pixels(const SplitParams& p, const float* in, float* out, Range range) {
  const std::int64_t height = p.pad_top + p.h + p.pad_bottom, row = 2 * (p.pad_left + p.w + p.pad_right);
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t n = u / height, y = u % height - p.pad_top;
    const bool inside = y >= 0 && y < p.h;
    split_pixels(p, inside, inside ? in + n * p.in_batch + y * p.in_row : nullptr, out + u * row);
  }
}

// Up to kBlock rows and kPairs columns of B, filled up with zeros; one function for any number of terms.
[[gnu::noinline]] void load_block(const PackSplitParams& p, const float* in, std::int64_t rows, std::int64_t cols,
                                  float* block) noexcept {
  if (rows < kBlock || cols < kPairs) clear(block, kBlock * kPairs);
  for (std::int64_t j = 0; j < cols; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) block[i * kPairs + j] = in[i * p.in_k + j * p.in_n];
  }
}

template <int kTerms>
constexpr std::int64_t kPackedWords = (kTerms ? kTerms : 2) * kTileWords;  // of a block of B

// Panel `panel` of B: blocks of 32 rows become tiles of 16 rows of pairs.
template <int kTerms>
void pack_panel(const PackSplitParams& p, const float* in, float* out, std::int64_t panel) {
  const std::int64_t cols = min_of(kPairs, p.n - panel * kPairs);
  in += panel * kPairs * p.in_n;
  float block[kBlock * kPairs];
  for (std::int64_t k = 0; k < p.k; k += kBlock) {
    for (std::int64_t tap = 0; tap < p.taps; ++tap, out += kPackedWords<kTerms>) {
      if constexpr (kTerms == 0) {
        load_block(p, in + k * p.in_k + tap * p.in_tap, min_of(kBlock, p.k - k), cols, out);
        continue;
      }
      load_block(p, in + k * p.in_k + tap * p.in_tap, min_of(kBlock, p.k - k), cols, block);
      for (int word = 0; word < kTileWords; word += kLanes) {
        store_terms<kTerms>(load(block + word), load(block + kTileWords + word), out + word, kTileWords);
      }
    }
  }
}

template <int kTerms>
void pack(const PackSplitParams& p, const float* in, float* out, Range range) {
  const std::int64_t size = p.taps * ((p.k + kBlock - 1) / kBlock) * kPackedWords<kTerms>;
  for (std::int64_t u = range.begin; u < range.end; ++u) pack_panel<kTerms>(p, in, out + u * size, u);
}

}  // namespace

void split_f32(const KernelArgs& args, Range range) noexcept {
  const SplitParams& p = params_of<SplitParams>(args);
  if (p.pixels) return split_pixels(p, static_cast<const float*>(args.in[0]), static_cast<float*>(args.out), range);
  if (p.terms == 3) return split<3>(args, p, range);
  if (p.terms == 2) return split<2>(args, p, range);
  split<1>(args, p, range);
}

void pack_split_f32(const KernelArgs& args, Range range) noexcept {
  const PackSplitParams& p = params_of<PackSplitParams>(args);
  const float* in = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  if (p.terms == 3) return pack<3>(p, in, out, range);
  if (p.terms == 2) return pack<2>(p, in, out, range);
  if (p.terms == 0) return pack<0>(p, in, out, range);
  pack<1>(p, in, out, range);
}

}  // namespace forwardpass::FORWARDPASS_ISA
