// SPDX-License-Identifier: Apache-2.0
// The ISAs of this build, which of them this machine runs, and the kernels by name.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "cpu.hpp"
#include "env.hpp"
#include "kernel.hpp"

namespace forwardpass {

struct IsaInfo {
  const char* name;
  int rank;
  bool available;
  std::string why_not;       // "avx512f, avx512bw: not in the CPU"; empty when it is available
  const KernelTable* table;  // null when it is not available: asking for it would run that ISA's code
};

struct Selection {
  const IsaInfo* isa = nullptr;  // null when there is a problem
  ConfigProblem problem;
};

// Every ISA of the build, highest rank first. Scalar is among them, so one is always available.
const std::vector<IsaInfo>& isas();

// The table of an ISA that runs here, or null.
const KernelTable* find_table(std::string_view name);

// The available ISA of the highest rank, or the one that `forced` names unless that is empty. `where` says in
// the error where the name came from.
Selection select_isa(std::string_view forced, std::string_view where = "FORWARDPASS_ISA");

// The CRC-32 of an ISA that runs here. That of most takes an instruction that the ISA does not imply: without it, the
// scalar one.
Crc32Fn find_crc32(const KernelTable& table) noexcept;

// The index into KernelTable::kernels, or -1.
int kernel_index(std::string_view name) noexcept;

// kKernelCount names in the order of kernels.def.
const char* const* kernel_names() noexcept;

}  // namespace forwardpass
