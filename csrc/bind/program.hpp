// SPDX-License-Identifier: Apache-2.0
// The Python object `_native.Program`.
#pragma once
#include <pybind11/pybind11.h>

#include <vector>

#include "../core/program.hpp"
#include "params.hpp"

namespace forwardpass::bind {

// A program with the Python-owned memory that its steps point into.
struct BoundProgram {
  explicit BoundProgram(int threads) : program(threads) {}
  Program program;
  std::vector<ParamBlock> params;
  std::vector<py::object> constants;
};

void bind_program(py::module_& module);

// The capsule of include/forwardpass.h.
void bind_embedding(py::module_& module);

}  // namespace forwardpass::bind
