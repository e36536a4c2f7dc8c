// SPDX-License-Identifier: Apache-2.0
// What the processor can do and what the operating system lets it do. Compiled with baseline flags: it runs
// before anything is known about the machine.
#pragma once
#include <cstdint>
#include <string>

namespace forwardpass {

// The registers that features are read from. A value of this type can be made up in a test.
struct CpuidWords {
  std::uint32_t leaf1_ecx = 0;
  std::uint32_t leaf1_edx = 0;
  std::uint32_t leaf7_ebx = 0;
  std::uint32_t leaf7_ecx = 0;
  std::uint32_t leaf7_edx = 0;
  std::uint32_t leaf7_1_eax = 0;
  std::uint64_t xcr0 = 0;  // the register states that the operating system saves; 0 without OSXSAVE
};

// Bytes; 0 where the processor does not say.
struct CacheSizes {
  std::int64_t l1d = 0;
  std::int64_t l2 = 0;
  std::int64_t l3 = 0;
};

// This machine's words; all zero on a processor that is not x86-64.
const CpuidWords& cpuid_words() noexcept;

// Why the feature cannot be used, or null when it can: "not in the CPU", "registers not saved by the
// operating system" or "not a feature that is known". Names are the ones that an isa.cmake lists in
// ISA_REQUIRES. amx_* says that the kernel can save tiles; a process still has to ask it for the permission
// to use them.
const char* missing_reason(const char* feature, const CpuidWords& words = cpuid_words()) noexcept;

bool has_feature(const char* feature) noexcept;

// The processor's own name, without padding; empty where there is none.
std::string cpu_brand();

// The sizes of the first CPU's data caches, from CPUID leaf 4 or AMD's 0x8000001d.
CacheSizes cache_sizes() noexcept;

}  // namespace forwardpass
