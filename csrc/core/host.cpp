// SPDX-License-Identifier: Apache-2.0
#include "host.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <thread>

#if defined(__linux__)
#include <sched.h>

#include <cerrno>
#endif

namespace forwardpass {
namespace {

std::vector<std::string> read_lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(std::move(line));
  return lines;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(std::move(part));
  return parts;
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return value;
}

bool has_item(const std::string& comma_list, std::string_view item) {
  const std::vector<std::string> items = split(comma_list, ',');
  return std::find(items.begin(), items.end(), item) != items.end();
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](std::size_t k) { return k < text.size() && text[k] >= '0' && text[k] <= '7'; };
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// A mounted cgroup hierarchy that may limit CPU time: v2, or v1 with the cpu controller.
struct CgroupMount {
  bool v2;
  std::string root;   // the cgroup that is seen at `point`
  std::string point;  // a path in the file system
};

// /proc/self/mountinfo, see proc(5): "31 23 0:28 ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS".
std::vector<CgroupMount> cgroup_mounts(const std::string& root) {
  std::vector<CgroupMount> mounts;
  for (const std::string& line : read_lines(root + "/proc/self/mountinfo")) {
    const std::vector<std::string> fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    const bool v2 = dash[1] == "cgroup2";
    if (v2 || (dash[1] == "cgroup" && has_item(dash[3], "cpu"))) {
      mounts.push_back({v2, unescape(fields[3]), unescape(fields[4])});
    }
  }
  return mounts;
}

// The process's cgroup in the v2 hierarchy or in v1's cpu hierarchy. /proc/self/cgroup has lines
// "ID:CONTROLLERS:PATH"; v2 has id 0 and no controllers.
std::optional<std::string> own_cgroup(const std::string& root, bool v2) {
  for (const std::string& line : read_lines(root + "/proc/self/cgroup")) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool match = v2 ? controllers.empty() && line.substr(0, first) == "0" : has_item(controllers, "cpu");
    if (match) return line.substr(second + 1);
  }
  return std::nullopt;
}

// `path` relative to `base` ("" or "/a/b"), or nothing when it does not lie below it. A path with ".." is
// that of a cgroup outside the process's cgroup namespace, which no mount shows.
std::optional<std::string> below(const std::string& path, const std::string& base) {
  const std::string prefix = base == "/" ? "" : base;
  if (path.compare(0, prefix.size(), prefix) != 0 || (path + "/").find("/../") != std::string::npos) {
    return std::nullopt;
  }
  const std::string rest = path.substr(prefix.size());
  if (!rest.empty() && rest.front() != '/') return std::nullopt;
  return rest == "/" ? "" : rest;
}

struct Quota {
  double cpus = 0.0;
  std::string source;
};

