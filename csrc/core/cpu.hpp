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
// ISA_REQUIRES. Of amx_* this says whether the system can save tiles; see refused_reason.
const char* missing_reason(const char* feature, const CpuidWords& words = cpuid_words()) noexcept;

// Why this process may not use a feature that is not missing, or null when it may. Linux gives a process the memory
// that its threads' tiles are saved in only if it asks, which this does, once; it is told no where a filter forbids
// the call, or a thread's signal stack is too small for what signals then save.
const char* refused_reason(const char* feature) noexcept;

// Whether this process can use the feature.
bool has_feature(const char* feature) noexcept;

// The processor's own name, without padding; empty where there is none.
std::string cpu_brand();

// The sizes of the first CPU's data caches, from CPUID leaf 4 or AMD's 0x8000001d.
const CacheSizes& cache_sizes() noexcept;

}  // namespace forwardpass
