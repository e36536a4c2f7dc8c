// SPDX-License-Identifier: Apache-2.0
// The tiles of AMX. isa/scalar/tiles.hpp defines the meaning of each operation.
//
// Assembly instead of intrinsics: GCC 12's do not tell the compiler that they read and write memory. Every statement is
// volatile, so they keep their order, which is all that connects them: the compiler does not know tile registers.
#pragma once
#include <cstdint>

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr bool kHasTiles = true;

class Tiles {
 public:
  explicit Tiles(int rows) noexcept {
    alignas(64) std::uint8_t config[64] = {1};  // palette 1; from byte 16 bytes per row, from byte 48 rows
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;
      config[48 + tile] = static_cast<std::uint8_t>(tile < 6 ? rows : 16);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
  }
  // Tiles in use would make every switch between threads save 8 KB.
  ~Tiles() { __asm__ volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int kTile>
  void clear() noexcept {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }

  template <int kTile>
  void load(const std::uint32_t* p, std::int64_t stride) noexcept {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(4 * stride) : "memory");
  }

  template <int kTile>
  void load_past_l1(const std::uint32_t* p, std::int64_t stride) noexcept {
    __asm__ volatile("tileloaddt1 (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(4 * stride) : "memory");
  }

  template <int kTile>
  void load_sums(const float* p) noexcept {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(std::int64_t{64}) : "memory");
  }

  template <int kTile>
  void store(float* p, std::int64_t stride = 16) const noexcept {
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(p), "r"(4 * stride) : "memory");
  }

  // Stores a tile that nobody needs. A tile's first store takes 0.3 us where the one before was 0.8 us ago or longer;
  // one more in between takes nothing that can be measured.
  void keep_storing() noexcept {
    __asm__ volatile("tilestored %%tmm4, (%0,%1,1)" : : "r"(line_), "r"(std::int64_t{0}) : "memory");
  }

  template <int kSum, int kLeft, int kRight>
  void multiply() noexcept {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
  }

 private:
  alignas(64) std::uint32_t line_[16];
};

}  // namespace forwardpass::FORWARDPASS_ISA
