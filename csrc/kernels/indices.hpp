// SPDX-License-Identifier: Apache-2.0
// Indices that come from data: each one is checked against its dimension, counted from the end where it is negative,
// and reported where it is out of range.
#pragma once
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// The index counted from the front; 0 and a report where it is out of range.
FP_INLINE std::int64_t checked(const KernelArgs& args, std::int64_t index, std::int64_t size) {
  const std::int64_t found = index < 0 ? index + size : index;
  if (found >= 0 && found < size) return found;
  args.report(index);
  return 0;
}

FP_INLINE std::int64_t load_index(const void* indices, std::int64_t bytes, std::int64_t i) {
  return bytes == 8 ? static_cast<const std::int64_t*>(indices)[i] : static_cast<const std::int32_t*>(indices)[i];
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
