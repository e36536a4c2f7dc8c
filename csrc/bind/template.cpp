// SPDX-License-Identifier: Apache-2.0
// Programs that differ in numbers alone: those of one plan for other sizes of its inputs.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "../core/place.hpp"
#include "arrays.hpp"
#include "program.hpp"

namespace forwardpass::bind {

namespace {

// A number or an array of those that are different in each program.
struct Value {
  std::int64_t integer;
  double real;  // the same number
  const void* address;
};

struct FieldRule {
  std::size_t offset;  // in the block of all parameters
  FieldPlace::Kind kind;
  std::size_t value;
};

struct OperandRule {
  std::size_t step;
  std::uint16_t operand;
  std::int64_t bytes;  // from the start of the buffer
  int value;           // in place of `bytes`, or an array; -1 for none
  int piece;           // of the arena; -1 for none
  bool is_array;
};

struct RangeRule {
  std::size_t step;
  int thread;
  std::int64_t begin, end;
  int begin_value, end_value;  // -1 for none
};

struct LoopRule {
  std::size_t loop;
  std::int64_t begin, count;
  int begin_value, count_value;  // -1 for none
};

struct SizeRule {
  bool output;
  std::size_t index;
  std::size_t axis;
  std::size_t value;
};

class Template {
 public:
  explicit Template(py::object program) : owner_(std::move(program)), base_(owner_.cast<const BoundProgram&>()) {
    std::vector<std::size_t> starts;
    for (const ParamBlock& block : base_.params) {
      starts.push_back(params_.size());
      params_.insert(params_.end(), block.data.get(), block.data.get() + block.size);
      params_.resize((params_.size() + 15) / 16 * 16);
    }
    for (const std::size_t block : base_.blocks) starts_.push_back(starts[block]);
  }

  void add_field(std::size_t step, const std::string& name, std::size_t index, std::size_t value) {
    const FieldPlace place = field_place(base_.kernels.at(step), name, index);
    fields_.push_back({starts_[step] + place.offset, place.kind, value});
  }
  void add_piece(std::int64_t bytes, int value, std::int64_t first, std::int64_t last, int part) {
    pieces_.push_back({bytes, first, last, part});
    piece_values_.push_back(value);
  }
  // `operand` is -1 for the output.
  void add_operand(std::size_t step, int operand, std::int64_t bytes, int value, int piece, bool is_array) {
    const auto place = static_cast<std::uint16_t>(operand < 0 ? kMaxInputs : operand);
    operands_.push_back({step, place, bytes, value, piece, is_array});
  }
  void add_range(std::size_t step, int thread, std::int64_t begin, int begin_value, std::int64_t end, int end_value) {
    ranges_.push_back({step, thread, begin, end, begin_value, end_value});
  }
  void add_loop(std::size_t loop, std::int64_t begin, int begin_value, std::int64_t count, int count_value) {
    if (loop >= base_.program.loops()) throw py::value_error("no such loop");
    loops_.push_back({loop, begin, count, begin_value, count_value});
  }
  void add_barrier(std::size_t step, std::size_t value) { barriers_.emplace_back(step, value); }
  void add_size(bool output, std::size_t index, std::size_t axis, std::size_t value) {
    sizes_.push_back({output, index, axis, value});
  }

  // The program with other values, without memory, and the bytes of its arena.
  std::pair<std::unique_ptr<BoundProgram>, std::size_t> make(const py::list& given,
                                                             std::shared_ptr<Arenas> arenas) const {
    auto made = std::make_unique<BoundProgram>(base_.program.threads(), std::move(arenas));
    made->constants.push_back(owner_);
    std::vector<Value> values;
    for (const py::handle item : given) values.push_back(value_from(item, made->constants));
    set_ends(made->program, values);
    made->program.copy_steps(base_.program);
    set_params(*made, values);
    std::vector<Piece> pieces = pieces_;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (piece_values_[i] >= 0) pieces[i].bytes = at(values, piece_values_[i]).integer;
    }
    const std::size_t arena_bytes = place(pieces, base_.program.threads());
    for (const OperandRule& r : operands_) {
      if (r.is_array) {
        const auto* start = static_cast<const std::byte*>(at(values, r.value).address);
        made->program.set_constant(r.step, r.operand, start + r.bytes);
        continue;
      }
      const std::int64_t bytes = either(r.bytes, values, r.value);
      const std::int64_t start = r.piece < 0 ? 0 : pieces[static_cast<std::size_t>(r.piece)].offset;
      made->program.set_offset(r.step, r.operand, start + bytes);
    }
    for (const RangeRule& r : ranges_) {
      made->program.set_range(r.step, r.thread,
                              {either(r.begin, values, r.begin_value), either(r.end, values, r.end_value), r.thread});
    }
    for (const LoopRule& r : loops_) {
      made->program.set_loop(r.loop, either(r.begin, values, r.begin_value), either(r.count, values, r.count_value));
    }
    for (const auto& [step, value] : barriers_) made->program.set_barrier(step, values[value].integer != 0);
    return {std::move(made), arena_bytes};
  }

