// SPDX-License-Identifier: Apache-2.0
// planes_f32: convolution with few outputs. Vectors run along a row of the output, so that no lane is idle, over rows
// of the image that are kept as planes. The sums are those of brgemm_f32, in the same order.
#include "kernels.hpp"
#include "transpose.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kMostVectors = kLanes == 1 ? 2 : 8;
constexpr int kMostOutputs = kRegisters < 32 ? 4 : 8;

// Vectors of columns of a tile of so many outputs, with which sums, columns and a weight fit into the registers.
constexpr int vectors_for(int outputs) {
  if (outputs == 1 || kLanes == 1) return kMostVectors;
  return kRegisters < 32 ? 2 : outputs == 4 ? 6 : 3;
}

struct Planes {
  const PlanesParams& p;
  float* ring;  // rows of the image, row y at y % kh: planes of columns x0 + phase, x0 + phase + stride_w, ...
  float* line;  // sums of a row of the output, of at most kMostOutputs outputs

  std::int64_t plane_row() const { return p.stride_w * p.c * p.length; }
  std::int64_t line_step() const { return p.length; }

  // One row of the image, as far as `cols` windows reach.
  [[gnu::noinline]] void fill(const float* in, float* to, std::int64_t cols) const {
    const std::int64_t last = (cols - 1) * p.stride_w + p.kw - 1;
    for (std::int64_t phase = 0; phase <= last && phase < p.stride_w; ++phase) {
      const float* from = in + phase * p.in_col;
      const std::int64_t step = p.stride_w * p.in_col, count = (last - phase) / p.stride_w + 1;
      if (p.c > 1 && p.in_channel == 1) {
        for (std::int64_t i = 0; i < count; i += kLanes) turn(from + i * step, step, count - i, to + i);
      } else {
        for (std::int64_t c = 0; c < p.c; ++c) pick(from + c * p.in_channel, step, count, to + c * p.length);
      }
      to += p.c * p.length;
    }
  }

  // A vector of columns of every channel, of pixels.
  void turn(const float* from, std::int64_t step, std::int64_t count, float* to) const {
    for (std::int64_t c = 0; c < p.c; c += kLanes, to += kLanes * p.length) {
      const int channels = static_cast<int>(min_of(kLanes, p.c - c));
      Vec v[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) v[i] = i < count ? load(from + i * step + c, channels) : zero();
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        if (i < channels) store(to + i * p.length, v[i]);
      }
    }
  }

  // A row of one channel.
  static void pick(const float* from, std::int64_t step, std::int64_t count, float* to) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(to + i, step == 1 ? load(from + i) : gather(from + i * step, step));
    for (; i < count; ++i) to[i] = from[i * step];
  }

  // The sums of kVectors vectors of columns from `column` on, for kOutputs outputs of the row whose windows begin at
  // row `y` of the image. Weights: [k][p.columns].
  template <int kOutputs, int kVectors>
  void sum(std::int64_t y, std::int64_t column, const float* weights) const {
    const std::int64_t taps = p.kw * p.c, all = p.kh * taps;
    for (int o = 0; o < kOutputs; ++o) {  // the zero that changes no sum
      for (int v = 0; v < kVectors; ++v) store(line + o * line_step() + column + v * kLanes, set1(-0.0f));
    }
    for (std::int64_t k = 0; k < all;) {
      const std::int64_t end = min_of(all, k + p.chunk);
      Vec acc[kOutputs][kVectors];
      for (auto& row : acc) {
        for (Vec& v : row) v = zero();
      }
      while (k < end) {
        const std::int64_t ky = k / taps, first = k - ky * taps, count = min_of(taps - first, end - k);
        const float* const row = ring + (y + ky) % p.kh * plane_row() + column;
        const std::int64_t* offset = static_cast<const std::int64_t*>(p.offsets) + first;
        for (std::int64_t i = 0; i < count; ++i, weights += p.columns) {
          Vec x[kVectors];
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) x[v] = load(row + offset[i] + v * kLanes);
#pragma GCC unroll 8
          for (int o = 0; o < kOutputs; ++o) {
            const Vec w = set1(weights[o]);
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) acc[o][v] = fma(x[v], w, acc[o][v]);
          }
        }
        k += count;
      }
