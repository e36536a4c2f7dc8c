// SPDX-License-Identifier: Apache-2.0
#include "program.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../core/arena.hpp"
#include "../core/background.hpp"
#include "../core/place.hpp"
#include "../core/table.hpp"
#include "../core/winograd_weights.hpp"
#include "arrays.hpp"

namespace forwardpass::bind {

namespace {

// An operand from Python: None, or (kind, index, byte offset), or (array, byte offset) for a constant.
Operand operand_from(py::handle value, std::vector<py::object>& constants) {
  Operand operand;
  if (value.is_none()) return operand;
  const auto items = py::reinterpret_borrow<py::tuple>(value);
  if (is_array(items[0])) {
    operand.kind = Operand::Kind::kConstant;
    operand.constant = dense_data(items[0]);
    constants.push_back(items[0]);
    operand.offset = items[1].cast<std::int64_t>();
    return operand;
  }
  const auto kind = items[0].cast<std::string>();
  operand.kind = kind == "arena"   ? Operand::Kind::kArena
                 : kind == "input" ? Operand::Kind::kInput
                 : kind == "output"
                     ? Operand::Kind::kOutput
                     : throw py::value_error("an operand is 'arena', 'input' or 'output', not '" + kind + "'");
  operand.index = items[1].cast<std::uint32_t>();
  operand.offset = items[2].cast<std::int64_t>();
  return operand;
}

int require_kernel(const std::string& name) {
  const int index = kernel_index(name);
  if (index < 0) throw py::value_error("unknown kernel '" + name + "'");
  return index;
}

const KernelTable& require_table(const std::string& isa) {
  const KernelTable* table = find_table(isa);
  if (table == nullptr) throw py::value_error("ISA '" + isa + "' is not available here");
  return *table;
}

using Ranges = std::vector<std::pair<std::int64_t, std::int64_t>>;

// What a step works on, and which thread on which part.
struct Work {
  Operand in[kMaxInputs];
  Operand out;
  std::vector<Range> parts;