 private:
  static const Value& at(const std::vector<Value>& values, int index) {
    return values[static_cast<std::size_t>(index)];
  }

  static std::int64_t either(std::int64_t number, const std::vector<Value>& values, int index) {
    return index < 0 ? number : at(values, index).integer;
  }

  static Value value_from(py::handle item, std::vector<py::object>& alive) {
    Value value{};
    if (PyFloat_Check(item.ptr())) {
      value.real = PyFloat_AS_DOUBLE(item.ptr());
    } else if (is_array(item)) {
      value.address = dense_data(item);
      alive.push_back(py::reinterpret_borrow<py::object>(item));
    } else {
      value.integer = item.cast<std::int64_t>();
      value.real = static_cast<double>(value.integer);
    }
    return value;
  }

  void set_ends(Program& program, const std::vector<Value>& values) const {
    std::vector<TensorInfo> ends[2] = {base_.program.inputs(), base_.program.outputs()};
    for (const SizeRule& r : sizes_)
      ends[r.output][r.index].view.shape[r.axis] = at(values, static_cast<int>(r.value)).integer;
    for (const TensorInfo& t : ends[0]) program.add_input(dense(t));
    for (const TensorInfo& t : ends[1]) program.add_output(dense(t));
  }

  // With the strides of its shape.
  static TensorInfo dense(const TensorInfo& t) {
    const auto view = TensorView::dense(t.view.type, std::span(t.view.shape, static_cast<std::size_t>(t.view.rank)));
    if (!view) throw py::value_error("no tensor can have the shape of '" + t.name + "'");
    return {t.name, *view};
  }

  void set_params(BoundProgram& made, const std::vector<Value>& values) const {
    ParamBlock block;
    block.size = params_.size();
    block.data = std::make_unique_for_overwrite<std::byte[]>(block.size);
    std::copy_n(params_.data(), block.size, block.data.get());  // of no bytes, too
    for (const FieldRule& r : fields_) {
      std::byte* const to = block.data.get() + r.offset;
      const Value& value = values[r.value];
      if (r.kind == FieldPlace::Kind::kF32) {
        const auto number = static_cast<float>(value.real);
        std::memcpy(to, &number, sizeof number);
      } else if (r.kind == FieldPlace::Kind::kPtr) {
        std::memcpy(to, &value.address, sizeof value.address);
      } else {
        std::memcpy(to, &value.integer, sizeof value.integer);
      }
    }
    for (std::size_t step = 0; step < starts_.size(); ++step)
      made.program.set_params(step, block.data.get() + starts_[step]);
    made.params.push_back(std::move(block));
  }

  py::object owner_;
  const BoundProgram& base_;
  std::vector<std::byte> params_;    // of all steps, one after another
  std::vector<std::size_t> starts_;  // of each step's
  std::vector<FieldRule> fields_;
  std::vector<Piece> pieces_;
  std::vector<int> piece_values_;
  std::vector<OperandRule> operands_;
  std::vector<RangeRule> ranges_;
  std::vector<LoopRule> loops_;
  std::vector<std::pair<std::size_t, std::size_t>> barriers_;  // steps and values
  std::vector<SizeRule> sizes_;
};

}  // namespace

void bind_template(py::module_& module) {
  py::class_<Template>(module, "Template",
                       "A program whose numbers are filled in for each set of sizes. See plan/template.py.")
      .def(py::init<py::object>(), py::arg("program"))
      .def("add_field", &Template::add_field, py::arg("step"), py::arg("name"), py::arg("index"), py::arg("value"))
      .def("add_piece", &Template::add_piece, py::arg("bytes"), py::arg("value"), py::arg("first"), py::arg("last"),
           py::arg("part"))
      .def("add_operand", &Template::add_operand, py::arg("step"), py::arg("operand"), py::arg("bytes"),
           py::arg("value"), py::arg("piece"), py::arg("is_array"))
      .def("add_range", &Template::add_range, py::arg("step"), py::arg("thread"), py::arg("begin"),
           py::arg("begin_value"), py::arg("end"), py::arg("end_value"))
      .def("add_loop", &Template::add_loop, py::arg("loop"), py::arg("begin"), py::arg("begin_value"), py::arg("count"),
           py::arg("count_value"))
      .def("add_barrier", &Template::add_barrier, py::arg("step"), py::arg("value"))
      .def("add_size", &Template::add_size, py::arg("output"), py::arg("index"), py::arg("axis"), py::arg("value"))
      .def("make", &Template::make, py::arg("values"), py::arg("arenas"));
}

}  // namespace forwardpass::bind