#pragma GCC unroll 8
      for (int o = 0; o < kOutputs; ++o) {
        float* const to = line + o * line_step() + column;
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) store(to + v * kLanes, load(to + v * kLanes) + acc[o][v]);
      }
    }
  }

  // The same for all `vectors` vectors of a row from `first` on. The last ones overlap those before where no tile fits.
  template <int kOutputs, int kVectors = vectors_for(kOutputs)>
  void sum_row(std::int64_t y, std::int64_t first, std::int64_t vectors, const float* weights) const {
    for (; first + kVectors <= vectors; first += kVectors) sum<kOutputs, kVectors>(y, first * kLanes, weights);
    if (first == vectors) return;
    if constexpr (kVectors > 2) {
      if (first + kVectors / 2 >= vectors) return sum_row<kOutputs, kVectors / 2>(y, first, vectors, weights);
    }
    sum<kOutputs, kVectors>(y, max_of(vectors - kVectors, 0) * kLanes, weights);
  }

  // Bias and activation of some outputs, which then take their places.
  [[gnu::noinline]] void finish(std::int64_t first, std::int64_t outputs, std::int64_t cols, float* out) const {
    for (std::int64_t o = 0; o < outputs; ++o) {
      float* const sums = line + o * line_step();
      if (p.bias) {
        const Vec bias = set1(static_cast<const float*>(p.bias)[first + o]);
        for (std::int64_t x = 0; x < cols; x += kLanes) store(sums + x, load(sums + x) + bias);
      }
      if (p.activation != kNone) kActivationRows[p.activation](sums, sums, cols, p.alpha, p.beta);
    }
    for (std::int64_t x = 0; x < cols; ++x) {
      for (std::int64_t o = 0; o < outputs; ++o) out[x * p.out_col + first + o] = line[o * line_step() + x];
    }
  }

  void row(std::int64_t y, std::int64_t cols, float* out) const {
    const std::int64_t vectors = (cols + kLanes - 1) / kLanes;
    for (std::int64_t first = 0, outputs = 0; first < p.n; first += outputs) {
      const float* const weights = static_cast<const float*>(p.b) + first;
      outputs = p.n - first == 1 ? 1 : p.n - first <= 4 ? 4 : kMostOutputs;
      if (outputs == 1) {
        sum_row<1>(y, 0, vectors, weights);
      } else if (outputs == 4) {
        sum_row<4>(y, 0, vectors, weights);
      } else {
        sum_row<kMostOutputs>(y, 0, vectors, weights);
      }
      finish(first, min_of(outputs, p.n - first), cols, out);
    }
  }
};

}  // namespace

void planes_f32(const KernelArgs& args, Range range) noexcept {
  const PlanesParams& p = params_of<PlanesParams>(args);
  const std::int64_t blocks = (p.ow + p.block - 1) / p.block;
  // The workspace has a part for every thread. It is an input only to the plan.
  float* const workspace = const_cast<float*>(static_cast<const float*>(args.in[1])) + range.part * p.workspace;
  const Planes planes{p, workspace, workspace + p.kh * p.stride_w * p.c * p.length};
  std::int64_t kept = 0;  // rows of the image above this one are in the ring, as far as it goes
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) {
    const std::int64_t image = unit / p.oh / blocks, x = unit / p.oh % blocks * p.block, y = unit % p.oh;
    const std::int64_t cols = min_of(p.block, p.ow - x), top = y * p.stride_h;
    const float* const in = static_cast<const float*>(args.in[0]) + image * p.in_batch + x * p.stride_w * p.in_col;
    if (unit == range.begin || y == 0) kept = top;
    for (kept = max_of(kept, top); kept < top + p.kh; ++kept) {
      planes.fill(in + kept * p.in_row, planes.ring + kept % p.kh * planes.plane_row(), cols);
    }
    planes.row(top, cols, static_cast<float*>(args.out) + image * p.out_batch + y * p.out_row + x * p.out_col);
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
