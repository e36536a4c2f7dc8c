// SPDX-License-Identifier: Apache-2.0
// rotary_f32: pairs of elements of every head turned by the angle of their position.
#include "indices.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

struct Turned {
  Vec first;
  Vec second;
};

FP_INLINE Turned turn(Vec a, Vec b, Vec cosine, Vec sine) {
  return {fnma(sine, b, cosine * a), fma(sine, a, cosine * b)};
}

// The partner of an element is `width` after it.
void turn_halves(const float* x, const float* cosine, const float* sine, float* y, std::int64_t width) {
  std::int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Turned t = turn(load(x + i), load(x + width + i), load(cosine + i), load(sine + i));
    store(y + i, t.first);
    store(y + width + i, t.second);
  }
  if (i == width) return;
  const int n = static_cast<int>(width - i);
  const Turned t = turn(load(x + i, n), load(x + width + i, n), load(cosine + i, n), load(sine + i, n));
  store(y + i, t.first, n);
  store(y + width + i, t.second, n);
}

// The partner of an element is its neighbour.
void turn_neighbours(const float* x, const float* cosine, const float* sine, float* y, std::int64_t width) {
  float pairs[2][kLanes];
  for (std::int64_t i = 0; i < width; i += kLanes) {
    const int n = static_cast<int>(min_of(kLanes, width - i));
    for (int k = 0; k < n; ++k) {
      pairs[0][k] = x[2 * (i + k)];
      pairs[1][k] = x[2 * (i + k) + 1];
    }
    const Turned t = turn(load(pairs[0], n), load(pairs[1], n), load(cosine + i, n), load(sine + i, n));
    store(pairs[0], t.first, n);
    store(pairs[1], t.second, n);
    for (int k = 0; k < n; ++k) {
      y[2 * (i + k)] = pairs[0][k];
      y[2 * (i + k) + 1] = pairs[1][k];
    }
  }
}

// The row of the tables for step i of a sequence; -1 and a report where there is none.
std::int64_t row_of(const KernelArgs& args, const RotaryParams& p, std::int64_t batch, std::int64_t i) {
  std::int64_t row = p.place + p.place_batch * batch + p.place_step * i;
  if (p.position_bytes) row += load_index(args.in[3], p.position_bytes, batch * p.position_batch + i * p.position_step);
  if (row >= 0 && row < p.rows) return row;
  args.report(row);
  return -1;
}

}  // namespace

void rotary_f32(const KernelArgs& args, Range range) noexcept {
  const RotaryParams& p = params_of<RotaryParams>(args);
  for (std::int64_t unit = range.begin; unit < range.end; ++unit) {
    const std::int64_t head = unit % p.heads, i = unit / p.heads % p.length, batch = unit / p.heads / p.length;
    const std::int64_t row = row_of(args, p, batch, i);
    if (row < 0) continue;
    const float* x = input<float>(args, 0) + batch * p.in_batch + head * p.in_head + i * p.in_step;
    float* y = output<float>(args) + batch * p.out_batch + head * p.out_head + i * p.out_step;
    const float* cosine = input<float>(args, 1) + row * p.width;
    const float* sine = input<float>(args, 2) + row * p.width;
    (p.interleaved ? turn_neighbours : turn_halves)(x, cosine, sine, y, p.width);
    const std::int64_t rest = p.size - 2 * p.width;
    if (rest) __builtin_memcpy(y + 2 * p.width, x + 2 * p.width, static_cast<std::size_t>(rest) * sizeof(float));
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
