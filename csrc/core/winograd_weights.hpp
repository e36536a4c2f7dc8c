// SPDX-License-Identifier: Apache-2.0
// Weights of 3 x 3 convolutions as those of Winograd's products: G w G^T in float64, rounded once. Straight from where
// they lie into their panels, so that nothing between the two takes memory. Here and not among the kernels: one
// instance is as fast as memory, and gives every ISA the same bits.
#pragma once
#include "kernel.hpp"

namespace forwardpass {

// Weights [3][3][channels][n] with strides in elements -> [slices][taps][panels of a slice][channels][panel], filled up
// with zeros, for (rows + 2) x (cols + 2) taps of rows x cols outputs: each 2 or 4.
struct WinogradWeights {
  std::int64_t rows, cols, channels, n;
  std::int64_t in_row, in_col, in_channel, in_n;
  std::int64_t slice;  // columns: whole panels
  std::int64_t panel;  // columns
};

// A kernel with parameters of its own. Range: panels of all slices. in[0] the weights; out.
void pack_winograd(const KernelArgs& args, Range range) noexcept;

}  // namespace forwardpass
