// SPDX-License-Identifier: Apache-2.0
// The settings that come from the environment. env.cpp is the only file that reads it.
#pragma once
#include <string>

namespace forwardpass {

inline constexpr int kMaxThreads = 1024;

// The fields of the ConfigError that the caller raises. No error while `message` is empty.
struct ConfigProblem {
  std::string message;
  std::string where;
  std::string expected;
  std::string got;
  std::string hint;

  explicit operator bool() const noexcept { return !message.empty(); }
};

struct Environment {
  std::string isa;        // FORWARDPASS_ISA; empty when it is unset or empty
  int threads = 0;        // FORWARDPASS_NUM_THREADS, 1 .. kMaxThreads; 0 when it is unset or empty
  ConfigProblem problem;  // a FORWARDPASS_NUM_THREADS that is no such number
};

// Reads the environment at every call. Whether the ISA exists is for select_isa (table.hpp) to say.
Environment read_environment();

}  // namespace forwardpass
