// SPDX-License-Identifier: Apache-2.0
// The Python object `_native.Program`.
#pragma once
#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "../core/program.hpp"
#include "params.hpp"

namespace forwardpass::bind {

// A program with the Python-owned memory that its steps point into.
struct BoundProgram {
  explicit BoundProgram(int threads, std::shared_ptr<Arenas> arenas = nullptr) : program(threads, std::move(arenas)) {}
  Program program;
  std::vector<ParamBlock> params;
  std::vector<std::size_t> blocks;  // per step, which of `params` it has
  std::vector<int> kernels;         // per step, its index in kernels.def
  std::vector<py::object> constants;
};

void bind_program(py::module_& module);

void bind_template(py::module_& module);

// The capsule of include/forwardpass.h.
void bind_embedding(py::module_& module);

}  // namespace forwardpass::bind
