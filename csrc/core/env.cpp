// SPDX-License-Identifier: Apache-2.0
#include "env.hpp"

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace forwardpass {
namespace {

std::string_view variable(const char* name) noexcept {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

}  // namespace

Environment read_environment() {
  Environment env;
  env.isa = variable("FORWARDPASS_ISA");
  const std::string_view threads = variable("FORWARDPASS_NUM_THREADS");
  if (threads.empty()) return env;
  const char* end = threads.data() + threads.size();
  const auto [stop, error] = std::from_chars(threads.data(), end, env.threads);
  if (error == std::errc() && stop == end && env.threads >= 1 && env.threads <= kMaxThreads) return env;
  env.threads = 0;
  env.problem.message = "not a number of threads";
  env.problem.where = "FORWARDPASS_NUM_THREADS";
  env.problem.expected = "an integer from 1 to " + std::to_string(kMaxThreads);
  env.problem.got = "'" + std::string(threads) + "'";
  env.problem.hint = "unset it to use the affinity mask, the cgroup quota and the physical cores";
  return env;
}

}  // namespace forwardpass
