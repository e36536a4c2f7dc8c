// SPDX-License-Identifier: Apache-2.0
#include "params.hpp"

#include <string>
#include <type_traits>
#include <unordered_map>

#include "arrays.hpp"

namespace forwardpass::bind {

namespace {

const char* const kActivationNames[] = {
#define UNARY(name, expression) #name,
#include "../kernels/unary.def"
#undef UNARY
};

std::int64_t activation_index(py::handle value) {
  if (value.is_none()) return kNone;
  const auto name = value.cast<std::string>();
  if (name.empty()) return kNone;
  for (int i = 0; i < kActivationCount; ++i) {
    if (name == kActivationNames[i]) return i;
  }
  throw py::value_error("unknown activation '" + name + "'");
}

// The name of a field as text of Python, made once: to make it takes longer than to look it up. The lock of the
// interpreter is held.
PyObject* key_of(const char* name) {
  static auto& keys = *new std::unordered_map<const char*, PyObject*>();
  PyObject*& key = keys[name];
  if (key == nullptr) key = PyUnicode_InternFromString(name);
  if (key == nullptr) throw py::error_already_set();
  return key;
}

// Gives each field its value from the dictionary, and counts the values that were used.
struct Filler {
  const py::dict& values;
  std::vector<py::object>& keep_alive;
  std::size_t used = 0;

  py::handle find(const char* name) {
    PyObject* value = PyDict_GetItem(values.ptr(), key_of(name));
    if (value != nullptr) ++used;
    return value;
  }
  void i64(const char* name, std::int64_t& field) {
    const std::string_view field_name = name;
    const bool is_activation = field_name.starts_with("activation");
    const bool is_type = field_name == "type" || field_name == "from" || field_name == "to";
    if (is_activation) field = kNone;
    if (const py::handle value = find(name))
      field = is_activation ? activation_index(value)
              : is_type     ? element_type(value.cast<std::string>())
                            : value.cast<std::int64_t>();
  }
  void f32(const char* name, float& field) {
    if (const py::handle value = find(name)) field = value.cast<float>();
  }
  void dims(const char* name, std::int64_t (&field)[kMaxRank]) {
    const py::handle value = find(name);
    if (!value) return;
    const auto items = py::reinterpret_borrow<py::sequence>(value);
    if (items.size() > kMaxRank) throw py::value_error(std::string(name) + ": rank over " + std::to_string(kMaxRank));
    for (std::size_t i = 0; i < items.size(); ++i) field[i] = items[i].cast<std::int64_t>();
  }
  void ptr(const char* name, const void*& field) {
    const py::handle value = find(name);
    if (!value || value.is_none()) return;
    field = dense_data(value);
    keep_alive.push_back(py::reinterpret_borrow<py::object>(value));
  }
};

struct Lister {
  py::list fields;
  void i64(const char* name, std::int64_t&) { add(name, "i64"); }
  void f32(const char* name, float&) { add(name, "f32"); }
  void dims(const char* name, std::int64_t (&)[kMaxRank]) { add(name, "dims"); }
  void ptr(const char* name, const void*&) { add(name, "ptr"); }
  void add(const char* name, const char* kind) { fields.append(py::make_tuple(name, kind)); }
};

// Finds the place of a field.
struct Locator {
  const std::string& wanted;
  std::size_t index;
  const std::byte* start;
  FieldPlace found{};
  void i64(const char* name, std::int64_t& field) { add(name, FieldPlace::Kind::kI64, &field); }
  void f32(const char* name, float& field) { add(name, FieldPlace::Kind::kF32, &field); }
  void dims(const char* name, std::int64_t (&field)[kMaxRank]) { add(name, FieldPlace::Kind::kI64, field + index); }
  void ptr(const char* name, const void*& field) { add(name, FieldPlace::Kind::kPtr, &field); }
  void add(const char* name, FieldPlace::Kind kind, const void* field) {
    if (wanted == name) found = {kind, static_cast<std::size_t>(static_cast<const std::byte*>(field) - start)};
  }
};

#define PARAMS_BEGIN(Name) \
  template <class Visitor> \
  void visit(Name& p, Visitor& v) {
#define PARAMS_END(Name) }
#define I64(name) v.i64(#name, p.name);
#define F32(name) v.f32(#name, p.name);
#define DIMS(name) v.dims(#name, p.name);
#define PTR(name) v.ptr(#name, p.name);
#include "../kernels/params.def"
#undef PARAMS_BEGIN
#undef PARAMS_END
#undef I64
#undef F32
#undef DIMS
#undef PTR

// Names alone: the values may be weights.
std::string unknown_fields(const py::dict& values, const py::list& known) {
  std::string text = "the kernel has no parameter";
  for (const auto& [key, value] : values) {
    const auto name = key.cast<std::string>();
    bool found = false;
    for (const py::handle field : known) found = found || field.cast<py::tuple>()[0].cast<std::string>() == name;
    if (!found) text += " '" + name + "'";
  }
  return text + "; is the compiled module of another version than the package?";
}

template <class Params>
ParamBlock fill(const py::dict& values) {
  static_assert(std::is_trivially_copyable_v<Params>);
  ParamBlock block;
  block.size = sizeof(Params);
  block.data = std::make_unique<std::byte[]>(block.size);
  auto* params = new (block.data.get()) Params{};
  Filler filler{values, block.keep_alive};
  visit(*params, filler);
  if (filler.used != values.size()) {
    Lister known;
    visit(*params, known);
    throw py::value_error(unknown_fields(values, known.fields));
  }
  return block;
}

template <class Params>
FieldPlace locate(const std::string& name, std::size_t index) {
  Params params{};
  Locator locator{name, index, reinterpret_cast<const std::byte*>(&params)};
  visit(params, locator);
  return locator.found;
}

template <class Params>
py::list list_fields() {
  Params params{};
  Lister lister;
  visit(params, lister);
  return lister.fields;
}

}  // namespace

ParamBlock make_params(int kernel, const py::dict& values) {
  using Fill = ParamBlock (*)(const py::dict&);
  static constexpr Fill kFills[] = {
#define KERNEL(name, Params) &fill<Params>,
#include "../kernels/kernels.def"
#undef KERNEL
  };
  return kFills[kernel](values);
}

FieldPlace field_place(int kernel, const std::string& name, std::size_t index) {
  using Locate = FieldPlace (*)(const std::string&, std::size_t);
  static constexpr Locate kLocates[] = {
#define KERNEL(name, Params) &locate<Params>,
#include "../kernels/kernels.def"
#undef KERNEL
  };
  const FieldPlace found = index < kMaxRank ? kLocates[kernel](name, index) : FieldPlace{};
  if (found.kind == FieldPlace::Kind::kNone) throw py::value_error("the kernel has no number '" + name + "'");
  return found;
}

py::list describe_params(int kernel) {
  using List = py::list (*)();
  static constexpr List kLists[] = {
#define KERNEL(name, Params) &list_fields<Params>,
#include "../kernels/kernels.def"
#undef KERNEL
  };
  return kLists[kernel]();
}

}  // namespace forwardpass::bind
