// SPDX-License-Identifier: Apache-2.0
// grid_sample_f32: images at points that come from data. Coordinates are computed in double, where a point seldom
// lands on the other side of a pixel's border than it should.
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kMostTaps = 64;  // four along each of three dimensions
constexpr int kPoints = 16;    // computed side by side

enum Mode : std::int64_t { kNearest, kLinear, kCubic };
enum Padding : std::int64_t { kZeros, kBorder, kReflection };

// The pixels along one dimension that a point is made of.
struct Along {
  std::int64_t place[4];
  double weight[4];
  bool inside;  // of the one pixel of kNearest
};

// x mirrored at both ends until it lies between them.
double reflected(double x, double low, double high) {
  const double span = high - low;
  if (span <= 0) return low;
  if (!(x < low) && !(x > high)) return x;
  const double away = __builtin_fabs(x - low);
  const double offset = away - 2 * span * __builtin_floor(away / (2 * span));
  return low + (offset > span ? 2 * span - offset : offset);
}

double clipped(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

double cubic_weight(double distance) {
  constexpr double a = -0.75;
  const double d = __builtin_fabs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

Along along(const GridSampleParams& p, double point, std::int64_t size) {
  const double n = static_cast<double>(size);
  const double low = p.align ? 0 : -0.5, high = p.align ? n - 1 : n - 0.5;
  double x = p.align ? (point + 1) / 2 * (n - 1) : ((point + 1) * n - 1) / 2;
  if (p.mode == kNearest) x = __builtin_rint(x);
  if (p.padding == kReflection) x = reflected(x, low, high);
  x = clipped(x != x ? -4 : x, -4, n + 4);  // far outside nothing changes any more, and NaN is nowhere
  if (p.mode == kNearest) x = __builtin_rint(x);
  const double first = __builtin_floor(x) - (p.mode == kCubic);
  const int taps = p.mode == kNearest ? 1 : p.mode == kLinear ? 2 : 4;
  Along found;
  found.inside = true;
  for (int t = 0; t < taps; ++t) {
    double pixel = first + t;
    const double distance = pixel - x;
    const double near = 1 - __builtin_fabs(distance);
    double weight = p.mode == kCubic ? cubic_weight(distance) : near > 0 ? near : 0;
    if (p.mode == kNearest) weight = 1;
    if (p.padding == kZeros && (pixel < 0 || pixel >= n)) {
      weight = 0;
      found.inside = false;
    }
    if (p.padding == kReflection) pixel = __builtin_trunc(reflected(pixel, low, high));
    found.place[t] = static_cast<std::int64_t>(clipped(pixel, 0, n - 1));
    found.weight[t] = weight;
  }
  return found;
}

// Where the pixels of some points are in an image, and their weights, tap by tap.
struct Samples {
  int taps;
  std::int64_t offset[kMostTaps][kPoints];
  float weight[kMostTaps][kPoints];
  bool inside[kPoints];

  void add(const GridSampleParams& p, const float* point, int j) {
    const int width = p.mode == kNearest ? 1 : p.mode == kLinear ? 2 : 4;
    double weights[kMostTaps] = {1};
    taps = 1;
    offset[0][j] = 0;
    inside[j] = true;
    for (std::int64_t d = 0; d < p.rank; ++d) {  // the grid names the innermost dimension first
      const Along found = along(p, static_cast<double>(point[p.rank - 1 - d]), p.shape[d]);
      inside[j] = inside[j] && found.inside;
      for (int t = taps - 1; t >= 0; --t) {
        for (int k = width - 1; k >= 0; --k) {
          offset[t * width + k][j] = offset[t][j] * p.shape[d] + found.place[k];
          weights[t * width + k] = weights[t] * found.weight[k];
        }
      }
      taps *= width;
    }
    for (int t = 0; t < taps; ++t) weight[t][j] = static_cast<float>(weights[t]);
  }
};

// n points of one channel.
FP_INLINE void blend(const Samples& s, const float* in, float* out, int n) {
  float sum[kPoints] = {};
  for (int t = 0; t < s.taps; ++t) {
    for (int j = 0; j < n; ++j) sum[j] += s.weight[t][j] * in[s.offset[t][j]];
  }
  for (int j = 0; j < n; ++j) out[j] = sum[j];
}

}  // namespace

void grid_sample_f32(const KernelArgs& args, Range range) noexcept {
  const GridSampleParams& p = params_of<GridSampleParams>(args);
  std::int64_t pixels = 1;
  for (std::int64_t d = 0; d < p.rank; ++d) pixels *= p.shape[d];
  Samples s;
  for (std::int64_t u = range.begin; u < range.end;) {
    const std::int64_t batch = u / p.points, first = u % p.points;
    const int n = static_cast<int>(min_of(kPoints, min_of(p.points - first, range.end - u)));
    for (int j = 0; j < n; ++j) s.add(p, input<float>(args, 1) + (u + j) * p.rank, j);
    for (std::int64_t c = 0; c < p.channels; ++c) {
      const float* in = input<float>(args, 0) + (batch * p.channels + c) * pixels;
      float* out = output<float>(args) + (batch * p.channels + c) * p.points + first;
      if (p.mode == kNearest) {
        for (int j = 0; j < n; ++j) out[j] = s.inside[j] ? in[s.offset[0][j]] : 0.0f;
        continue;
      }
      n == kPoints ? blend(s, in, out, kPoints) : blend(s, in, out, n);  // a known number unrolls
    }
    u += n;
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
