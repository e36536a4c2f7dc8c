// SPDX-License-Identifier: Apache-2.0
#include "winograd_weights.hpp"

#include <algorithm>

namespace forwardpass {

namespace {

// The transform G of weights along a line of outputs that belongs to kernels/winograd_lines.hpp. A row per point p of
// 0, p, -p, ... and infinity: p^i / product of (p - q) over the other points q.
template <int kOut>
struct Filter {
  static constexpr int kTaps = kOut + 2;
  double g[kTaps][3] = {};

  constexpr explicit Filter(const double (&points)[kTaps - 1]) {
    for (int a = 0; a < kTaps - 1; ++a) {
      double product = 1;
      for (const double q : points) product *= q == points[a] ? 1 : points[a] - q;
      double power = 1;
      for (int i = 0; i < 3; ++i, power *= points[a]) g[a][i] = power / product;
    }
    g[kTaps - 1][2] = 1;
  }
};

// With points 0, 1 and -1 both first rows, of the weights and of the inputs, have the other sign in the literature.
constexpr Filter<2> make_small() {
  Filter<2> filter({0, 1, -1});
  for (double& g : filter.g[0]) g = -g;
  return filter;
}

template <int kOut>
constexpr Filter<kOut> kFilter;
template <>
constexpr Filter<2> kFilter<2> = make_small();
template <>
constexpr Filter<4> kFilter<4>{{0, 0.625, -0.625, 1.5, -1.5}};

// Columns that are transformed together.
constexpr int kGroup = 8;

using Columns = double[kGroup];

// The weights of some columns of one channel, zero beyond the last one.
void load(const WinogradWeights& p, const float* in, std::int64_t count, Columns (&w)[3][3]) {
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 3; ++x) {
      const float* const from = in + y * p.in_row + x * p.in_col;
      for (int j = 0; j < kGroup; ++j) w[y][x][j] = j < count ? from[j * p.in_n] : 0.0f;
    }
  }
}

// `step` elements lie between the numbers of one tap and of the next.
template <int kRows, int kCols>
void transform(const Columns (&w)[3][3], float* out, std::int64_t step, std::int64_t width) {
  const auto& down = kFilter<kRows>.g;
  const auto& across = kFilter<kCols>.g;
  for (int a = 0; a < kRows + 2; ++a) {
    Columns line[3];
    for (int x = 0; x < 3; ++x) {
      for (int j = 0; j < kGroup; ++j) {
        line[x][j] = down[a][0] * w[0][x][j] + down[a][1] * w[1][x][j] + down[a][2] * w[2][x][j];
      }
    }
    for (int b = 0; b < kCols + 2; ++b, out += step) {
      Columns sum;
      for (int j = 0; j < kGroup; ++j) {
        sum[j] = across[b][0] * line[0][j] + across[b][1] * line[1][j] + across[b][2] * line[2][j];
      }
      if (width == kGroup) {
        for (int j = 0; j < kGroup; ++j) out[j] = static_cast<float>(sum[j]);
      } else {
        for (int j = 0; j < width; ++j) out[j] = static_cast<float>(sum[j]);
      }
    }
  }
}

template <int kRows, int kCols>
void pack(const WinogradWeights& p, const float* in, float* out, Range range) {
  const std::int64_t panels = p.slice / p.panel, size = p.channels * p.panel;
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t first = u / panels * p.slice + u % panels * p.panel;
    float* const to = out + (u / panels * (kRows + 2) * (kCols + 2) * panels + u % panels) * size;
    for (std::int64_t k = 0; k < p.channels; ++k) {
      for (std::int64_t j = 0; j < p.panel; j += kGroup) {
        Columns w[3][3];
        load(p, in + k * p.in_channel + (first + j) * p.in_n, p.n - first - j, w);
        transform<kRows, kCols>(w, to + k * p.panel + j, panels * size, std::min<std::int64_t>(kGroup, p.panel - j));
      }
    }
  }
}

}  // namespace

void pack_winograd(const KernelArgs& args, Range range) noexcept {
  const auto& p = *static_cast<const WinogradWeights*>(args.params);
  const auto* in = static_cast<const float*>(args.in[0]);
  auto* out = static_cast<float*>(args.out);
  if (p.rows == 4) return pack<4, 4>(p, in, out, range);
  if (p.cols == 4) return pack<2, 4>(p, in, out, range);
  pack<2, 2>(p, in, out, range);
}

}  // namespace forwardpass
