// SPDX-License-Identifier: Apache-2.0
// The module `_native`: what the machine is, the kernels by name, and programs.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "../core/arena.hpp"
#include "../core/host.hpp"
#include "../core/table.hpp"
#include "../core/team.hpp"
#include "arrays.hpp"
#include "program.hpp"

namespace forwardpass::bind {

namespace {

py::list list_isas() {
  py::list result;
  for (const IsaInfo& isa : isas()) {
    py::dict d;
    d["name"] = isa.name;
    d["rank"] = isa.rank;
    d["available"] = isa.available;
    d["why_not"] = isa.why_not;
    if (isa.table != nullptr) {
      d["panel"] = isa.table->panel;
      py::list tile_panels;
      for (const std::int64_t panels : isa.table->tile_panels.of) {
        if (panels > 0) tile_panels.append(panels);
      }
      d["tile_panels"] = py::tuple(tile_panels);
      d["tiles"] = isa.table->tiles;
    }
    result.append(d);
  }
  return result;
}

py::list available_isas() {
  py::list result;
  for (const IsaInfo& isa : isas()) {
    if (isa.available) result.append(isa.name);
  }
  return result;
}

py::dict describe(const ConfigProblem& problem) {
  py::dict d;
  d["message"] = problem.message;
  d["where"] = problem.where;
  d["expected"] = problem.expected;
  d["got"] = problem.got;
  d["hint"] = problem.hint;
  return d;
}

// The ISA to use: (name, None) or (None, the problem's fields).
py::tuple select(const std::string& forced) {
  const Selection selection = forced.empty() ? select_isa(read_environment().isa) : select_isa(forced, "isa");
  if (selection.isa == nullptr) return py::make_tuple(py::none(), describe(selection.problem));
  return py::make_tuple(selection.isa->name, py::none());
}

// That of the ISA that is named; without a name, of the best one: all give the same number.
std::uint32_t crc32(py::handle data, std::uint32_t start, const std::string& isa) {
  constexpr Py_ssize_t kLong = 1 << 16;  // bytes, from which on other threads may run meanwhile
  const KernelTable* const table = isa.empty() ? select_isa("").isa->table : find_table(isa);
  if (table == nullptr) throw py::value_error("no ISA that runs here: " + isa);
  Py_buffer bytes;
  if (PyObject_GetBuffer(data.ptr(), &bytes, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  std::optional<py::gil_scoped_release> released;
  if (bytes.len >= kLong) released.emplace();
  const std::uint32_t found = find_crc32(*table)(bytes.buf, bytes.len, start);
  released.reset();
  PyBuffer_Release(&bytes);
  return found;
}

// FORWARDPASS_NUM_THREADS: (number or 0, None) or (0, the problem's fields).
py::tuple environment_threads() {
  const Environment environment = read_environment();
  if (environment.problem) return py::make_tuple(0, describe(environment.problem));
  return py::make_tuple(environment.threads, py::none());
}

py::dict describe_host(const std::string& root, std::vector<int> affinity) {
  const HostInfo host = detect_host(root, std::move(affinity));
  py::dict d;
  d["affinity_cpus"] = host.affinity_cpus;
  d["quota"] = host.quota;
  d["quota_source"] = host.quota_source;
  d["physical_cores"] = host.physical_cores;
  d["threads"] = host.threads;
  d["reason"] = host.reason;
  return d;
}

// The threads that a model has by default.
int default_threads() {
  static const int threads = [] {
    const Environment environment = read_environment();
    return environment.threads > 0 ? environment.threads : detect_host().threads;
  }();
  return threads;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  import_numpy();
  // Here and not at the first load: every CPUID takes its time, see read_words.
  isas();
  cache_sizes();
  module.def("isas", &list_isas, "Every ISA of this build, best first, and why some cannot run here.");
  module.def("available_isas", &available_isas);
  module.def("select_isa", &select, py::arg("forced") = "");
  module.def("environment_threads", &environment_threads);
  module.def(
      "detect_host",
      [](const std::string& root, const std::optional<std::vector<int>>& affinity) {
        return describe_host(root, affinity.value_or(std::vector<int>{}));
      },
      py::arg("root") = "/", py::arg("affinity") = py::none());
  module.def("kernel_names", [] {
    py::list names;
    for (int i = 0; i < kKernelCount; ++i) names.append(kernel_names()[i]);
    return names;
  });
  module.def("crc32", &crc32, py::arg("data"), py::arg("start") = 0, py::arg("isa") = "");
  module.def(
      "forget",
      [](py::handle array) {
        const TensorView view = view_of(array, true);
        if (view.contiguous()) forget(view.data, static_cast<std::size_t>(view.nbytes().value_or(0)));
      },
      py::arg("array"),
      "Give the memory of a dense array back, whose values may change: it comes back when written to.");
  module.def("cpu_brand", &cpu_brand);
  module.def("cache_sizes", [] {
    const CacheSizes& sizes = cache_sizes();
    return py::make_tuple(sizes.l1d, sizes.l2, sizes.l3);
  });
  module.attr("sanitize") = FORWARDPASS_SANITIZE;
  bind_program(module);
  bind_template(module);
  bind_embedding(module);
}

}  // namespace forwardpass::bind

// What thread pool controllers call through the dynamic linker, as they do with BLAS libraries.
extern "C" {

__attribute__((visibility("default"))) int forwardpass_get_num_threads() {
  // Without a limit it is what a model has by default, so that a controller that puts it back takes the limit away.
  return std::min(forwardpass::thread_limit(), forwardpass::bind::default_threads());
}

__attribute__((visibility("default"))) void forwardpass_set_num_threads(int most) {
  using namespace forwardpass;
  set_thread_limit(most < bind::default_threads() ? most : kNoThreadLimit);
}
}
