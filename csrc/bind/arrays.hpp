// SPDX-License-Identifier: Apache-2.0
// NumPy arrays as views. Through NumPy's own C interface: that of pybind11 looks for NumPy's version with a regular
// expression, and the buffer protocol writes down a format; both take longer than all else that happens here.
#pragma once
#include <pybind11/pybind11.h>

#include <string_view>

#include "../core/tensor.hpp"

namespace forwardpass::bind {

namespace py = pybind11;

// Once, before the others. Throws what Python throws where there is no NumPy.
void import_numpy();

bool is_array(py::handle value);

// The element type with NumPy's name. Throws ValueError if kernels know none of that name.
ElementType element_type(std::string_view name);

// An array's memory, valid while the array is. Throws ValueError unless it is an array of an element type that kernels
// know, in native byte order, aligned, with strides of whole elements, and for `writeable` writeable.
TensorView view_of(py::handle array, bool writeable = false);

// The address of an array that also is contiguous: a constant of a program, or a table of a parameter block.
const void* dense_data(py::handle array);

}  // namespace forwardpass::bind
