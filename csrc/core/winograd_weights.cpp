// SPDX-License-Identifier: Apache-2.0
#include "winograd_weights.hpp"

#include <algorithm>
#include <initializer_list>

namespace forwardpass {

namespace {

// The transform G of weights along a line that belongs to kernels/winograd_lines.hpp. A row per point p of 0, p, -p,
// ... and infinity: p^i / product of (p - q) over the other points q.
struct Filter {
  std::int64_t taps;
  double g[6][3];
};

constexpr Filter make_filter(std::initializer_list<double> points) {
  Filter filter{};
  for (const double p : points) {
    double product = 1;
    for (const double q : points) product *= q == p ? 1 : p - q;
    double* const row = filter.g[filter.taps++];
    row[0] = 1 / product;
    row[1] = p / product;
    row[2] = p * p / product;
  }
  filter.g[filter.taps++][2] = 1;
  return filter;
}

// With points 0, 1 and -1 both first rows, of the weights and of the inputs, have the other sign in the literature.
constexpr Filter make_small() {
  Filter filter = make_filter({0, 1, -1});
  for (double& g : filter.g[0]) g = -g;
  return filter;
}

constexpr Filter kTwo = make_small();
constexpr Filter kFour = make_filter({0, 0.625, -0.625, 1.5, -1.5});

// Columns that are transformed together.
constexpr std::int64_t kGroup = 8;
// Numbers of a tap that are written together: the taps are often a power of two apart, and a cache set has few lines.
constexpr std::int64_t kRun = 128;
constexpr std::int64_t kRow = kRun + kGroup;

using Columns = double[kGroup];

// The weights of some columns of one channel, zero beyond the last one.
void load(const WinogradWeights& p, const float* in, std::int64_t count, Columns (&w)[3][3]) {
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 3; ++x) {
      const float* const from = in + y * p.in_row + x * p.in_col;
      for (std::int64_t j = 0; j < kGroup; ++j) w[y][x][j] = j < count ? from[j * p.in_n] : 0.0f;
    }
  }
}

// to = g0 from0 + g1 from1 + g2 from2
void combine(const double (&g)[3], const Columns& from0, const Columns& from1, const Columns& from2, Columns& to) {
  for (int j = 0; j < kGroup; ++j) to[j] = g[0] * from0[j] + g[1] * from1[j] + g[2] * from2[j];
}

// Some columns of one channel: a row of numbers for each tap.
void transform(const Filter& down, const Filter& across, const Columns (&w)[3][3], float* to) {
  for (std::int64_t a = 0; a < down.taps; ++a) {
    Columns line[3], sum;
    for (int x = 0; x < 3; ++x) combine(down.g[a], w[0][x], w[1][x], w[2][x], line[x]);
    for (std::int64_t b = 0; b < across.taps; ++b, to += kRow) {
      combine(across.g[b], line[0], line[1], line[2], sum);
      for (int j = 0; j < kGroup; ++j) to[j] = static_cast<float>(sum[j]);
    }
  }
}

}  // namespace

void pack_winograd(const KernelArgs& args, Range range) noexcept {
  const auto& p = *static_cast<const WinogradWeights*>(args.params);
  const Filter& down = p.rows == 2 ? kTwo : kFour;
  const Filter& across = p.cols == 2 ? kTwo : kFour;
  const std::int64_t taps = down.taps * across.taps, panels = p.slice / p.panel, size = p.channels * p.panel;
  const std::int64_t group = std::min(kGroup, p.panel);
  float run[36 * kRow];
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    const std::int64_t first = u / panels * p.slice + u % panels * p.panel;
    const float* const in = static_cast<const float*>(args.in[0]) + first * p.in_n;
    float* const out = static_cast<float*>(args.out) + (u / panels * taps * panels + u % panels) * size;
    for (std::int64_t begin = 0; begin < size; begin += kRun) {
      const std::int64_t end = std::min(begin + kRun, size);
      for (std::int64_t at = begin; at < end; at += group) {
        Columns w[3][3];
        const std::int64_t column = at % p.panel;
        load(p, in + at / p.panel * p.in_channel + column * p.in_n, p.n - first - column, w);
        transform(down, across, w, run + at - begin);
      }
      for (std::int64_t t = 0; t < taps; ++t) std::copy_n(run + t * kRow, end - begin, out + t * panels * size + begin);
    }
  }
}

}  // namespace forwardpass
