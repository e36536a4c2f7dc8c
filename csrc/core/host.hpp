// SPDX-License-Identifier: Apache-2.0
// How many threads this process should use: the smallest of its affinity mask, its cgroup CPU quota and the
// physical cores under the mask. Whatever cannot be read (no /proc, no /sys, garbage) counts as no limit.
#pragma once
#include <string>
#include <vector>

namespace forwardpass {

struct HostInfo {
  std::vector<int> affinity_cpus;  // CPU numbers, ascending
  double quota = 0.0;              // CPUs, the smallest quota on the way to the cgroup root; 0 for none
  std::string quota_source;        // the file that says so
  int physical_cores = 0;          // distinct cores among affinity_cpus
  int threads = 1;                 // the default; a fractional quota counts as the next lower integer, at least 1
  std::string reason;              // what decided: "cgroup quota of 1.5 CPUs (/sys/fs/cgroup/cpu.max)"
};

// `root` stands before every path that is read, and an empty `affinity` is the process's own mask: a test
// passes a fake tree and fake CPUs.
HostInfo detect_host(const std::string& root = "/", std::vector<int> affinity = {});

}  // namespace forwardpass