  Work(BoundProgram& self, const py::sequence& inputs, py::handle output, const Ranges& ranges) {
    if (inputs.size() > kMaxInputs) throw py::value_error("too many inputs");
    if (ranges.size() != static_cast<std::size_t>(self.program.threads())) {
      throw py::value_error("one range per thread");
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) in[i] = operand_from(inputs[i], self.constants);
    out = operand_from(output, self.constants);
    for (const auto& [begin, end] : ranges) parts.push_back({begin, end, static_cast<std::int64_t>(parts.size())});
  }
};

void add_step(BoundProgram& self, const std::string& isa, const std::string& kernel, const py::dict& params,
              const py::sequence& inputs, py::handle output, const Ranges& ranges, bool barrier) {
  const int index = require_kernel(kernel);
  const Work work(self, inputs, output, ranges);
  ParamBlock block = make_params(index, params);
  self.program.add_step(require_table(isa).kernels[index], block.data.get(), work.in, work.out, work.parts, barrier,
                        works_together(index));
  self.blocks.push_back(self.params.size());
  self.params.push_back(std::move(block));
  self.kernels.push_back(index);
}

void add_slice(BoundProgram& self, std::size_t like, const py::sequence& inputs, py::handle output,
               const Ranges& ranges, bool barrier) {
  if (like >= self.program.steps()) throw py::value_error("no such step");
  const Work work(self, inputs, output, ranges);
  self.program.add_slice(like, work.in, work.out, work.parts, barrier);
  self.blocks.push_back(self.blocks[like]);
  self.kernels.push_back(self.kernels[like]);
}

// Per step of the loop, by how much its range and its operands shift; the last operand is the output.
using Shifts = std::vector<std::pair<std::int64_t, std::vector<std::int64_t>>>;

void add_loop(BoundProgram& self, std::size_t first, std::int64_t begin, std::int64_t count, const Shifts& shifts) {
  if (shifts.empty() || first + shifts.size() > self.program.steps()) throw py::value_error("no such steps");
  if (std::any_of(self.kernels.begin() + first, self.kernels.begin() + first + shifts.size(), works_together)) {
    throw py::value_error("steps that work together in a loop");
  }
  std::vector<Shift> made;
  for (const auto& [range, operands] : shifts) {
    if (operands.empty() || operands.size() > kMaxInputs + 1) throw py::value_error("a shift for each operand");
    Shift& shift = made.emplace_back(Shift{range});
    std::copy(operands.begin(), operands.end() - 1, shift.in);
    shift.out = operands.back();
  }
  self.program.add_loop(first, begin, count, made);
}

TensorInfo info_from(const std::string& name, const std::string& type, const std::vector<std::int64_t>& shape) {
  const auto view = TensorView::dense(element_type(type), shape);
  if (!view) throw py::value_error("no tensor can have the shape of '" + name + "'");
  return {name, *view};
}

// The addresses of arrays that are what the program expects.
std::vector<void*> addresses(const std::vector<py::object>& arrays, const std::vector<TensorInfo>& expected,
                             bool writeable) {
  if (arrays.size() != expected.size()) throw py::value_error("one array per input and output");
  std::vector<void*> result;
  for (const TensorInfo& tensor : expected) {
    const TensorView given = view_of(arrays[result.size()], writeable);
    if (!given.like(tensor.view) || !given.contiguous()) {
      throw py::value_error("the array for '" + tensor.name + "' differs in type, shape or layout");
    }
    result.push_back(given.data);
  }
  return result;
}

// Nanoseconds per step, and the step (from 1; 0 for none) and value of a fault.
py::tuple run_profiled(const BoundProgram& self, const std::vector<py::object>& inputs,
                       const std::vector<py::object>& outputs) {
  const auto in = addresses(inputs, self.program.inputs(), false);
  const auto out = addresses(outputs, self.program.outputs(), true);
  std::vector<std::int64_t> times(self.program.steps());
  Fault fault;
  {
    const py::gil_scoped_release release;
    fault = self.program.run_profiled(in.data(), out.data(), times.data());
  }
  return py::make_tuple(times, fault.step, fault.value);
}

// One call of a kernel. `args` points into `block`, and at memory of `inputs` and `output`.
struct KernelCall {
  KernelFn fn = nullptr;
  KernelArgs args{};
  Range range{};
  ParamBlock block;
  std::vector<py::object> inputs;
  py::object output;

  void run() const {
    const Fault fault = run_once(fn, args, range);
    if (fault.step != 0) throw py::index_error(std::to_string(fault.value) + " is out of range");
  }
};

KernelCall make_call(const std::string& isa, const std::string& kernel, const py::dict& params,
                     std::vector<py::object> inputs, py::object output, std::int64_t begin, std::int64_t end) {
  const int index = require_kernel(kernel);
  KernelCall call;
  call.block = make_params(index, params);
  if (inputs.size() > kMaxInputs) throw py::value_error("too many inputs");
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].is_none()) call.args.in[i] = view_of(inputs[i]).data;
  }
  call.args.out = view_of(output, true).data;
  call.args.params = call.block.data.get();
  call.fn = require_table(isa).kernels[index];
  call.range = {begin, end};
  call.inputs = std::move(inputs);
  call.output = std::move(output);
  return call;
}

void run_kernel(const std::string& isa, const std::string& kernel, const py::dict& params,
                std::vector<py::object> inputs, py::object output, std::int64_t begin, std::int64_t end) {
  make_call(isa, kernel, params, std::move(inputs), std::move(output), begin, end).run();
}

// Of weights [3][3][channels][n] with any strides, into [slices][taps][panels][channels][panel].
KernelCall make_winograd(std::int64_t rows, std::int64_t cols, py::object weights, py::object packed) {
  const TensorView in = view_of(weights), out = view_of(packed, true);
  const bool tiles = (cols == 2 || cols == 4) && (rows == 2 || rows == cols);
  const bool given = in.type == k_type_float32 && in.rank == 4 && in.shape[0] == 3 && in.shape[1] == 3;
  const bool taken = out.type == in.type && out.rank == 5 && out.contiguous() && out.shape[3] == in.shape[2] &&
                     out.shape[1] == (rows + 2) * (cols + 2);
  const std::int64_t panel = out.shape[4], slice = out.shape[2] * panel;
  if (!tiles || !given || !taken || out.shape[0] * slice < in.shape[3]) throw py::value_error("no such weights");
  KernelCall call;
  call.block.size = sizeof(WinogradWeights);
  call.block.data = std::make_unique<std::byte[]>(call.block.size);
  const auto& s = in.strides;
  new (call.block.data.get())
      WinogradWeights{rows, cols, in.shape[2], in.shape[3], s[0], s[1], s[2], s[3], slice, panel};
  call.fn = &pack_winograd;
  call.args.in[0] = in.data;
  call.args.out = out.data;
  call.args.params = call.block.data.get();
  call.range = {0, out.shape[0] * out.shape[2]};
  call.inputs = {std::move(weights)};
  call.output = std::move(packed);
  return call;
}

