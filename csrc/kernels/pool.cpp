// SPDX-License-Identifier: Apache-2.0
// MaxPool and AveragePool on NHWC images. A window folds its taps inside the image row by row, so the order
// of operations depends on the place of the window alone. Vectors run over channels, which every tap has
// dense.
#include "lanes.hpp"
#include "pool_mean.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kPixels = 4;  // windows of one row computed side by side: with kVecs, eight folds are in flight
constexpr int kVecs = 2;

// The taps of a window that are inside the image: first tap, distances of taps, and how many.
struct Window {
  const float* p;
  std::int64_t row;
  std::int64_t col;
  std::int64_t rows;
  std::int64_t cols;
};

// `empty` is the value of a window without a tap inside the image, of which `taps` count: nothing is at most
// minus infinity, and a mean of nothing is not a number.
struct MaxPool {
  using Fold = MaxFold;
  FP_INLINE float empty(std::int64_t) { return MaxFold::kIdentity; }
  FP_INLINE Vec finish(Vec a, const Divisor&) { return a; }
  static constexpr bool kAnyOrder = true;  // of the taps
};

struct AveragePool {
  using Fold = SumFold;
  FP_INLINE float empty(std::int64_t taps) { return 0.0f / static_cast<float>(taps); }
  FP_INLINE Vec finish(Vec a, const Divisor& d) { return Divisor::apply(d, a); }
  static constexpr bool kAnyOrder = false;
};

// kP windows `step` apart, kV vectors of channels. kTaps > 0: the window has kTaps x kTaps taps, known here
// so that the loops unroll. `lanes` < kLanes masks the only vector (kV = 1).
template <class Pool, int kTaps, int kP, int kV, bool kMasked>
FP_INLINE void block(const Window& w, std::int64_t step, const Divisor& d, float* out, std::int64_t out_step,
                     int lanes) {
  const std::int64_t rows = kTaps ? kTaps : w.rows;
  const std::int64_t cols = kTaps ? kTaps : w.cols;
  const auto tap = [=](std::int64_t i, int p, int v) __attribute__((always_inline)) {
    const float* x = w.p + i + p * step + v * kLanes;
    return kMasked ? load(x, lanes) : load(x);
  };
  Vec acc[kP][kV];
#pragma GCC unroll 4
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < kV; ++v) acc[p][v] = tap(0, p, v);
  }
#pragma GCC unroll 3
  for (std::int64_t y = 0; y < rows; ++y) {
#pragma GCC unroll 3
    for (std::int64_t x = y == 0; x < cols; ++x) {
#pragma GCC unroll 4
      for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 2
        for (int v = 0; v < kV; ++v) acc[p][v] = Pool::Fold::apply(acc[p][v], tap(y * w.row + x * w.col, p, v));
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < kV; ++v) {
      const Vec y = Pool::finish(acc[p][v], d);
      float* q = out + p * out_step + v * kLanes;
      kMasked ? store(q, y, lanes) : store(q, y);
    }
  }
}

// kP windows of 3 x 3 taps, kStep columns apart: the largest of each column first, as windows share columns. A vector
// of channels.
template <int kStep, int kP, bool kMasked>
FP_INLINE void shared_block(const Window& w, float* out, std::int64_t out_step, int lanes) {
  Vec columns[(kP - 1) * kStep + 3];
#pragma GCC unroll 9
  for (int x = 0; x < (kP - 1) * kStep + 3; ++x) {
    const float* const p = w.p + x * w.col;
    const auto tap = [=](int y) __attribute__((always_inline)) {
      return kMasked ? load(p + y * w.row, lanes) : load(p + y * w.row);
    };
    columns[x] = MaxFold::apply(MaxFold::apply(tap(0), tap(1)), tap(2));
  }
#pragma GCC unroll 4
  for (int i = 0; i < kP; ++i) {
    const Vec* const c = columns + i * kStep;
    const Vec y = MaxFold::apply(MaxFold::apply(c[0], c[1]), c[2]);
    kMasked ? store(out + i * out_step, y, lanes) : store(out + i * out_step, y);
  }
}

template <int kStep, int kP>
void shared_pixels(Window w, float* out, std::int64_t out_step, std::int64_t channels) {
  std::int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes, w.p += kLanes) {
    shared_block<kStep, kP, false>(w, out + c, out_step, kLanes);
  }
  if (c < channels) shared_block<kStep, kP, true>(w, out + c, out_step, static_cast<int>(channels - c));
}

// `count` of them.
template <int kStep>
void run_shared(Window w, float* out, std::int64_t out_step, std::int64_t count, std::int64_t channels) {
  std::int64_t i = 0;
  for (; i + kPixels <= count; i += kPixels, w.p += kPixels * kStep * w.col, out += kPixels * out_step) {
    shared_pixels<kStep, kPixels>(w, out, out_step, channels);
  }
  for (; i < count; ++i, w.p += kStep * w.col, out += out_step) {
    shared_pixels<kStep, 1>(w, out, out_step, channels);
  }
}

// All channels of kP windows.
template <class Pool, int kTaps, int kP>
FP_INLINE void pixels(Window w, std::int64_t step, const Divisor& d, float* out, std::int64_t out_step,
                      std::int64_t channels) {
  std::int64_t c = 0;
  for (; c + kVecs * kLanes <= channels; c += kVecs * kLanes, w.p += kVecs * kLanes) {
    block<Pool, kTaps, kP, kVecs, false>(w, step, d, out + c, out_step, kLanes);
  }
  for (; c + kLanes <= channels; c += kLanes, w.p += kLanes) {
    block<Pool, kTaps, kP, 1, false>(w, step, d, out + c, out_step, kLanes);
  }
  if (c < channels) {
    block<Pool, kTaps, kP, 1, true>(w, step, d, out + c, out_step, static_cast<int>(channels - c));
  }
}

