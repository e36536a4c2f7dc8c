// SPDX-License-Identifier: Apache-2.0
// roi_align_f32: the mean or the largest of bilinear samples in the bins of regions that come from data. Places are
// computed in double, where as many samples are taken, and inside the image, as should be.
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kChannels = 16;                     // computed side by side
constexpr double kMostSamples = 1024.0 * 1024.0;  // of a bin along one axis: more is no region of an image

// A bin along one axis.
struct Bin {
  double start;
  double step;  // between samples
  std::int64_t samples;
};

// The two pixels beside a sample, and their weights, which are 0 outside of the image.
struct Pair {
  std::int64_t place[2];
  double weight[2];
};

Pair pair_at(const Bin& bin, std::int64_t sample, std::int64_t size) {
  double x = bin.start + (static_cast<double>(sample) + 0.5) * bin.step;
  const double n = static_cast<double>(size);
  const double valid = x >= -1 && x <= n ? 1 : 0;
  x = valid == 0 || x < 0 ? 0 : x > n - 1 ? n - 1 : x;
  const std::int64_t low = min_of(static_cast<std::int64_t>(x), size - 1);
  const double part = x - static_cast<double>(low);
  return {{low, min_of(low + 1, size - 1)}, {(1 - part) * valid, part * valid}};
}

// Bin i of `count` of a region; no samples and false where there is no such region.
bool bin_of(const RoiAlignParams& p, float from, float to, std::int64_t i, std::int64_t count, Bin& bin) {
  const double shift = p.half_pixel ? 0.5 : 0;
  const double first = static_cast<double>(from) * static_cast<double>(p.scale) - shift;
  double extent = static_cast<double>(to) * static_cast<double>(p.scale) - shift - first;
  if (!p.half_pixel && extent < 1) extent = 1;
  const double size = extent / static_cast<double>(count);
  double samples = p.ratio ? static_cast<double>(p.ratio) : __builtin_ceil(size);
  if (!(first - first == 0) || !(samples <= kMostSamples)) return false;
  if (samples < 0) samples = 0;
  bin.samples = static_cast<std::int64_t>(samples);
  bin.start = first + static_cast<double>(i) * size;
  bin.step = bin.samples ? size / samples : 0;
  return true;
}

struct Sums {
  float value[kChannels];

  void add(const float* in, std::int64_t plane, float weight, int n) {
    for (int c = 0; c < n; ++c) value[c] += weight * in[c * plane];
  }
  void raise(const float* in, std::int64_t plane, float weight, int n, bool first) {
    for (int c = 0; c < n; ++c) {
      const float x = weight * in[c * plane];
      value[c] = !first && (value[c] != value[c] || value[c] > x) ? value[c] : x;
    }
  }
};

// One bin of some channels.
Sums bin_sums(const RoiAlignParams& p, const float* in, const Bin& rows, const Bin& columns, int n) {
  Sums sums = {};
  const std::int64_t plane = p.height * p.width;
  bool first = true;
  for (std::int64_t i = 0; i < rows.samples; ++i) {
    const Pair y = pair_at(rows, i, p.height);
    for (std::int64_t j = 0; j < columns.samples; ++j) {
      const Pair x = pair_at(columns, j, p.width);
      for (int k = 0; k < 4; ++k) {
        const float* from = in + y.place[k / 2] * p.width + x.place[k % 2];
        const float weight = static_cast<float>(y.weight[k / 2] * x.weight[k % 2]);
        p.largest ? sums.raise(from, plane, weight, n, first) : sums.add(from, plane, weight, n);
        first = false;
      }
    }
  }
  return sums;
}

}  // namespace

void roi_align_f32(const KernelArgs& args, Range range) noexcept {
  const RoiAlignParams& p = params_of<RoiAlignParams>(args);
  const std::int64_t bins = p.out_height * p.out_width, plane = p.height * p.width;
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t roi = u / bins, bin = u % bins;
    const float* corner = input<float>(args, 1) + 4 * roi;
    const std::int64_t image = input<std::int64_t>(args, 2)[roi];
    Bin rows, columns;
    if (image < 0 || image >= p.images || !bin_of(p, corner[1], corner[3], bin / p.out_width, p.out_height, rows) ||
        !bin_of(p, corner[0], corner[2], bin % p.out_width, p.out_width, columns)) {
      args.report(image);
      continue;
    }
    const float count = static_cast<float>(max_of(rows.samples * columns.samples, 1));
    for (std::int64_t c = 0; c < p.channels; c += kChannels) {
      const int n = static_cast<int>(min_of(kChannels, p.channels - c));
      const Sums sums = bin_sums(p, input<float>(args, 0) + (image * p.channels + c) * plane, rows, columns, n);
      float* out = output<float>(args) + (roi * p.channels + c) * bins + bin;
      for (int k = 0; k < n; ++k) out[k * bins] = p.largest ? sums.value[k] : sums.value[k] / count;
    }
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
