// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include <string>

namespace forwardpass::bind {

namespace {

constexpr std::string_view kTypeNames[] = {
#define TYPE(name, T) #name,
#include "../kernels/types.def"
#undef TYPE
};

[[noreturn]] void refuse(py::handle array, const char* reason) {
  throw py::value_error(std::string("an array ") + reason + ": " + std::string(py::str(array.attr("dtype"))));
}

PyArrayObject* require_array(py::handle value) {
  if (!is_array(value)) throw py::value_error("not an array: " + std::string(py::repr(value)));
  return reinterpret_cast<PyArrayObject*>(value.ptr());
}

}  // namespace

void import_numpy() {
  if (_import_array() < 0) throw py::error_already_set();
}

bool is_array(py::handle value) { return PyArray_Check(value.ptr()); }

ElementType element_type(std::string_view name) {
  for (int i = 0; i < kElementTypeCount; ++i) {
    if (name == kTypeNames[i]) return static_cast<ElementType>(i);
  }
  throw py::value_error("unknown element type '" + std::string(name) + "'");
}

TensorView view_of(py::handle value, bool writeable) {
  PyArrayObject* array = require_array(value);
  const std::int64_t itemsize = PyArray_ITEMSIZE(array);
  int type = 0;
  while (type < kElementTypeCount &&
         (kTypeNames[type][0] != PyArray_DESCR(array)->kind || element_sizes::kOf[type] != itemsize)) {
    ++type;
  }
  if (type == kElementTypeCount) refuse(value, "of elements that kernels do not know");
  if (!PyArray_ISALIGNED(array) || !PyArray_ISNOTSWAPPED(array)) refuse(value, "not aligned, or of foreign byte order");
  if (writeable && !PyArray_ISWRITEABLE(array)) refuse(value, "that is not writeable");
  if (PyArray_NDIM(array) > kMaxTensorRank) refuse(value, "of too many dimensions");
  TensorView view;
  view.data = PyArray_DATA(array);
  view.type = static_cast<ElementType>(type);
  view.rank = PyArray_NDIM(array);
  for (int i = 0; i < view.rank; ++i) {
    if (PyArray_STRIDE(array, i) % itemsize != 0) refuse(value, "with strides that are not whole elements");
    view.shape[i] = PyArray_DIM(array, i);
    view.strides[i] = PyArray_STRIDE(array, i) / itemsize;
  }
  return view;
}

const void* dense_data(py::handle value) {
  PyArrayObject* array = require_array(value);
  if (PyDataType_REFCHK(PyArray_DESCR(array))) refuse(value, "of Python objects");
  if (!PyArray_ISCARRAY_RO(array)) refuse(value, "not contiguous, not aligned, or of foreign byte order");
  return PyArray_DATA(array);
}

}  // namespace forwardpass::bind