// `count` windows of the same number of taps.
template <class Pool, int kTaps>
void run(Window w, std::int64_t step, const Divisor& d, float* out, std::int64_t out_step, std::int64_t count,
         std::int64_t channels) {
  std::int64_t i = 0;
  for (; i + kPixels <= count; i += kPixels, w.p += kPixels * step, out += kPixels * out_step) {
    pixels<Pool, kTaps, kPixels>(w, step, d, out, out_step, channels);
  }
  for (; i < count; ++i, w.p += step, out += out_step) {
    pixels<Pool, kTaps, 1>(w, step, d, out, out_step, channels);
  }
}

void fill(float* out, std::int64_t n, float value) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = value;
}

// One axis of a window: tap i is at `start` + i * `dilation`. Taps first .. last - 1 are inside the image,
// and `padded` of all are inside the image with its pads; ceil mode makes windows that reach further still.
struct Taps {
  std::int64_t first;
  std::int64_t last;
  std::int64_t padded;
};

std::int64_t taps_below(std::int64_t start, std::int64_t dilation, std::int64_t taps, std::int64_t limit) {
  return start >= limit ? 0 : min_of(taps, (limit - start - 1) / dilation + 1);
}

Taps taps_of(std::int64_t start, std::int64_t dilation, std::int64_t taps, std::int64_t size, std::int64_t pad) {
  Taps t;
  t.first = taps_below(start, dilation, taps, 0);
  t.last = taps_below(start, dilation, taps, size);
  t.padded = taps_below(start, dilation, taps, size + pad);
  return t;
}

template <class Pool>
struct Row {
  const PoolParams& q;
  const float* in;  // of the image
  float* out;       // of the row
  Taps y;
  std::int64_t top;

  Window window(std::int64_t left, const Taps& x) const {
    const std::int64_t row = q.dilation_h * q.in_row;
    const std::int64_t col = q.dilation_w * q.in_col;
    const float* p = in + (top * q.in_row + y.first * row) + (left * q.in_col + x.first * col);
    return {p, row, col, y.last - y.first, x.last - x.first};
  }

  // Windows ox .. ox + count - 1, whose taps on the x axis are those of ox.
  void windows(std::int64_t ox, std::int64_t count) const {
    const std::int64_t left = ox * q.stride_w - q.pad_left;
    const Taps x = taps_of(left, q.dilation_w, q.kw, q.iw, q.pad_right);
    float* to = out + ox * q.out_col;
    const Window w = window(left, x);
    const std::int64_t counted = q.count_include_pad ? y.padded * x.padded : w.rows * w.cols;
    if (w.rows == 0 || w.cols == 0) {
      for (std::int64_t i = 0; i < count; ++i) fill(to + i * q.out_col, q.c, Pool::empty(counted));
      return;
    }
    const Divisor d(counted);
    const std::int64_t step = q.stride_w * q.in_col;
    const bool threes = w.rows == 3 && w.cols == 3;
    if (w.rows == 2 && w.cols == 2) {
      run<Pool, 2>(w, step, d, to, q.out_col, count, q.c);
    } else if (Pool::kAnyOrder && threes && step == w.col) {
      run_shared<1>(w, to, q.out_col, count, q.c);
    } else if (Pool::kAnyOrder && threes && step == 2 * w.col) {
      run_shared<2>(w, to, q.out_col, count, q.c);
    } else if (threes) {
      run<Pool, Pool::kAnyOrder ? 0 : 3>(w, step, d, to, q.out_col, count, q.c);
    } else {
      run<Pool, 0>(w, step, d, to, q.out_col, count, q.c);
    }
  }
};

// Whole windows are all alike; the clipped ones at the left and the right are computed one by one.
template <class Pool>
void pool(const KernelArgs& args, Range range) {
  const PoolParams& q = params_of<PoolParams>(args);
  const std::int64_t reach = q.iw - 1 - (q.kw - 1) * q.dilation_w + q.pad_left;
  const std::int64_t whole_end = reach < 0 ? 0 : min_of(q.ow, reach / q.stride_w + 1);
  const std::int64_t whole_begin = min_of(whole_end, (q.pad_left + q.stride_w - 1) / q.stride_w);
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const std::int64_t batch = i / q.oh;
    const std::int64_t oy = i % q.oh;
    const std::int64_t top = oy * q.stride_h - q.pad_top;
    const Row<Pool> row{q, static_cast<const float*>(args.in[0]) + batch * q.in_batch,
                        static_cast<float*>(args.out) + batch * q.out_batch + oy * q.out_row,
                        taps_of(top, q.dilation_h, q.kh, q.ih, q.pad_bottom), top};
    for (std::int64_t ox = 0; ox < whole_begin; ++ox) row.windows(ox, 1);
    if (whole_begin < whole_end) row.windows(whole_begin, whole_end - whole_begin);
    for (std::int64_t ox = whole_end; ox < q.ow; ++ox) row.windows(ox, 1);
  }
}

}  // namespace

void max_pool_f32(const KernelArgs& args, Range range) noexcept { pool<MaxPool>(args, range); }

void average_pool_f32(const KernelArgs& args, Range range) noexcept { pool<AveragePool>(args, range); }

}  // namespace forwardpass::FORWARDPASS_ISA
