// SPDX-License-Identifier: Apache-2.0
// Kernel parameter blocks from Python dictionaries.
#pragma once
#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace forwardpass::bind {

namespace py = pybind11;

struct ParamBlock {
  std::unique_ptr<std::byte[]> data;
  std::size_t size = 0;
  std::vector<py::object> keep_alive;  // arrays whose addresses are in the block
};

// The block of kernel `kernel` (index of kernels.def) from the fields in `values`. A field that is not given is 0 or
// null, except that `activation` is None; it is given as a row name of unary.def. Throws ValueError for an unknown
// field or activation.
ParamBlock make_params(int kernel, const py::dict& values);

// Where a number or an address lies in the kernel's block. Throws ValueError if there is none of that name.
struct FieldPlace {
  enum class Kind { kNone, kI64, kF32, kPtr } kind = Kind::kNone;  // of an item of dims: kI64
  std::size_t offset = 0;                                          // in bytes
};
FieldPlace field_place(int kernel, const std::string& name, std::size_t index);

// (name, kind) of every field of the kernel's block; kind is "i64", "f32", "dims" or "ptr".
py::list describe_params(int kernel);

}  // namespace forwardpass::bind
