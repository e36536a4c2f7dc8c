// SPDX-License-Identifier: Apache-2.0
// The register tiles of brgemm.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPanel = 16;      // columns of a packed panel of B; a multiple of kLanes
inline constexpr int kTileM = 14;      // most rows of a tile
inline constexpr int kRegisters = 32;  // vector registers
// Weights that come from behind L2 are fetched ahead by instructions, and where few rows wait for them panel by panel:
// the caches there are far in servers of Intel, whose fetching by hardware ends with each page.
inline constexpr bool kFetchesAhead = true;

}  // namespace forwardpass::FORWARDPASS_ISA
