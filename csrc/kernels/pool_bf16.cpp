// SPDX-License-Identifier: Apache-2.0
// Pools between products on matrix tiles: they read and write their operands, one term of bfloat16 (terms.hpp), and
// fold float32 numbers in the order of pool.cpp. Means of whole images are float32 numbers, in the order of reduce.cpp.
#include "lanes.hpp"
#include "near_pair.hpp"
#include "pool_mean.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// The taps of a window that are inside the image, of which there is at least one, and what their sum is divided by.
struct Window {
  const float* p;
  std::int64_t row, rows, cols;
  Divisor divisor;
};

struct MaxPool {
  using Fold = MaxFold;
  FP_INLINE IVec finish(Vec low, Vec high, const Divisor&) { return bits(pair_of(low, high)); }
};

struct AveragePool {
  using Fold = SumFold;
  // No mean of bfloat16 numbers is larger than they are, so that rounding makes no infinity.
  FP_INLINE IVec finish(Vec low, Vec high, const Divisor& d) {
    return near_pair(Divisor::apply(d, low), Divisor::apply(d, high));
  }
};

template <class Pool>
FP_INLINE void pixel(const Window& w, float* out) {
  typename Pool::Fold fold;
  for (int j = 0; j < kPairs; j += kLanes) {
    Vec low = set1(Pool::Fold::kIdentity), high = low;
    for (std::int64_t y = 0; y < w.rows; ++y) {
      const float* p = w.p + y * w.row + j;
      for (std::int64_t x = 0; x < w.cols; ++x, p += kPairs) {
        const IVec words = bits(load(p));
        low = fold.apply(low, from_bits(shift_left<16>(words)));
        high = fold.apply(high, from_bits(high_half(words)));
      }
    }
    store(out + j, from_bits(Pool::finish(low, high, w.divisor)));
  }
}

// One axis of a window: the taps inside the image, and how many count.
struct Taps {
  std::int64_t begin, end, counted;

  Taps(std::int64_t start, std::int64_t taps, std::int64_t size, std::int64_t pad, bool with_pads)
      : begin(max_of(start, 0)),
        end(min_of(start + taps, size)),
        counted(with_pads ? min_of(taps, size + pad - start) : end - begin) {}
};

template <class Pool>
void pool(const KernelArgs& args, Range range) {
  const PoolBf16Params& q = params_of<PoolBf16Params>(args);
  const bool with_pads = q.count_include_pad != 0;
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const std::int64_t oy = i % q.oh, plane = i / q.oh, block = plane % q.blocks, image = plane / q.blocks;
    const float* in = static_cast<const float*>(args.in[0]) + image * q.in_batch + block * q.in_block;
    float* out = static_cast<float*>(args.out) + image * q.out_batch + block * q.out_block + oy * q.out_row;
    const Taps y(oy * q.stride_h - q.pad_top, q.kh, q.ih, q.pad_bottom, with_pads);
    for (std::int64_t ox = 0; ox < q.ow; ++ox) {
      const Taps x(ox * q.stride_w - q.pad_left, q.kw, q.iw, q.pad_right, with_pads);
      const float* p = in + y.begin * q.in_row + x.begin * kPairs;
      pixel<Pool>({p, q.in_row, y.end - y.begin, x.end - x.begin, Divisor(y.counted * x.counted)}, out + ox * kPairs);
    }
  }
}

// A block's sums of pixels, kVirtualLanes of them, in L1 and not in registers so that pixels come in order.
struct Sums {
  alignas(64) float lane[kVirtualLanes][kBlock];

  void add(std::int64_t i, const float* pixel) {
    float* acc = lane[i % kVirtualLanes];
    for (int j = 0; j < kPairs; j += kLanes) {
      const IVec words = bits(load(pixel + j));
      const Vec low = from_bits(shift_left<16>(words)), high = from_bits(high_half(words));
      store(acc + j, i < kVirtualLanes ? low : load(acc + j) + low);
      store(acc + kPairs + j, i < kVirtualLanes ? high : load(acc + kPairs + j) + high);
    }
  }

  void join(std::int64_t count) {
    for (int half = kVirtualLanes / 2; half > 0; half /= 2) {
      for (int k = 0; k < half && k + half < count; ++k) {
        for (int j = 0; j < kBlock; j += kLanes) store(lane[k] + j, load(lane[k] + j) + load(lane[k + half] + j));
      }
    }
  }
};

}  // namespace

void max_pool_bf16(const KernelArgs& args, Range range) noexcept { pool<MaxPool>(args, range); }

void average_pool_bf16(const KernelArgs& args, Range range) noexcept { pool<AveragePool>(args, range); }

void mean_bf16(const KernelArgs& args, Range range) noexcept {
  const MeanBf16Params& q = params_of<MeanBf16Params>(args);
  const std::int64_t count = q.h * q.w;
  const Vec divisor = set1(static_cast<float>(count));
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const std::int64_t block = i % q.blocks, image = i / q.blocks, valid = min_of(kBlock, q.c - block * kBlock);
    const float* in = static_cast<const float*>(args.in[0]) + image * q.in_batch + block * q.in_block;
    float* out = static_cast<float*>(args.out) + image * q.out_batch + block * kBlock;
    Sums sums;
    for (std::int64_t y = 0, k = 0; y < q.h; ++y) {
      for (std::int64_t x = 0; x < q.w; ++x, ++k) sums.add(k, in + y * q.in_row + x * kPairs);
    }
    sums.join(count);
    for (int j = 0; j < valid; j += kLanes) {
      const Vec mean = load(sums.lane[0] + j) / divisor;
      valid - j >= kLanes ? store(out + j, mean) : store(out + j, mean, static_cast<int>(valid - j));
    }
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
