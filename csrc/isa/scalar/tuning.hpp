// SPDX-License-Identifier: Apache-2.0
// The register tiles of brgemm.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPanel = 4;       // columns of a packed panel of B; a multiple of kLanes
inline constexpr int kTileM = 2;       // most rows of a tile
inline constexpr int kRegisters = 16;  // vector registers
// Weights of few rows of products are read by whole rows of panels.
inline constexpr bool kFarPanels = false;

}  // namespace forwardpass::FORWARDPASS_ISA