std::optional<double> ratio(std::optional<std::int64_t> quota, std::optional<std::int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;  // v1 writes -1 for no limit
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// What one cgroup's folder says. v2: cpu.max, "QUOTA PERIOD" or "max PERIOD". v1: two files of one number
// each.
void read_quota(bool v2, const std::string& folder, Quota& smallest) {
  const std::string file = folder + (v2 ? "/cpu.max" : "/cpu.cfs_quota_us");
  const std::vector<std::string> lines = read_lines(file);
  if (lines.empty()) return;
  std::optional<double> cpus;
  if (v2) {
    const std::vector<std::string> words = split(lines[0], ' ');
    if (words.size() == 2) cpus = ratio(parse_int(words[0]), parse_int(words[1]));
  } else {
    const std::vector<std::string> period = read_lines(folder + "/cpu.cfs_period_us");
    if (!period.empty()) cpus = ratio(parse_int(lines[0]), parse_int(period[0]));
  }
  if (cpus && (smallest.cpus <= 0.0 || *cpus < smallest.cpus)) smallest = {*cpus, file};
}

// Every cgroup from the process's own up to the one that the mount shows limits it.
void walk_up(const CgroupMount& mount, std::string path, const std::string& root, Quota& smallest) {
  for (;;) {
    read_quota(mount.v2, root + mount.point + path, smallest);
    if (path.empty()) return;
    path.resize(path.rfind('/'));
  }
}

Quota find_quota(const std::string& root) {
  Quota smallest;
  const std::vector<CgroupMount> mounts = cgroup_mounts(root);
  for (const bool v2 : {true, false}) {
    const std::optional<std::string> cgroup = own_cgroup(root, v2);
    if (!cgroup) continue;
    const CgroupMount* first = nullptr;
    bool found = false;
    for (const CgroupMount& mount : mounts) {
      if (mount.v2 != v2) continue;
      if (first == nullptr) first = &mount;
      const std::optional<std::string> path = below(*cgroup, mount.root);
      if (!path) continue;
      walk_up(mount, *path, root, smallest);
      found = true;
    }
    // A container without a cgroup namespace can see a path that is not below its mount; the mount shows its
    // limits.
    if (!found && first != nullptr) walk_up(*first, "", root, smallest);
  }
  return smallest;
}

// CPUs of one core have the same thread_siblings_list ("0,4" or "0-1"). A CPU whose list cannot be read is a
// core.
int count_cores(const std::string& root, const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string number = std::to_string(cpu);
    const std::string folder = root + "/sys/devices/system/cpu/cpu" + number + "/topology/";
    const std::vector<std::string> siblings = read_lines(folder + "thread_siblings_list");
    const bool valid =
        !siblings.empty() && !siblings[0].empty() && siblings[0].find_first_not_of("0123456789,-") == std::string::npos;
    cores.insert(valid ? siblings[0] : "cpu" + number);
  }
  return static_cast<int>(cores.size());
}

std::vector<int> own_affinity() {
  std::vector<int> cpus;
#if defined(__linux__)
  // The kernel answers EINVAL while the mask is smaller than its own.
  for (std::size_t bits = 1024; bits <= (1u << 20); bits *= 2) {
    std::vector<unsigned long> mask(bits / (8 * sizeof(unsigned long)));
    auto* set = reinterpret_cast<cpu_set_t*>(mask.data());
    const std::size_t bytes = bits / 8;
    if (sched_getaffinity(0, bytes, set) != 0) {
      if (errno == EINVAL) continue;
      break;
    }
    for (std::size_t cpu = 0; cpu < bits; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(static_cast<int>(cpu));
    }
    break;
  }
#endif
  const int count = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int cpu = 0; cpus.empty() && cpu < count; ++cpu) cpus.push_back(cpu);
  return cpus;
}

// "1.5 CPUs", "1 CPU"; to_chars because printf would write the locale's decimal comma.
std::string count_of(double number, const char* noun) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, number, std::chars_format::general, 4);
  const std::string text = error == std::errc() ? std::string(digits, end) : "?";
  return text + " " + noun + (number == 1.0 ? "" : "s");
}

}  // namespace

HostInfo detect_host(const std::string& root, std::vector<int> affinity) {
  const std::string prefix = root == "/" ? "" : root;
  HostInfo host;
  host.affinity_cpus = affinity.empty() ? own_affinity() : std::move(affinity);
  std::sort(host.affinity_cpus.begin(), host.affinity_cpus.end());
  const auto last = std::unique(host.affinity_cpus.begin(), host.affinity_cpus.end());
  host.affinity_cpus.erase(last, host.affinity_cpus.end());
  const Quota quota = find_quota(prefix);
  host.quota = quota.cpus;
  host.quota_source = quota.source;
  host.physical_cores = count_cores(prefix, host.affinity_cpus);

  const int cpus = static_cast<int>(host.affinity_cpus.size());
  host.threads = cpus;
  host.reason = "affinity mask of " + count_of(cpus, "CPU");
  if (host.physical_cores < host.threads) {
    host.threads = host.physical_cores;
    host.reason = count_of(host.physical_cores, "physical core") + " under the affinity mask";
  }
  // Rounded down: the last fraction of a CPU would make every barrier wait for a throttled thread.
  const double whole = std::max(1.0, std::floor(host.quota));
  if (host.quota > 0.0 && whole < host.threads) {
    host.threads = static_cast<int>(whole);
    host.reason = "cgroup quota of " + count_of(host.quota, "CPU") + " (" + host.quota_source + ")";
  }
  return host;
}

}  // namespace forwardpass