// The CRC-32 of the bytes of a range, which may be a file's that nobody has read yet.
void check(const KernelArgs& args, Range range) noexcept {
  static const Crc32Fn crc = find_crc32(*select_isa("").isa->table);
  fetch(args.in[0], static_cast<std::size_t>(range.end));
  *static_cast<std::uint32_t*>(args.out) = crc(args.in[0], range.end, 0);
}

void let_go(const KernelArgs& args, Range range) noexcept { forget(args.out, static_cast<std::size_t>(range.end)); }

// Kernels without a wait, which find no fault. What they work on lives until a wait for them.
class PyBackground {
 public:
  ~PyBackground() { wait(); }

  void run_kernel(const std::string& isa, const std::string& kernel, const py::dict& params,
                  std::vector<py::object> inputs, py::object output, std::int64_t begin, std::int64_t end) {
    start(make_call(isa, kernel, params, std::move(inputs), std::move(output), begin, end));
  }

  void start(KernelCall call) {
    calls_.push_back(std::move(call));
    background_.run(calls_.back().fn, calls_.back().args, calls_.back().range);
  }

  // `out` becomes the CRC-32 of bytes, of a file for instance.
  void crc32(py::object data, py::object out) {
    const TensorView place = view_of(out, true);
    const bool fits = place.type == k_type_uint32 && place.rank == 1 && place.shape[0] == 1;
    if (!fits) throw py::value_error("no place for a CRC-32");
    KernelCall call;
    Py_buffer bytes;
    if (PyObject_GetBuffer(data.ptr(), &bytes, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    call.fn = &check;
    call.args.in[0] = bytes.buf;
    call.args.out = place.data;
    call.range = {0, bytes.len};
    PyBuffer_Release(&bytes);
    call.inputs = {std::move(data)};
    call.output = std::move(out);
    start(std::move(call));
  }

  void forget(py::object array) {
    const TensorView view = view_of(array);
    if (!view.contiguous()) return;
    KernelCall call;
    call.fn = &let_go;
    call.args.out = view.data;
    call.range = {0, view.nbytes().value_or(0)};
    call.output = std::move(array);
    start(std::move(call));
  }

  void wait() {
    {
      const py::gil_scoped_release released;
      background_.wait();
    }
    calls_.clear();
    left_ = 0;
  }

  std::size_t wait_for(std::size_t count) {
    {
      const py::gil_scoped_release released;
      count = background_.wait(count);
    }
    for (; left_ < count; ++left_) calls_[left_] = {};
    return count;
  }

 private:
  std::vector<KernelCall> calls_;  // their blocks stay where they are when it grows
  std::size_t left_ = 0;           // calls that need nothing any more
  Background background_;
};

void winograd_weights(std::int64_t rows, std::int64_t cols, py::object weights, py::object packed,
                      PyBackground* background) {
  KernelCall call = make_winograd(rows, cols, std::move(weights), std::move(packed));
  background != nullptr ? background->start(std::move(call)) : call.run();
}

}  // namespace

void bind_program(py::module_& module) {
  py::class_<Arenas, std::shared_ptr<Arenas>>(module, "Arenas", "Memory for intermediate values that programs share.")
      .def(py::init<>());
  module.def(
      "place",
      [](const std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t, int>>& given, int threads) {
        std::vector<Piece> pieces;
        for (const auto& [bytes, first, last, part] : given) pieces.push_back({bytes, first, last, part});
        const std::size_t total = place(pieces, threads);
        std::vector<std::int64_t> offsets;
        for (const Piece& piece : pieces) offsets.push_back(piece.offset);
        return std::pair(offsets, total);
      },
      py::arg("pieces"), py::arg("threads"),
      "Offsets of pieces (bytes, first step, last step, thread or -1) in an arena, and the arena's bytes.");
  py::class_<BoundProgram>(module, "Program", "A tape of kernels. Built by plan/; called through `handle`.")
      .def(py::init<int, std::shared_ptr<Arenas>>(), py::arg("threads"), py::arg("arenas") = nullptr)
      .def(
          "add_input",
          [](BoundProgram& self, const std::string& name, const std::string& type,
             const std::vector<std::int64_t>& shape) { self.program.add_input(info_from(name, type, shape)); },
          py::arg("name"), py::arg("type"), py::arg("shape"))
      .def(
          "add_output",
          [](BoundProgram& self, const std::string& name, const std::string& type,
             const std::vector<std::int64_t>& shape) { self.program.add_output(info_from(name, type, shape)); },
          py::arg("name"), py::arg("type"), py::arg("shape"))
      .def("add_step", &add_step, py::arg("isa"), py::arg("kernel"), py::arg("params"), py::arg("inputs"),
           py::arg("output"), py::arg("ranges"), py::arg("barrier"))
      .def("add_slice", &add_slice, py::arg("like"), py::arg("inputs"), py::arg("output"), py::arg("ranges"),
           py::arg("barrier"), "The kernel and the parameters of an earlier step, on other operands and ranges.")
      .def("add_loop", &add_loop, py::arg("first"), py::arg("begin"), py::arg("count"), py::arg("shifts"),
           "Let steps run `count` times by turns, at time i (from `begin` on) i shifts further.")
      .def(
          "alternate",
          [](BoundProgram& self, std::size_t step, std::int64_t units) {
            if (step >= self.program.steps() || units < 1) throw py::value_error("no such step, or no units");
            self.program.alternate(step, units);
          },
          py::arg("step"), py::arg("units"), "Let every second run do a step from the end, so many units at a time.")
      .def(
          "finish", [](BoundProgram& self, std::size_t arena_bytes) { self.program.finish(arena_bytes); },
          py::arg("arena_bytes"))
      .def("run_profiled", &run_profiled, py::arg("inputs"), py::arg("outputs"))
      .def_property_readonly(
          "handle", [](const BoundProgram& self) { return reinterpret_cast<std::uintptr_t>(&self.program); },
          "The address that the C interface calls fp_model.")
      .def_property_readonly("threads", [](const BoundProgram& self) { return self.program.threads(); })
      .def_property_readonly("arena_bytes", [](const BoundProgram& self) { return self.program.arena_bytes(); });
  py::class_<PyBackground>(module, "Background", "Kernels that run on a thread of their own until `wait` returns.")
      .def(py::init<>())
      .def("run_kernel", &PyBackground::run_kernel, py::arg("isa"), py::arg("name"), py::arg("params"),
           py::arg("inputs"), py::arg("output"), py::arg("begin"), py::arg("end"))
      .def("crc32", &PyBackground::crc32, py::arg("data"), py::arg("out"))
      .def("forget", &PyBackground::forget, py::arg("array"), "As the module's function.")
      .def("wait", &PyBackground::wait)
      .def("wait_for", &PyBackground::wait_for, py::arg("count"),
           "Returns when so many have run: how many have run since the last `wait`.");
  module.def("run_kernel", &run_kernel, py::arg("isa"), py::arg("name"), py::arg("params"), py::arg("inputs"),
             py::arg("output"), py::arg("begin"), py::arg("end"),
             "Call one kernel of one ISA directly. Addresses are those of the arrays' first elements.");
  module.def("winograd_weights", &winograd_weights, py::arg("rows"), py::arg("cols"), py::arg("weights"),
             py::arg("packed"), py::arg("background") = nullptr,
             "Weights [3, 3, C, N] as those of Winograd's products, [slices, taps, panels, C, panel].");
  module.def(
      "describe_params", [](const std::string& kernel) { return describe_params(require_kernel(kernel)); },
      py::arg("kernel"));
}

}  // namespace forwardpass::bind
