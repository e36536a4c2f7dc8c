// SPDX-License-Identifier: Apache-2.0
// The C interface of include/forwardpass.h. An fp_model is a core Program whose Python owner is kept alive.
#include <forwardpass.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <unordered_map>

#include "program.hpp"

namespace forwardpass::bind {

namespace {

const Program& program_of(const fp_model* model) { return *reinterpret_cast<const Program*>(model); }

// fp_model -> the Python object that owns its memory, for models made by load(). Only touched under the GIL.
std::unordered_map<fp_model*, PyObject*>& owners() {
  static auto* map = new std::unordered_map<fp_model*, PyObject*>;
  return *map;
}

// What the exception says, without the class and the traceback that what() adds.
std::string message_of(const py::error_already_set& e) {
  try {
    return py::cast<std::string>(py::str(e.value()));
  } catch (const std::exception&) {
    return e.what();
  }
}

fp_model* load(const char* path, const char* precision, std::int32_t threads, std::int64_t batch, char* error,
               std::size_t error_size) {
  const py::gil_scoped_acquire gil;
  std::string message;
  try {
    py::object owner = py::module_::import("forwardpass.embed").attr("bind")(path, precision, threads, batch);
    auto* model = reinterpret_cast<fp_model*>(owner.attr("handle").cast<std::uintptr_t>());
    owners()[model] = owner.release().ptr();
    return model;
  } catch (const py::error_already_set& e) {
    message = message_of(e);
  } catch (const std::exception& e) {
    message = e.what();
  }
  if (error != nullptr && error_size > 0) std::snprintf(error, error_size, "%s", message.c_str());
  return nullptr;
}

void release(fp_model* model) {
  const py::gil_scoped_acquire gil;
  const auto found = owners().find(model);
  if (found == owners().end()) return;
  Py_DECREF(found->second);
  owners().erase(found);
}

std::int32_t describe(const std::vector<TensorInfo>& tensors, std::int32_t index, fp_tensor_info* info) {
  if (index < 0 || static_cast<std::size_t>(index) >= tensors.size()) return -1;
  const auto& [name, view] = tensors[static_cast<std::size_t>(index)];
  if (view.rank > FP_MAX_RANK) return -1;
  *info = fp_tensor_info{};
  info->name = name.c_str();
  info->rank = view.rank;
  std::copy_n(view.shape, view.rank, info->shape);
  info->bytes = view.nbytes().value();
  info->type = static_cast<fp_type>(view.type);
  return 0;
}

#define TYPE(name, T) static_assert(static_cast<int>(fp_##name) == static_cast<int>(k_type_##name));
#include "../kernels/types.def"
#undef TYPE

const fp_api kApi = {
    FP_API_VERSION,
    &load,
    &release,
    [](const fp_model* model) { return static_cast<std::int32_t>(program_of(model).inputs().size()); },
    [](const fp_model* model) { return static_cast<std::int32_t>(program_of(model).outputs().size()); },
    [](const fp_model* model, std::int32_t i, fp_tensor_info* info) {
      return describe(program_of(model).inputs(), i, info);
    },
    [](const fp_model* model, std::int32_t i, fp_tensor_info* info) {
      return describe(program_of(model).outputs(), i, info);
    },
    [](const fp_model* model, const void* const* inputs, void* const* outputs) -> std::int32_t {
      try {
        return static_cast<std::int32_t>(program_of(model).run(inputs, outputs).step);
      } catch (const std::bad_alloc&) {
        return -1;
      }
    },
};

}  // namespace

void bind_embedding(py::module_& module) {
  module.attr("_C_API") = py::capsule(static_cast<const void*>(&kApi), "forwardpass._native._C_API");
}

}  // namespace forwardpass::bind
