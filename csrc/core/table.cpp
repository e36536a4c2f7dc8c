// SPDX-License-Identifier: Apache-2.0
// isas.inc is written by CMake: a line ISA(name, rank, "required features") for each ISA that is built.
#include "table.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace forwardpass {

#define ISA(name, rank, required)             \
  namespace name {                            \
  extern const KernelTable& table() noexcept; \
  }
#include "isas.inc"
#undef ISA

namespace {

constexpr const char* kKernelNames[] = {
#define KERNEL(name, Params) #name,
#include "../kernels/kernels.def"
#undef KERNEL
};

void append(std::string& list, const std::string& item, const char* separator) {
  if (!list.empty()) list += separator;
  list += item;
}

// Features with the same reason stand together: "avx512f, avx512bw: not in the CPU".
std::string why_not(std::string_view required) {
  std::string text;
  const char* last_reason = nullptr;
  while (!required.empty()) {
    const std::size_t space = required.find(' ');
    const std::string feature(required.substr(0, space));
    required = space == std::string_view::npos ? std::string_view() : required.substr(space + 1);
    const char* reason = feature.empty() ? nullptr : missing_reason(feature.c_str());
    // Only where nothing is missing, since it changes the process.
    if (reason == nullptr && last_reason == nullptr) reason = refused_reason(feature.c_str());
    if (reason == nullptr) continue;
    if (last_reason != nullptr) text += reason == last_reason ? ", " : std::string(": ") + last_reason + "; ";
    text += feature;
    last_reason = reason;
  }
  return last_reason == nullptr ? text : text + ": " + last_reason;
}

std::vector<IsaInfo> find_isas() {
  std::vector<IsaInfo> list;
  const auto add = [&list](const char* name, int rank, const char* required, auto* table) {
    std::string reason = why_not(required);
    const bool available = reason.empty();
    list.push_back({name, rank, available, std::move(reason), available ? &table() : nullptr});
  };
#define ISA(name, rank, required) add(#name, rank, required, &name::table);
#include "isas.inc"
#undef ISA
  std::stable_sort(list.begin(), list.end(), [](const IsaInfo& a, const IsaInfo& b) { return a.rank > b.rank; });
  return list;
}

const IsaInfo* find_isa(std::string_view name) {
  for (const IsaInfo& isa : isas()) {
    if (isa.name == name) return &isa;
  }
  return nullptr;
}

ConfigProblem isa_problem(const IsaInfo* isa, std::string_view forced, std::string_view where) {
  std::string available, others;
  for (const IsaInfo& i : isas()) {
    if (i.available) {
      append(available, i.name, ", ");
    } else {
      append(others, std::string(i.name) + " is not available here (" + i.why_not + ")", "; ");
    }
  }
  ConfigProblem problem;
  problem.message = isa == nullptr ? "unknown ISA" : "ISA that is not available here";
  problem.where = where;
  problem.expected = "one of " + available;
  problem.got = "'" + std::string(forced) + "'";
  problem.hint = others.empty() ? "every ISA of this build is available here" : others;
  return problem;
}

}  // namespace

const std::vector<IsaInfo>& isas() {
  static const std::vector<IsaInfo> list = find_isas();
  return list;
}

const KernelTable* find_table(std::string_view name) {
  const IsaInfo* isa = find_isa(name);
  return isa == nullptr ? nullptr : isa->table;
}

Selection select_isa(std::string_view forced, std::string_view where) {
  if (!forced.empty()) {
    const IsaInfo* isa = find_isa(forced);
    if (isa != nullptr && isa->available) return {isa, {}};
    return {nullptr, isa_problem(isa, forced, where)};
  }
  for (const IsaInfo& isa : isas()) {
    if (isa.available) return {&isa, {}};
  }
  return {nullptr, isa_problem(nullptr, forced, where)};
}

Crc32Fn find_crc32(const KernelTable& table) noexcept {
  static const bool folds = has_feature("pclmulqdq");
  return folds ? table.crc32 : scalar::table().crc32;
}

int kernel_index(std::string_view name) noexcept {
  const auto at = std::find(std::begin(kKernelNames), std::end(kKernelNames), name);
  return at == std::end(kKernelNames) ? -1 : static_cast<int>(at - std::begin(kKernelNames));
}

const char* const* kernel_names() noexcept { return kKernelNames; }

}  // namespace forwardpass
