// SPDX-License-Identifier: Apache-2.0
// Bit positions are from the Intel SDM, volume 2A (CPUID), and volume 1, section 13.3 (XCR0).
#include "cpu.hpp"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace forwardpass {
namespace {

constexpr std::uint64_t kXmmState = 1u << 1;
constexpr std::uint64_t kYmmState = kXmmState | 1u << 2;
constexpr std::uint64_t kZmmState = kYmmState | 1u << 5 | 1u << 6 | 1u << 7;  // opmask, ZMM0-15, ZMM16-31
constexpr std::uint64_t kTileState = 1u << 17 | 1u << 18;                     // XTILECFG, XTILEDATA

struct Feature {
  const char* name;
  std::uint32_t CpuidWords::* word;
  int bit;
  std::uint64_t state;  // XCR0 bits that it needs; SSE2 is used without XSAVE too
};

constexpr Feature kFeatures[] = {
    {"sse2", &CpuidWords::leaf1_edx, 26, 0},
    {"pclmulqdq", &CpuidWords::leaf1_ecx, 1, kYmmState},
    {"avx", &CpuidWords::leaf1_ecx, 28, kYmmState},
    {"fma", &CpuidWords::leaf1_ecx, 12, kYmmState},
    {"f16c", &CpuidWords::leaf1_ecx, 29, kYmmState},
    {"avx2", &CpuidWords::leaf7_ebx, 5, kYmmState},
    {"avx512f", &CpuidWords::leaf7_ebx, 16, kZmmState},
    {"avx512dq", &CpuidWords::leaf7_ebx, 17, kZmmState},
    {"avx512cd", &CpuidWords::leaf7_ebx, 28, kZmmState},
    {"avx512bw", &CpuidWords::leaf7_ebx, 30, kZmmState},
    {"avx512vl", &CpuidWords::leaf7_ebx, 31, kZmmState},
    {"avx512vnni", &CpuidWords::leaf7_ecx, 11, kZmmState},
    {"avx512bf16", &CpuidWords::leaf7_1_eax, 5, kZmmState},
    {"amx_bf16", &CpuidWords::leaf7_edx, 22, kTileState},
    {"amx_tile", &CpuidWords::leaf7_edx, 24, kTileState},
    {"amx_int8", &CpuidWords::leaf7_edx, 25, kTileState},
};

#if defined(__x86_64__)

struct Regs {
  std::uint32_t eax, ebx, ecx, edx;
};

// Of a leaf that there is. In a virtual machine every CPUID is a trip to its host, some 20 us.
Regs cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) noexcept {
  Regs r{};
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
  return r;
}

std::uint64_t read_xcr0() noexcept {
  std::uint32_t low, high;
  // The intrinsic would need -mxsave, and this file is compiled with baseline flags.
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<std::uint64_t>(high) << 32 | low;
}

CpuidWords read_words() noexcept {
  constexpr std::uint32_t kOsxsave = 1u << 27;
  CpuidWords w;
  const Regs one = cpuid(1);
  // What has XSAVE has leaf 13 that describes it, and so leaf 7; the features of a CPU without do not count.
  const Regs seven = (one.ecx & kOsxsave) != 0 ? cpuid(7) : Regs{};
  w.leaf1_ecx = one.ecx;
  w.leaf1_edx = one.edx;
  w.leaf7_ebx = seven.ebx;
  w.leaf7_ecx = seven.ecx;
  w.leaf7_edx = seven.edx;
  w.leaf7_1_eax = seven.eax >= 1 ? cpuid(7, 1).eax : 0;
  w.xcr0 = (one.ecx & kOsxsave) != 0 ? read_xcr0() : 0;
  return w;
}

// Leaf 4 and leaf 0x8000001d have one layout. Subleaves end at type 0.
CacheSizes read_caches(std::uint32_t leaf) noexcept {
  CacheSizes sizes;
  if (__get_cpuid_max(leaf & 0x80000000u, nullptr) < leaf) return sizes;
  for (std::uint32_t i = 0; i < 16; ++i) {
    const Regs r = cpuid(leaf, i);
    const std::uint32_t type = r.eax & 31, level = r.eax >> 5 & 7;
    if (type == 0) break;
    if (type == 2) continue;  // instructions
    const std::int64_t line = (r.ebx & 4095) + 1, parts = (r.ebx >> 12 & 1023) + 1, ways = (r.ebx >> 22) + 1;
    const std::int64_t bytes = line * parts * ways * (static_cast<std::int64_t>(r.ecx) + 1);
    if (level == 1) sizes.l1d = bytes;
    if (level == 2) sizes.l2 = bytes;
    if (level == 3) sizes.l3 = bytes;
  }
  return sizes;
}

#else

CpuidWords read_words() noexcept { return {}; }

#endif

// Asks for the permission to use tiles. Only Linux has it to give.
bool request_tiles() noexcept {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

const CpuidWords& cpuid_words() noexcept {
  static const CpuidWords words = read_words();
  return words;
}

const char* missing_reason(const char* feature, const CpuidWords& words) noexcept {
  for (const Feature& f : kFeatures) {
    if (std::strcmp(f.name, feature) != 0) continue;
    if ((words.*f.word >> f.bit & 1) == 0) return "not in the CPU";
    if ((words.xcr0 & f.state) != f.state) return "registers not saved by the operating system";
    return nullptr;
  }
  return "not a feature that is known";
}

const char* refused_reason(const char* feature) noexcept {
  if (std::strncmp(feature, "amx_", 4) != 0) return nullptr;
  static const bool granted = request_tiles();
  return granted ? nullptr : "the operating system refuses its registers to this process";
}

bool has_feature(const char* feature) noexcept {
  return missing_reason(feature) == nullptr && refused_reason(feature) == nullptr;
}

std::string cpu_brand() {
#if defined(__x86_64__)
  if (__get_cpuid_max(0x80000000u, nullptr) < 0x80000004u) return {};
  char text[49] = {};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Regs r = cpuid(0x80000002u + i);
    std::memcpy(text + 16 * i, &r, sizeof r);
  }
  std::string brand = text;
  brand.erase(0, brand.find_first_not_of(' '));
  brand.erase(brand.find_last_not_of(' ') + 1);
  return brand;
#else
  return {};
#endif
}

const CacheSizes& cache_sizes() noexcept {
  static const CacheSizes sizes = [] {
#if defined(__x86_64__)
    const CacheSizes intel = read_caches(4);
    return intel.l1d != 0 ? intel : read_caches(0x8000001du);
#else
    return CacheSizes{};
#endif
  }();
  return sizes;
}

}  // namespace forwardpass
