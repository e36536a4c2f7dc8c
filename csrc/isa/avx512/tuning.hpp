// SPDX-License-Identifier: Apache-2.0
// The register tiles of brgemm.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPanel = 16;      // columns of a packed panel of B; a multiple of kLanes
inline constexpr int kTileM = 14;      // most rows of a tile
inline constexpr int kRegisters = 32;  // vector registers
// Weights of few rows of products that are far are read panel by panel, fetched ahead: the fetching of Intel's hardware
// ends with each page.
inline constexpr bool kFarPanels = true;

}  // namespace forwardpass::FORWARDPASS_ISA
